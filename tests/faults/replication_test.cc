#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/faults/fault_world.h"

// Redis with replicas that must acknowledge (replica_acks: 1) and that one of them replaces. The
// brokers' address of the primary is moved by hand, as a service name or a Sentinel would.
namespace tokenbroker::faults {
namespace {

class Replication : public ::testing::Test {
 protected:
  void Start(World::Options options) {
    world_ = std::make_unique<World>(std::move(options));
    for (auto* replica : {&first_, &second_}) {
      auto started = RedisServer::Start({.replica_of = world_->redis().port()});
      ASSERT_TRUE(started.ok()) << started.status();
      *replica = *std::move(started);
    }
    // Both count for the primary: a replica believes so a little earlier.
    const auto both = [&] {
      return world_->redis().Command({"WAIT", "2", "100"}).value_or("") == "2";
    };
    ASSERT_TRUE(WaitUntil(both));
    ASSERT_TRUE(InStep(world_->redis(), {first_.get(), second_.get()}));
    network_ = std::make_unique<LossyProxy>(world_->redis().port());
  }

  Broker& StartBroker(const std::string& ack_timeout = "200ms") {
    std::vector<std::string> flags = RedisAt(network_->port());
    flags.insert(flags.end(), {"--set", "store.redis.replica_acks=1", "--set",
                               absl::StrCat("store.redis.replica_ack_timeout=", ack_timeout)});
    return world_->StartBroker(flags);
  }

  // The first replica becomes the primary of the second one, and the brokers' primary.
  void Promote() {
    ASSERT_TRUE(first_->Command({"REPLICAOF", "NO", "ONE"}).ok());
    ASSERT_TRUE(second_->Command({"REPLICAOF", "127.0.0.1", absl::StrCat(first_->port())}).ok());
    network_->SetServer(first_->port());
    network_->Cut();
  }

  std::unique_ptr<World> world_;
  std::unique_ptr<RedisServer> first_;
  std::unique_ptr<RedisServer> second_;
  std::unique_ptr<LossyProxy> network_;
};

// Promise: G2 and G6, nothing is sent that too few copies know of; living tokens are still served.
// Fault: both replicas stand still. Asserted: 10 calls get the old token, a caller that cannot use
// it learns why, 0 requests; 1 when the replicas go on.
TEST_F(Replication, NothingIsSentWithoutAcknowledgement) {
  World::Options options = RedisWorld();
  options.behaviour.access_token_life = absl::Seconds(110);  // due, and good
  Start(std::move(options));
  Broker& broker = StartBroker();
  world_->RegisterImported(broker, "acme", "us");
  world_->log().Clear();

  first_->Freeze();
  second_->Freeze();
  for (int i = 0; i < 10; ++i) {
    const Broker::Token answer = broker.GetAccessToken("acme");
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.token.source(), v1::TOKEN_SOURCE_STALE);
    EXPECT_TRUE(IsGood(*world_, answer.token.access_token()));
  }
  const auto picky = [](v1::GetAccessTokenRequest& request) {
    request.mutable_min_lifetime()->set_seconds(3000);
  };
  EXPECT_EQ(Explain(broker.GetAccessToken("acme", picky).status).reason, "STORE_NOT_ACKNOWLEDGED");
  EXPECT_EQ(world_->Refreshes(), 0);

  first_->Thaw();
  second_->Thaw();
  LetTokensLive(*world_);
  EXPECT_TRUE(WaitUntil(
      [&] { return broker.GetAccessToken("acme").token.source() == v1::TOKEN_SOURCE_REFRESHED; }));
  EXPECT_EQ(world_->Refreshes(), 1);
}

// Promise: G2 and G4 over a failover with acknowledged writes. Fault: the primary dies when the
// send was acknowledged and the request is at Zoho; a replica is promoted, and another broker asks.
// Asserted: 1 request in all, and its result is stored at the new primary.
TEST_F(Replication, PrimaryKilledAfterTheAcknowledgement) {
  Scale scale;
  scale.response_timeout = absl::Seconds(8);
  scale.sent_lease = absl::Seconds(9);
  Start(RedisWorld(scale));
  // On a busy machine an acknowledgement takes its time, and is not what this is about.
  Broker& a = StartBroker("2s");
  Broker& b = StartBroker("2s");
  world_->RegisterImported(b, "acme", "us");
  LetTokensLive(*world_);

  HoldReplies(*world_);
  std::future<Broker::Token> of_a = Ask(a, "acme");
  ASSERT_TRUE(WaitUntil([&] { return world_->zoho().hung() == 1; }));
  const int64_t generation = Number(world_->redis(), "acme", "g");
  // One replica has acknowledged; a Sentinel would promote the one that has more.
  ASSERT_TRUE(WaitUntil([&] { return Field(*first_, "acme", "ph") == kPhaseSent; }));
  world_->redis().Kill();
  Promote();
  std::future<Broker::Token> of_b = Ask(b, "acme");
  // Time for b to send, if it would.
  LetPass(absl::Seconds(1));
  EXPECT_EQ(world_->Refreshes(), 1);
  EXPECT_EQ(world_->zoho().ReleaseHung(), 1);

  const Broker::Token first = of_a.get();
  ASSERT_TRUE(first.status.ok()) << first.status.error_message();
  EXPECT_TRUE(WaitUntil([&] { return Number(*first_, "acme", "g") == generation + 1; }));
  Broker::Token second = of_b.get();
  // It may have met the moment without a primary.
  if (!second.status.ok()) {
    EXPECT_TRUE(WaitUntil([&] { return (second = b.GetAccessToken("acme")).status.ok(); }));
  }
  EXPECT_EQ(second.token.access_token(), first.token.access_token());
  EXPECT_EQ(world_->Refreshes(), 1);
}

// Promise: G2, nothing is sent that the next primary may not know of. Fault: the primary dies while
// the acknowledgement of the send is awaited; a replica is promoted. Asserted: 0 requests until
// then, 1 afterwards.
TEST_F(Replication, PrimaryKilledBeforeTheAcknowledgement) {
  Start(RedisWorld());
  Broker& broker = StartBroker("10s");
  world_->RegisterImported(broker, "acme", "us");
  LetTokensLive(*world_);

  first_->Freeze();
  second_->Freeze();
  std::future<Broker::Token> lost = Ask(broker, "acme");
  ASSERT_TRUE(WaitUntil([&] { return Field(world_->redis(), "acme", "ph") == kPhaseSent; }));
  world_->redis().Kill();
  EXPECT_FALSE(lost.get().status.ok());
  EXPECT_EQ(world_->Refreshes(), 0);

  first_->Thaw();
  second_->Thaw();
  Promote();
  EXPECT_TRUE(
      WaitUntil([&] { return broker.GetAccessToken("acme").status.ok(); }, absl::Minutes(1)));
  EXPECT_EQ(world_->Refreshes(), 1);
}

}  // namespace
}  // namespace tokenbroker::faults
