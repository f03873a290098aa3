#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/faults/fault_world.h"

// A replica that holds the lease stands still (SIGSTOP, a paused virtual machine) for twice the
// lease and goes on.
namespace tokenbroker::faults {
namespace {

// The answer may be late: it is the store that has to stop the late holder, not its own clock.
Scale PatientAboutReplies() {
  Scale scale;
  scale.response_timeout = absl::Seconds(8);
  scale.sent_lease = absl::Seconds(9);
  return scale;
}

// The flags of a broker whose command to Redis outlasts the freeze.
std::vector<std::string> PatientRedisAt(uint16_t port) {
  std::vector<std::string> flags = RedisAt(port);
  flags.insert(flags.end(), {"--set", "store.redis.command_timeout=10s"});
  return flags;
}

// Promise: G2, at most one request in flight. Fault: frozen between acquire and send, at the last
// check, whose command reaches Redis when the lease is over and another replica has refreshed.
// Asserted: 1 refresh in all, the other replica's.
TEST(FrozenHolder, SendsNothingIfItsLastCheckComesLate) {
  const Scale scale = PatientAboutReplies();
  World world(RedisWorld(scale));
  LossyProxy redis_of_a(world.redis().port());
  Broker& a = world.StartBroker(PatientRedisAt(redis_of_a.port()));
  Broker& b = world.StartBroker();
  world.RegisterImported(b, "acme", "us");
  LetTokensLive(world);

  redis_of_a.HoldAt(ScriptDigest(world.redis(), redis::ScriptId::kMarkSent));
  std::future<Broker::Token> of_a = Ask(a, "acme");
  ASSERT_TRUE(WaitUntil([&] { return redis_of_a.held() == 1; }));
  ASSERT_EQ(Field(world.redis(), "acme", "ph"), kPhaseHeld);
  Freeze(a);
  const Broker::Token of_b = b.GetAccessToken("acme");
  ASSERT_TRUE(of_b.status.ok()) << of_b.status.error_message();
  EXPECT_EQ(of_b.token.source(), v1::TOKEN_SOURCE_REFRESHED);
  LetPass(scale.pre_send_lease);  // b has waited for one of the two
  redis_of_a.Release();
  Thaw(a);

  const Broker::Token late = of_a.get();
  ASSERT_TRUE(late.status.ok()) << late.status.error_message();
  EXPECT_EQ(late.token.access_token(), of_b.token.access_token());
  EXPECT_EQ(world.Refreshes(), 1);
  EXPECT_EQ(world.log().MaxInFlightPerGrant(), 1);
}

// Promise: G2. Fault: the same, and nobody else has refreshed meanwhile. Asserted: the late holder
// does not send under the lease that it lost (epoch 1 more), but takes another one: 1 refresh.
TEST(FrozenHolder, TakesTheLeaseAnewBeforeItSends) {
  const Scale scale = PatientAboutReplies();
  World world(RedisWorld(scale));
  LossyProxy redis_of_a(world.redis().port());
  Broker& a = world.StartBroker(PatientRedisAt(redis_of_a.port()));
  world.RegisterImported(a, "acme", "us");
  LetTokensLive(world);

  redis_of_a.HoldAt(ScriptDigest(world.redis(), redis::ScriptId::kMarkSent));
  std::future<Broker::Token> of_a = Ask(a, "acme");
  ASSERT_TRUE(WaitUntil([&] { return redis_of_a.held() == 1; }));
  const int64_t epoch = Number(world.redis(), "acme", "ep");
  Freeze(a);
  LetPass(2 * scale.pre_send_lease);
  redis_of_a.Release();
  Thaw(a);

  const Broker::Token late = of_a.get();
  ASSERT_TRUE(late.status.ok()) << late.status.error_message();
  EXPECT_EQ(Number(world.redis(), "acme", "ep"), epoch + 1);
  EXPECT_EQ(world.Refreshes(), 1);
}

// Promise: G2. Fault: frozen between acquire and send, in the TLS handshake, which is over when the
// process goes on. Asserted: 1 refresh in all, the other replica's.
TEST(FrozenHolder, SendsNothingAfterALongHandshake) {
  const Scale scale;
  World::Options options = RedisWorld(scale);
  options.https = true;
  World world(options);
  const std::string& url = world.zoho().dc("us").https_url();
  LossyProxy zoho_of_a(static_cast<uint16_t>(std::stoi(url.substr(url.rfind(':') + 1))));
  Broker& a = world.StartBrokerWith(absl::StrReplaceAll(
      world.config(), {{url, absl::StrCat("https://127.0.0.1:", zoho_of_a.port())}}));
  Broker& b = world.StartBroker();
  world.RegisterImported(b, "acme", "us");
  LetTokensLive(world);

  zoho_of_a.Hold();
  std::future<Broker::Token> of_a = Ask(a, "acme");
  ASSERT_TRUE(WaitUntil([&] { return zoho_of_a.connections() == 1; }));
  ASSERT_EQ(Field(world.redis(), "acme", "ph"), kPhaseHeld);
  Freeze(a);
  const Broker::Token of_b = b.GetAccessToken("acme");
  ASSERT_TRUE(of_b.status.ok()) << of_b.status.error_message();
  LetPass(scale.pre_send_lease);
  zoho_of_a.Release();
  Thaw(a);

  const Broker::Token late = of_a.get();
  ASSERT_TRUE(late.status.ok()) << late.status.error_message();
  EXPECT_EQ(late.token.access_token(), of_b.token.access_token());
  EXPECT_EQ(world.Refreshes(), 1);
}

// Promise: G3 and G4, the newest refresh token is stored; G5, a stale failure does not kill the
// grant. Fault: frozen after the send for twice the lease, at a provider that rotates strictly, so
// that the only good refresh token lies in the frozen process; another replica meanwhile sends the
// old one and is refused. Asserted: 2 requests, so 1 extra; then one more with the newest token
// succeeds.
TEST(FrozenHolder, StoresTheOnlyGoodRefreshTokenAfterwards) {
  const Scale scale;
  World::Options options = RedisWorld(scale);
  options.behaviour.rotate_refresh_tokens = true;
  World world(options);
  Broker& a = world.StartBroker();
  Broker& b = world.StartBroker();
  const uint64_t grant = world.RegisterImported(b, "acme", "us").identity.number;
  LetTokensLive(world);

  HoldReplies(world);
  std::future<Broker::Token> of_a = Ask(a, "acme");
  ASSERT_TRUE(WaitUntil([&] { return world.zoho().hung() == 1; }));
  ASSERT_EQ(Field(world.redis(), "acme", "ph"), kPhaseSent);
  const int64_t generation = Number(world.redis(), "acme", "g");
  Freeze(a);
  // Waits for the lease to end, sends the old refresh token, and doubts the refusal.
  const Broker::Token of_b = b.GetAccessToken("acme");
  EXPECT_EQ(Explain(of_b.status).reason, "ZOHO_UNAVAILABLE") << of_b.status.error_message();
  LetPass(scale.sent_lease);
  EXPECT_EQ(world.zoho().ReleaseHung(), 1);
  // The reply has to be in the frozen process' socket before it looks at its own clock. It counts
  // as finished just before its last byte leaves.
  zoho_simulator::RequestFilter filter;
  filter.path = "/oauth/v2/token";
  filter.finished = true;
  ASSERT_TRUE(world.log().WaitForCount(filter, 2, absl::Seconds(10)));
  LetPass(absl::Milliseconds(100));
  Thaw(a);

  const Broker::Token late = of_a.get();
  ASSERT_TRUE(late.status.ok()) << late.status.error_message();
  EXPECT_EQ(late.token.version(), generation + 1);
  EXPECT_TRUE(IsGood(world, late.token.access_token()));
  EXPECT_EQ(world.Refreshes(), 2);
  EXPECT_EQ(world.Refreshes("minted"), 1);
  EXPECT_EQ(Number(world.redis(), "acme", "g"), generation + 1);

  const Broker::Token next = b.GetAccessToken("acme", Rejecting(generation + 1));
  ASSERT_TRUE(next.status.ok()) << next.status.error_message();
  EXPECT_EQ(next.token.version(), generation + 2);
  EXPECT_EQ(world.Refreshes(), 3);
  EXPECT_EQ(world.Refreshes("minted"), 2);
  EXPECT_TRUE(IsAlive(world, grant));
}

}  // namespace
}  // namespace tokenbroker::faults
