#ifndef TOKEN_BROKER_TESTS_TESTING_SENTINEL_SET_H_
#define TOKEN_BROKER_TESTS_TESTING_SENTINEL_SET_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/testing/redis_server.h"

namespace tokenbroker {

// A real primary with replicas, watched by real Sentinels. Make it on the test's main thread.
//
//   absl::StatusOr<std::unique_ptr<SentinelSet>> set = SentinelSet::Start({});
//   ASSERT_TRUE(set.ok()) << set.status();
//   RedisServer* old = (*set)->primary();
//   old->Kill();
//   ASSERT_TRUE((*set)->WaitForOtherPrimary(*old).ok());
class SentinelSet {
 public:
  struct Options {
    int replicas = 2;
    int sentinels = 3;  // more than half of them have to agree on a failover
    absl::Duration down_after = absl::Seconds(1);
    absl::Duration failover_timeout = absl::Seconds(5);
    std::string sentinel_password;            // requirepass of the Sentinels; "": none
    std::vector<std::string> sentinel_users;  // ACL users of the Sentinels, as RedisServer::users
    RedisServer::Options server;              // of the primary and every replica
  };

  // Returns once the replicas are in step, and every Sentinel knows all of them and the others.
  static absl::StatusOr<std::unique_ptr<SentinelSet>> Start(Options options);

  static constexpr char kPrimaryName[] = "grants";
  std::vector<uint16_t> sentinel_ports() const;
  RedisServer& sentinel(int index) { return *sentinels_[index]; }
  // All of them, running or not; the first one began as the primary.
  RedisServer& server(int index) { return *servers_[index]; }
  int servers() const { return static_cast<int>(servers_.size()); }

  // Whom most of the running Sentinels take for the primary; nullptr: they do not agree.
  RedisServer* primary();
  // The running servers that are replicas by their own word.
  std::vector<RedisServer*> replicas();

  // Asks for a failover to a replica and waits until the Sentinels agree and the new primary knows
  // its role.
  absl::Status FailOver(absl::Duration timeout = absl::Seconds(30));
  // Waits until another server is the primary, by the Sentinels' word and its own.
  absl::Status WaitForOtherPrimary(const RedisServer& old,
                                   absl::Duration timeout = absl::Seconds(30));

 private:
  SentinelSet() = default;
  RedisServer* ServerAt(uint16_t port);

  std::vector<std::unique_ptr<RedisServer>> servers_;
  std::vector<std::unique_ptr<RedisServer>> sentinels_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_TESTING_SENTINEL_SET_H_
