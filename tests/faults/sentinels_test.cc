#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/faults/fault_world.h"
#include "tests/testing/sentinel_set.h"

// As in replication_test.cc, with three real Sentinels that find out, promote and tell the brokers.
namespace tokenbroker::faults {
namespace {

class Sentinels : public ::testing::Test {
 protected:
  void Start(const Scale& scale, const std::string& ack_timeout) {
    SentinelSet::Options redis;
    redis.server.config = {"appendonly yes"};
    auto set = SentinelSet::Start(redis);
    ASSERT_TRUE(set.ok()) << set.status();
    redis_ = *std::move(set);
    World::Options options = RedisWorld(scale);
    absl::StrAppend(&options.redis_config,
                    "    replica_acks: 1\n    replica_ack_timeout: ", ack_timeout, "\n");
    world_ = std::make_unique<World>(std::move(options));
    std::string place = absl::StrCat(
        "    sentinel:\n      primary_name: ", SentinelSet::kPrimaryName, "\n      addresses:\n");
    for (const uint16_t port : redis_->sentinel_ports()) {
      absl::StrAppend(&place, "        - 127.0.0.1:", port, "\n");
    }
    const std::string address =
        absl::StrCat("    address: 127.0.0.1:", world_->redis().port(), "\n");
    ASSERT_TRUE(absl::StrContains(world_->config(), address));
    config_ = absl::StrReplaceAll(world_->config(), {{address, place}});
  }

  Broker& StartBroker() { return world_->StartBrokerWith(config_); }

  std::unique_ptr<SentinelSet> redis_;
  std::unique_ptr<World> world_;
  std::string config_;
};

// Promise: G2 and G4 over a failover with acknowledged writes. Fault: the primary dies when the
// send was acknowledged and the request is at Zoho, whose answer comes before there is a primary
// again; the Sentinels promote a replica, and another broker asks. Asserted: 1 request in all, and
// its result waits and is stored at the new primary.
TEST_F(Sentinels, PrimaryKilledAfterTheAcknowledgement) {
  Scale scale;
  scale.response_timeout = absl::Seconds(40);  // longer than the Sentinels take
  scale.sent_lease = absl::Seconds(41);
  Start(scale, "2s");
  Broker& a = StartBroker();
  Broker& b = StartBroker();
  world_->RegisterImported(b, "acme", "us");
  LetTokensLive(*world_);

  HoldReplies(*world_);
  std::future<Broker::Token> of_a = Ask(a, "acme");
  ASSERT_TRUE(WaitUntil([&] { return world_->zoho().hung() == 1; }));
  RedisServer& old = *redis_->primary();
  const int64_t generation = Number(old, "acme", "g");
  ASSERT_EQ(Field(old, "acme", "ph"), kPhaseSent);
  old.Kill();
  EXPECT_EQ(world_->zoho().ReleaseHung(), 1);
  EXPECT_TRUE(WaitUntil([&] { return Metric(a, "tokenbroker_commits_pending") == 1; }));
  // Its caller need not wait for a store that is away.
  EXPECT_EQ(Explain(of_a.get().status).reason, "STORE_UNAVAILABLE");
  std::future<Broker::Token> of_b = Ask(b, "acme");
  ASSERT_TRUE(redis_->WaitForOtherPrimary(old).ok());
  RedisServer& promoted = *redis_->primary();
  EXPECT_TRUE(WaitUntil([&] { return Number(promoted, "acme", "g") == generation + 1; }));
  EXPECT_TRUE(WaitUntil([&] { return Metric(a, "tokenbroker_commits_pending") == 0; }));
  of_b.get();  // it may have met the time without a primary
  Broker::Token stored;
  EXPECT_TRUE(WaitUntil([&] { return (stored = b.GetAccessToken("acme")).status.ok(); }));
  EXPECT_TRUE(IsGood(*world_, stored.token.access_token()));
  EXPECT_EQ(world_->Refreshes(), 1);
}

// Promise: G2, nothing is sent that the next primary may not know of. Fault: the primary dies while
// the acknowledgement of the send is awaited; the Sentinels promote a replica. Asserted: 0 requests
// until then and while the new primary is in quarantine, 1 afterwards.
TEST_F(Sentinels, PrimaryKilledBeforeTheAcknowledgement) {
  Start(Scale(), "10s");
  Broker& broker = StartBroker();
  world_->RegisterImported(broker, "acme", "us");
  LetTokensLive(*world_);

  RedisServer& old = *redis_->primary();
  for (RedisServer* replica : redis_->replicas()) replica->Freeze();
  std::future<Broker::Token> lost = Ask(broker, "acme");
  ASSERT_TRUE(WaitUntil([&] { return Field(old, "acme", "ph") == kPhaseSent; }));
  old.Kill();
  EXPECT_FALSE(lost.get().status.ok());
  EXPECT_EQ(world_->Refreshes(), 0);

  for (int i = 0; i < redis_->servers(); ++i) {
    if (&redis_->server(i) != &old) redis_->server(i).Thaw();
  }
  ASSERT_TRUE(redis_->WaitForOtherPrimary(old).ok());
  EXPECT_EQ(world_->Refreshes(), 0);
  EXPECT_TRUE(
      WaitUntil([&] { return broker.GetAccessToken("acme").status.ok(); }, absl::Minutes(1)));
  EXPECT_EQ(world_->Refreshes(), 1);
}

}  // namespace
}  // namespace tokenbroker::faults
