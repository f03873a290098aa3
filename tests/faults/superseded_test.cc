#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/faults/fault_world.h"

// A grant is registered anew or revoked while another replica is at work with the old one, or
// cannot hear of it.
namespace tokenbroker::faults {
namespace {

using zoho_simulator::RequestFilter;

// Zoho's answers are held for a while.
Scale PatientAboutReplies() {
  Scale scale;
  scale.response_timeout = absl::Seconds(20);
  scale.sent_lease = absl::Seconds(21);
  return scale;
}

v1::RevokeGrantResponse Revoke(Broker& broker, const std::string& org_id) {
  v1::RevokeGrantRequest request;
  request.set_org_id(org_id);
  request.set_oauth_client(World::kWebClient);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  v1::RevokeGrantResponse response;
  const grpc::Status status = broker.stub().RevokeGrant(&context, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response;
}

int64_t Revocations(World& world) {
  RequestFilter filter;
  filter.path = "/oauth/v2/token/revoke";
  return world.log().Count(filter);
}

// Promise: G3, no older result overwrites a newer consent. Fault: another replica registers a new
// consent while the refresh of the old one is at Zoho. Asserted: 1 request of the old grant, whose
// result is stored nowhere; callers of both replicas get the new grant's token; the next refresh is
// the new grant's.
TEST(Superseded, RegisteredDuringARefresh) {
  World world(RedisWorld(PatientAboutReplies()));
  Broker& a = world.StartBroker();
  Broker& b = world.StartBroker();
  const uint64_t old_grant = world.RegisterImported(b, "acme", "us").identity.number;
  LetTokensLive(world);

  HoldReplies(world);
  std::future<Broker::Token> of_a = Ask(a, "acme");
  ASSERT_TRUE(WaitUntil([&] { return world.zoho().hung() == 1; }));
  const auto registered =
      b.RegisterGrant(world.CodeRegistration("acme", "us", world.ConsentCode("us", "org-us-1")));
  ASSERT_TRUE(registered.status.ok()) << registered.status.error_message();
  const int64_t generation = Number(world.redis(), "acme", "g");
  EXPECT_EQ(world.zoho().ReleaseHung(), 1);

  const Broker::Token late = of_a.get();
  ASSERT_TRUE(late.status.ok()) << late.status.error_message();
  EXPECT_EQ(late.token.version(), generation);
  EXPECT_EQ(Number(world.redis(), "acme", "g"), generation);
  EXPECT_EQ(b.GetAccessToken("acme").token.access_token(), late.token.access_token());
  const Broker::Token next = a.GetAccessToken("acme", Rejecting(generation));
  ASSERT_TRUE(next.status.ok()) << next.status.error_message();

  const auto refreshes = RefreshLog(world);
  ASSERT_EQ(refreshes.size(), 2u);
  EXPECT_EQ(refreshes[0].grant.number, old_grant);
  EXPECT_EQ(refreshes[1].grant.org_id, "org-us-1");
  EXPECT_NE(refreshes[1].grant.number, old_grant);
}

// Promise: G3, a revocation stands; and what Zoho hands out for a revoked grant is not left lying
// about. Fault: revoked by another replica while the refresh is at a Zoho that rotates, so that the
// revoked refresh token is not the one that lives. Asserted: 2 revocations at Zoho, the second one
// of what arrived; the grant and all its access tokens are dead there; nobody gets a token.
TEST(Superseded, RevokedDuringARefresh) {
  World::Options options = RedisWorld(PatientAboutReplies());
  options.behaviour.rotate_refresh_tokens = true;
  World world(options);
  Broker& a = world.StartBroker();
  Broker& b = world.StartBroker();
  const uint64_t grant = world.RegisterImported(b, "acme", "us").identity.number;
  LetTokensLive(world);

  HoldReplies(world);
  std::future<Broker::Token> of_a = Ask(a, "acme");
  ASSERT_TRUE(WaitUntil([&] { return world.zoho().hung() == 1; }));
  Revoke(b, "acme");
  const int64_t generation = Number(world.redis(), "acme", "g");
  ASSERT_EQ(Revocations(world), 1);
  EXPECT_EQ(world.zoho().ReleaseHung(), 1);

  EXPECT_EQ(Explain(of_a.get().status).reason, "CONSENT_REQUIRED");
  EXPECT_TRUE(WaitUntil([&] { return Revocations(world) == 2; }));
  EXPECT_TRUE(WaitUntil([&] { return !IsAlive(world, grant); }));
  const auto report = world.zoho().accounts().FindGrant(grant, world.zoho().now());
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->active_access_tokens, 0);
  for (Broker* broker : {&a, &b}) {
    EXPECT_EQ(Explain(broker->GetAccessToken("acme").status).reason, "CONSENT_REQUIRED");
  }
  EXPECT_EQ(Number(world.redis(), "acme", "g"), generation);
  EXPECT_EQ(world.Refreshes(), 1);
}

// Promise: G3, a revocation that was acknowledged stands. Fault: the replica that has spent a code
// cannot reach Redis, tells its caller so and goes on trying; meanwhile the grant is revoked by
// another one. Asserted: still revoked when Redis is back, 0 tokens handed out; 2 revocations at
// Zoho, the second one of what the code brought.
TEST(Superseded, RevokedWhileARegistrationCannotBeStored) {
  World world(RedisWorld(PatientAboutReplies()));
  LossyProxy network_of_a(world.redis().port());
  Broker& a = world.StartBroker(RedisAt(network_of_a.port()));
  Broker& b = world.StartBroker();
  world.RegisterImported(b, "acme", "us");
  const v1::RegisterGrantRequest request =
      world.CodeRegistration("acme", "us", world.ConsentCode("us", "org-us-1"));

  HoldReplies(world);
  auto of_a = std::async(std::launch::async, [&] { return a.RegisterGrant(request); });
  ASSERT_TRUE(WaitUntil([&] { return world.zoho().hung() == 1; }));
  network_of_a.SetDown(true);
  EXPECT_EQ(world.zoho().ReleaseHung(), 1);
  EXPECT_EQ(Explain(of_a.get().status).reason, "STORE_UNAVAILABLE");
  ASSERT_EQ(Metric(a, "tokenbroker_commits_pending"), 1);
  Revoke(b, "acme");
  const int64_t generation = Number(world.redis(), "acme", "g");
  ASSERT_EQ(Revocations(world), 1);
  network_of_a.SetDown(false);

  EXPECT_TRUE(WaitUntil([&] { return Metric(a, "tokenbroker_commits_pending") == 0; }));
  EXPECT_TRUE(WaitUntil([&] { return Revocations(world) == 2; }));
  for (Broker* broker : {&a, &b}) {
    EXPECT_EQ(Explain(broker->GetAccessToken("acme").status).reason, "CONSENT_REQUIRED");
  }
  EXPECT_EQ(Number(world.redis(), "acme", "g"), generation);
}

class RevokedUnheard : public ::testing::Test {
 protected:
  static World::Options Options() {
    World::Options options = RedisWorld(kScale);
    options.behaviour.access_token_life = absl::Hours(1);
    return options;
  }

  void SetUp() override {
    world_.RegisterImported(a_, "acme", "us");
    const Broker::Token token = b_.GetAccessToken("acme");
    ASSERT_TRUE(token.status.ok()) << token.status.error_message();
    ASSERT_EQ(b_.GetAccessToken("acme").token.source(), v1::TOKEN_SOURCE_CACHE);
  }

  // Asks `b_` until it says no. 0 calls may get the token that begin later than `limit` after the
  // revocation was answered.
  void ExpectNoTokenAfter(absl::Duration limit) {
    Revoke(a_, "acme");
    const absl::Time revoked = absl::Now();
    int late = 0;
    EXPECT_TRUE(WaitUntil([&] {
      const bool is_late = absl::Now() > revoked + limit;
      const grpc::Status status = b_.GetAccessToken("acme").status;
      late += is_late && status.ok();
      return Explain(status).reason == "CONSENT_REQUIRED";
    }));
    EXPECT_EQ(late, 0);
    EXPECT_EQ(Explain(b_.GetAccessToken("acme").status).reason, "CONSENT_REQUIRED");
  }

  static const Scale kScale;
  World world_{Options()};
  LossyProxy network_of_b_{world_.redis().port()};
  Broker& a_ = world_.StartBroker();
  Broker& b_ = world_.StartBroker(RedisAt(network_of_b_.port()));
};
const Scale RevokedUnheard::kScale;

// Promise: a revoked grant's token is given out for no more than unheard_recheck (5 s, here 1 s).
// Fault: the other replica's subscription is cut and cannot be made again; all else works.
// Asserted: 0 calls that begin later get the token.
TEST_F(RevokedUnheard, WithTheSubscriptionCut) {
  network_of_b_.Refuse("SUBSCRIBE");
  network_of_b_.Cut();
  ASSERT_TRUE(WaitUntil([&] { return Metric(b_, "tokenbroker_store_subscribed") == 0; }));
  ASSERT_TRUE(b_.GetAccessToken("acme").status.ok());
  ExpectNoTokenAfter(kScale.unheard_recheck);
}

// Promise: the same within 5 s. Fault: the subscription's network goes silent without a word, which
// only an unanswered ping tells (every second, and a second for the answer). Asserted: as above,
// after these two and the recheck.
TEST_F(RevokedUnheard, WithASilentSubscription) {
  network_of_b_.HoldAt("PING");
  network_of_b_.Refuse("SUBSCRIBE");
  ASSERT_TRUE(WaitUntil([&] { return network_of_b_.held() == 1; }));
  ASSERT_TRUE(b_.GetAccessToken("acme").status.ok());
  ExpectNoTokenAfter(absl::Seconds(2) + kScale.unheard_recheck);
}

}  // namespace
}  // namespace tokenbroker::faults
