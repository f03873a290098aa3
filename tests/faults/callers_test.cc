#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
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
// cancels while Zoho works on its refresh. Asserted: the broker has ended the call within 10 ms of
// the cancellation, by the clocks of this machine (the median of 21, since any single one may hit a
// busy processor), while the refresh is still under way; then the refresh is stored, 1 request in
// all.
TEST(Callers, CancellationFreesTheWaiterAndNotTheRefresh) {
  constexpr int kCancellations = 21;
  constexpr absl::Duration kGone = absl::Milliseconds(10);
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
  for (int i = 0; i < kCancellations; ++i) {
    const auto cancellations = [&] {
      std::vector<absl::Time> times;
      for (const absl::string_view line : absl::StrSplit(broker.process().err(), '\n')) {
        if (!absl::StrContains(line, "\"CANCELLED\"")) continue;
        const nlohmann::json entry = nlohmann::json::parse(line, nullptr, false);
        absl::Time time;
        std::string error;
        if (!entry.is_discarded() &&
            absl::ParseTime(absl::RFC3339_full, entry.value("time", ""), &time, &error)) {
          times.push_back(time);
        }
      }
      return times;
    };
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
    const absl::Time cancelled = absl::Now();
    context.TryCancel();
    EXPECT_EQ(ended.get_future().get().error_code(), grpc::StatusCode::CANCELLED);
    const size_t before = delays.size();
    if (WaitUntil([&] { return cancellations().size() > before; }, absl::Seconds(2))) {
      delays.push_back(cancellations().back() - cancelled);
    }
  }
  ASSERT_GT(delays.size(), kCancellations / 2u);
  std::sort(delays.begin(), delays.end());
  EXPECT_LE(delays[delays.size() / 2], kGone);
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
