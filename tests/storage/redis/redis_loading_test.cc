// Servers that are there and have no data to give: one that still loads them, and a primary that
// became the replica of a dead one.
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "gtest/gtest.h"
#include "storage/redis/redis_token_store.h"
#include "tests/storage/redis/grants.h"
#include "tests/storage/redis/redis_fixture.h"
#include "tests/testing/redis_server.h"

namespace tokenbroker {
namespace {

std::unique_ptr<RedisServer> StartServer(RedisServer::Options options = {}) {
  absl::StatusOr<std::unique_ptr<RedisServer>> server = RedisServer::Start(std::move(options));
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

bool SaysUnavailable(const absl::Status& status, std::string_view text) {
  return ErrorReason(status) == "STORE_UNAVAILABLE" &&
         absl::StrContains(status.message(), absl::string_view(text.data(), text.size()));
}

// With a quarantine the server is asked for its reign first, without one for what is wanted.
class RedisLoadingTest : public ::testing::TestWithParam<absl::Duration> {};

TEST_P(RedisLoadingTest, AServerThatStillLoadsSaysSoAndIsUsedAfterwards) {
  // A key every 20 ms: 40 s, unless it is told to hurry. It answers between any two keys.
  const std::unique_ptr<RedisServer> server =
      StartServer({.config = {"key-load-delay 20000", "loading-process-events-interval-bytes 1024",
                              "rdbcompression no"}});
  ASSERT_NE(server, nullptr);
  RedisTokenStoreOptions options = TestOptions(server->port());
  options.quarantine = GetParam();
  const std::unique_ptr<RedisTokenStore> store = OpenRedis(options);
  ASSERT_TRUE(store->Register(RegistrationOf(GrantOf("acme"))).ok());
  ASSERT_TRUE(server->Command({"DEBUG", "POPULATE", "2000", "filler", "2000"}).ok());
  ASSERT_TRUE(server->Command({"SAVE"}).ok());
  server->Kill();
  ASSERT_TRUE(server->Spawn().ok());

  // Refused until it listens.
  EXPECT_TRUE(WaitUntil([&] {
    return SaysUnavailable(store->Load(GrantOf("acme")).status(),
                           "still loading its data set (LOADING)");
  }));
  EXPECT_TRUE(SaysUnavailable(store->Register(RegistrationOf(GrantOf("other"))).status(),
                              "still loading its data set (LOADING)"));
  EXPECT_TRUE(SaysUnavailable(store->CheckWritable(), "still loading its data set (LOADING)"));
  ASSERT_TRUE(server->Command({"CONFIG", "SET", "key-load-delay", "0"}).ok());
  EXPECT_TRUE(WaitUntil([&] { return store->Load(GrantOf("acme")).ok(); }));
  EXPECT_EQ(GenerationOf(*store, GrantOf("acme")), 1);
  EXPECT_EQ(store->CheckWritable(), absl::OkStatus());
  EXPECT_EQ(CommitTo(*store, GrantOf("acme"), "commit-1", 1), 2);
}

INSTANTIATE_TEST_SUITE_P(Quarantines, RedisLoadingTest,
                         ::testing::Values(absl::ZeroDuration(), absl::Seconds(20)));

// A new connection asks for the server's role first, and refuses a replica as one. So MASTERDOWN
// only ever comes to connections that are older than the primary's fall, and to their first try.
TEST(RedisMasterDownTest, APrimaryThatFollowsADeadOneSaysSo) {
  const std::unique_ptr<RedisServer> server =
      StartServer({.config = {"replica-serve-stale-data no"}});
  const std::unique_ptr<RedisServer> dead = StartServer();
  ASSERT_TRUE(server != nullptr && dead != nullptr);
  RedisTokenStoreOptions options = TestOptions(server->port());
  options.tries = 1;
  const std::unique_ptr<RedisTokenStore> store = OpenRedis(options);
  ASSERT_TRUE(store->Register(RegistrationOf(GrantOf("acme"))).ok());
  dead->Kill();
  ASSERT_TRUE(server->Command({"REPLICAOF", "127.0.0.1", absl::StrCat(dead->port())}).ok());

  EXPECT_TRUE(SaysUnavailable(store->Load(GrantOf("acme")).status(),
                              "a replica that has lost its primary (MASTERDOWN)"));
  EXPECT_TRUE(SaysUnavailable(store->Load(GrantOf("acme")).status(),
                              "a read-only replica; the address must be the primary's (READONLY)"));
  ASSERT_TRUE(server->Command({"REPLICAOF", "NO", "ONE"}).ok());
  EXPECT_TRUE(WaitUntil([&] { return store->Load(GrantOf("acme")).ok(); }));
  EXPECT_EQ(GenerationOf(*store, GrantOf("acme")), 1);
}

}  // namespace
}  // namespace tokenbroker
