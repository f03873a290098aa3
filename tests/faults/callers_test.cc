#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "absl/time/clock.h"
#include "tests/e2e/callback_threads.h"
#include "tests/faults/fault_world.h"

// A connection to Zoho that dies, and callers that go.
namespace tokenbroker::faults {
namespace {

using zoho_simulator::FaultKind;
using zoho_simulator::FaultRule;

// Promise: G2 and G6, a request that may have left is never repeated by itself; libcurl repeats a
// POST whose kept-alive connection dies. Fault: after a good request the connection of the next one
// is reset when Zoho has read it, before and after working on it. Asserted: exactly 1 POST each, on
// a connection of its own.
TEST(Callers, ADeadConnectionIsNotPostedToTwice) {
  for (const FaultKind kind :
       {FaultKind::kResetBeforeProcessing, FaultKind::kResetAfterProcessing}) {
    World world(RedisWorld());
    Broker& broker = world.StartBroker();
    world.RegisterImported(broker, "acme", "us");
    LetTokensLive(world);
    const Broker::Token good = broker.GetAccessToken("acme");
    ASSERT_TRUE(good.status.ok()) << good.status.error_message();
    const auto first = RefreshLog(world);
    ASSERT_EQ(first.size(), 1u);
    world.log().Clear();

    FaultRule rule;
    rule.path = "/oauth/v2/token";
    rule.times = 1;
    rule.fault.kind = kind;
    world.zoho().AddFault(rule);
    const Broker::Token lost = broker.GetAccessToken("acme", Rejecting(good.token.version()));
    EXPECT_EQ(Explain(lost.status).reason, "ZOHO_UNAVAILABLE") << lost.status.error_message();
    const auto posts = RefreshLog(world);
    ASSERT_EQ(posts.size(), 1u);
    EXPECT_NE(posts[0].connection_id, first[0].connection_id);
    // The broker knows that it may have left: the grant is ambiguous.
    EXPECT_EQ(Field(world.redis(), "acme", "am"), "1");
  }
}

// Promise: a caller that leaves costs nothing, and G4, what it started is finished. Fault: a caller
// cancels while Zoho works on its refresh, 21 times. Asserted: by the clocks of this machine the
// broker has ended half of the calls within 10 ms of the cancellation and four fifths within 100 ms
// (any single one may hit a busy processor), while the refresh is still under way; then the refresh
// is stored, 1 request in all.
TEST(Callers, CancellationFreesTheWaiterAndNotTheRefresh) {
  constexpr size_t kCancellations = 21;
  constexpr int kMaxCalls = 27;
  constexpr absl::Duration kHalfGone = absl::Milliseconds(10);
  constexpr absl::Duration kMostGone = absl::Milliseconds(100);
  const std::string kCancelled = "\"CANCELLED\"";
  e2e::KeepCallbackThreads();
  Scale scale;
  scale.response_timeout = absl::Seconds(20);
  scale.sent_lease = absl::Seconds(30);
  World world(RedisWorld(scale));
  Broker& broker = world.StartBroker();
  world.RegisterImported(broker, "acme", "us");
  LetTokensLive(world);
  const int64_t generation = Number(world.redis(), "acme", "g");

  HoldReplies(world);
  std::vector<absl::Duration> delays;
  for (int i = 0; delays.size() < kCancellations && i < kMaxCalls; ++i) {
    grpc::ClientContext context;
    v1::GetAccessTokenRequest request;
    request.set_org_id("acme");
    request.set_oauth_client(World::kWebClient);
    v1::GetAccessTokenResponse response;
    std::promise<grpc::Status> ended;
    broker.stub().async()->GetAccessToken(&context, &request, &response,
                                          [&](grpc::Status status) { ended.set_value(status); });
    if (i == 0) {
      ASSERT_TRUE(WaitUntil([&] { return world.zoho().hung() == 1; }));
    } else {
      // Nothing tells that a call has arrived which joins another one. One that has not is
      // cancelled before the broker hears of it, and not counted.
      absl::SleepFor(absl::Milliseconds(20));
    }
    const size_t before = LogTimes(broker, kCancelled).size();
    const absl::Time cancelled = absl::Now();
    context.TryCancel();
    EXPECT_EQ(ended.get_future().get().error_code(), grpc::StatusCode::CANCELLED);
    if (WaitUntil([&] { return LogTimes(broker, kCancelled).size() > before; }, absl::Seconds(2))) {
      delays.push_back(LogTimes(broker, kCancelled).back() - cancelled);
    }
  }
  ASSERT_GE(delays.size(), 18u);
  std::sort(delays.begin(), delays.end());
  EXPECT_LE(delays[delays.size() / 2], kHalfGone);
  EXPECT_LE(delays[delays.size() * 8 / 10], kMostGone);
  EXPECT_EQ(world.zoho().hung(), 1);

  EXPECT_EQ(world.zoho().ReleaseHung(), 1);
  EXPECT_TRUE(WaitUntil([&] { return Number(world.redis(), "acme", "g") == generation + 1; }));
  EXPECT_EQ(world.Refreshes(), 1);
  const Broker::Token next = broker.GetAccessToken("acme");
  ASSERT_TRUE(next.status.ok()) << next.status.error_message();
  EXPECT_EQ(next.token.version(), generation + 1);
  EXPECT_EQ(world.Refreshes(), 1);
}

}  // namespace
}  // namespace tokenbroker::faults
