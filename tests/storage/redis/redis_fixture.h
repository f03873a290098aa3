#ifndef TOKEN_BROKER_TESTS_STORAGE_REDIS_REDIS_FIXTURE_H_
#define TOKEN_BROKER_TESTS_STORAGE_REDIS_REDIS_FIXTURE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "storage/redis/redis_token_store.h"
#include "tests/storage/token_store_contract.h"
#include "tests/testing/redis_server.h"

namespace tokenbroker {

// The port of the redis-server that all tests of this program share: the one that TB_REDIS_PORT
// names, or one that is started at the first call. Call it on the main thread.
uint16_t SharedRedisPort();

// A key prefix that no other test on any server uses.
std::string UniquePrefix();

// Options for a store at `port` that runs the scripts without the guard that TB_REDIS_REMOVE_GUARD
// names, if it is set. The command timeout is long enough for a busy machine.
RedisTokenStoreOptions TestOptions(uint16_t port);

// A prefix of its own on the shared server.
class RedisFixture : public StoreFixture {
 public:
  absl::StatusOr<std::unique_ptr<TokenStore>> Open(const ProtocolLimits& limits) override;
  void AdvanceTime(absl::Duration by) override;
  bool EventsCrossStores() const override { return true; }
  int damages() const override;
  void Damage(const GrantKey& key, int way) override;
  bool DamageSparesLimits(int way) const override;
  void AddStrayKey(const std::string& encoded) override;

  // What Open uses.
  RedisTokenStoreOptions Options(const ProtocolLimits& limits) const;
  const std::string& prefix() const { return prefix_; }

 protected:
  std::function<absl::Duration()> ClockOffset() const;
  // To the server that has `key`.
  virtual void Command(const std::string& key, const std::vector<std::string>& words);

 private:
  const std::string prefix_ = UniquePrefix();
  // Shared with the stores' options.
  const std::shared_ptr<std::atomic<int64_t>> offset_ms_ =
      std::make_shared<std::atomic<int64_t>>(0);
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_STORAGE_REDIS_REDIS_FIXTURE_H_
