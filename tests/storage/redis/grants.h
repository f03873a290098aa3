#ifndef TOKEN_BROKER_TESTS_STORAGE_REDIS_GRANTS_H_
#define TOKEN_BROKER_TESTS_STORAGE_REDIS_GRANTS_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "gtest/gtest.h"
#include "storage/redis/redis_token_store.h"
#include "tests/storage/redis/redis_fixture.h"
#include "tests/testing/redis_server.h"

// Grants and stores as the tests of topologies use them.
namespace tokenbroker {

inline GrantKey GrantOf(std::string_view org) {
  return {std::string(org), Environment::kProduction, "people-app"};
}

inline RegisterRequest RegistrationOf(const GrantKey& key,
                                      std::string_view attempt = "register-1") {
  RegisterRequest request;
  request.key = key;
  request.attempt_id = std::string(attempt);
  request.info.dc = "eu";
  request.refresh_token = Secret("refresh-canary");
  return request;
}

inline MintedTokens TokensOf(std::string_view access) {
  return {.access_token = Secret(std::string(access)), .lifetime = absl::Hours(1)};
}

inline std::unique_ptr<RedisTokenStore> OpenRedis(RedisTokenStoreOptions options) {
  absl::StatusOr<std::unique_ptr<RedisTokenStore>> store =
      RedisTokenStore::Create(std::move(options));
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *std::move(store) : nullptr;
}

// Of the stored grant; -1 and a failed test if it cannot be read.
inline int64_t GenerationOf(TokenStore& store, const GrantKey& key) {
  const absl::StatusOr<GrantRecord> record = store.Load(key);
  EXPECT_TRUE(record.ok()) << record.status();
  return record.ok() ? record->generation : -1;
}

// Stores the next generation of a grant and returns it; -1 and a failed test if that fails.
inline int64_t CommitTo(TokenStore& store, const GrantKey& key, std::string_view attempt,
                        int64_t generation) {
  const absl::StatusOr<CommitResult> result =
      store.Commit({key, std::string(attempt), generation,
                    TokensOf("access-" + std::to_string(generation + 1))});
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? result->record.generation : -1;
}

// TestOptions for a store that finds its servers through these.
inline RedisTokenStoreOptions SentinelTestOptions(const std::vector<uint16_t>& ports,
                                                  std::string_view primary_name) {
  RedisTokenStoreOptions options = TestOptions(0);
  options.host = "";
  options.sentinel.emplace();
  options.sentinel->primary_name = std::string(primary_name);
  for (uint16_t port : ports) options.sentinel->endpoints.push_back({"127.0.0.1", port});
  return options;
}

inline RedisTokenStoreOptions ClusterTestOptions(const std::vector<uint16_t>& ports) {
  RedisTokenStoreOptions options = TestOptions(0);
  options.host = "";
  options.cluster.emplace();
  for (uint16_t port : ports) options.cluster->seeds.push_back({"127.0.0.1", port});
  return options;
}

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_STORAGE_REDIS_GRANTS_H_
