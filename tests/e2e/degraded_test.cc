#include <gtest/gtest.h>

#include <thread>

#include "absl/time/clock.h"
#include "tests/e2e/world.h"

// When Zoho throttles, is slow, is down or answers nonsense: tokens that live are given out,
// nothing is sent during a cooldown, and who gets none learns why and for how long.
//
// Tokens here live 110 s: less than the 120 s at which a caller waits for a refresh, more than the
// 60 s that a token must have left. So every call wants a refresh, and may have the old token.
namespace tokenbroker::e2e {
namespace {

using zoho_simulator::AcceptMode;
using zoho_simulator::Behaviour;
using zoho_simulator::FaultKind;
using zoho_simulator::FaultRule;

class Degraded : public ::testing::Test {
 protected:
  static World::Options Options() {
    World::Options options;
    options.behaviour.access_token_life = absl::Seconds(110);
    // Short waits, so that the test sees the end of a hanging request; one thread for each DC, so
    // that one hanging request takes them all.
    options.more_config =
        "issuing:\n  lane_threads: 1\n"
        "protocol:\n  connect_timeout: 1s\n  response_timeout: 2s\n"
        "  commit_budget: 1s\n  clock_drift: 500ms\n  pre_send_lease: 2s\n  sent_lease: 4s\n";
    return options;
  }

  void SetUp() override {
    broker_ = &world_.StartBroker();
    world_.RegisterImported(*broker_, "acme", "us");
    world_.log().Clear();
  }

  void Fail(FaultKind kind, int status = 0) {
    FaultRule rule;
    rule.dc = "us";
    rule.path = "/oauth/v2/token";
    rule.fault.kind = kind;
    rule.fault.status = status;
    world_.zoho().AddFault(rule);
  }

  int64_t Sends() {
    zoho_simulator::RequestFilter filter;
    filter.path = "/oauth/v2/token";
    return world_.log().Count(filter);
  }

  // The old token is given out, and of many calls only the first one sends.
  void ExpectStaleAndOneSend() {
    for (int i = 0; i < 50; ++i) {
      const Broker::Token answer = broker_->GetAccessToken("acme");
      ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
      EXPECT_EQ(answer.token.source(), v1::TOKEN_SOURCE_STALE);
      EXPECT_EQ(world_.zoho().accounts().AccessTokenState(answer.token.access_token(),
                                                          world_.zoho().now()),
                "live");
    }
    EXPECT_EQ(Sends(), 1);
  }

  // What a caller gets who cannot use the old token: always with the time to wait.
  CallError ErrorOfPickyCaller() {
    const Broker::Token answer = broker_->GetAccessToken(
        "acme", [](auto& request) { request.mutable_min_lifetime()->set_seconds(3000); });
    CallError error = Explain(answer.status);
    EXPECT_GT(error.retry_delay_seconds, 0) << error.reason;
    return error;
  }

  World world_{Options()};
  Broker* broker_ = nullptr;
};

TEST_F(Degraded, ThrottledInEnglish) {
  Fail(FaultKind::kThrottle);
  ExpectStaleAndOneSend();
  const CallError error = ErrorOfPickyCaller();
  EXPECT_EQ(error.code, grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(error.reason, "ZOHO_THROTTLED");
  EXPECT_GT(error.retry_delay_seconds, 0);
  EXPECT_LE(error.retry_delay_seconds, 600);
  EXPECT_EQ(Sends(), 1) << "sent during a cooldown";
}

TEST_F(Degraded, ThrottledInChinese) {
  Behaviour behaviour = *world_.zoho().accounts().GetBehaviour("us");
  behaviour.throttle_language = zoho_simulator::Language::kChinese;
  ASSERT_TRUE(world_.zoho().accounts().SetBehaviour("us", behaviour).ok());
  Fail(FaultKind::kThrottle);
  ExpectStaleAndOneSend();
  EXPECT_EQ(ErrorOfPickyCaller().reason, "ZOHO_THROTTLED");
}

TEST_F(Degraded, TooManyRequests) {
  Fail(FaultKind::kTooManyRequests);
  ExpectStaleAndOneSend();
  EXPECT_EQ(ErrorOfPickyCaller().reason, "ZOHO_THROTTLED");
}

TEST_F(Degraded, HtmlWithStatus200) {
  Fail(FaultKind::kHtml);
  ExpectStaleAndOneSend();
  const CallError error = ErrorOfPickyCaller();
  EXPECT_EQ(error.code, grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(error.reason, "ZOHO_UNAVAILABLE");
  EXPECT_EQ(error.metadata.at("dc"), "us");
  EXPECT_GT(error.retry_delay_seconds, 0);
  EXPECT_LE(error.retry_delay_seconds, 5);
}

TEST_F(Degraded, BadGateway) {
  Fail(FaultKind::kStatus, 502);
  ExpectStaleAndOneSend();
  EXPECT_EQ(ErrorOfPickyCaller().reason, "ZOHO_UNAVAILABLE");
}

TEST_F(Degraded, HugeBody) {
  Fail(FaultKind::kHugeBody);
  ExpectStaleAndOneSend();
  EXPECT_EQ(ErrorOfPickyCaller().reason, "ZOHO_UNAVAILABLE");
}

TEST_F(Degraded, RedirectIsNotFollowed) {
  Fail(FaultKind::kRedirect);
  ExpectStaleAndOneSend();
  zoho_simulator::RequestFilter trap;
  trap.dc = "trap";
  EXPECT_EQ(world_.log().Count(trap), 0) << "the client secret went to another host";
}

TEST_F(Degraded, HangingIsGivenUp) {
  Fail(FaultKind::kHang);
  ExpectStaleAndOneSend();
  EXPECT_EQ(ErrorOfPickyCaller().reason, "ZOHO_UNAVAILABLE");
}

TEST_F(Degraded, DownAndUpAgain) {
  ASSERT_TRUE(world_.zoho().SetAcceptMode("us", AcceptMode::kRefuse).ok());
  for (int i = 0; i < 20; ++i) {
    const Broker::Token answer = broker_->GetAccessToken("acme");
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.token.source(), v1::TOKEN_SOURCE_STALE);
  }
  EXPECT_EQ(Sends(), 0);
  EXPECT_EQ(ErrorOfPickyCaller().reason, "ZOHO_UNAVAILABLE");

  // The cooldown after a first failure is 5 s: the retry delay says when to come back.
  const absl::Status serving = world_.zoho().SetAcceptMode("us", AcceptMode::kServe);
  ASSERT_TRUE(serving.ok()) << serving;
  const absl::Time patience = absl::Now() + absl::Seconds(20);
  Broker::Token answer;
  do {
    answer = broker_->GetAccessToken("acme");
    ASSERT_TRUE(answer.status.ok());
  } while (answer.token.source() != v1::TOKEN_SOURCE_REFRESHED && absl::Now() < patience);
  EXPECT_EQ(answer.token.source(), v1::TOKEN_SOURCE_REFRESHED);
  EXPECT_EQ(Sends(), 1);
}

TEST_F(Degraded, AHangingDcLeavesTheOthersAlone) {
  world_.RegisterImported(*broker_, "eurocorp", "eu");
  Fail(FaultKind::kHang);
  std::thread caller([&] { EXPECT_TRUE(broker_->GetAccessToken("acme").status.ok()); });
  const absl::Time patience = absl::Now() + absl::Seconds(10);
  while (world_.zoho().hung() == 0 && absl::Now() < patience) absl::SleepFor(absl::Milliseconds(1));
  // The one thread of us is taken; eu has another.
  const Broker::Token answer = broker_->GetAccessToken("eurocorp");
  EXPECT_EQ(world_.zoho().hung(), 1) << "eu was answered only when us had given up";
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.token.source(), v1::TOKEN_SOURCE_REFRESHED);
  world_.zoho().ClearFaults();
  caller.join();
  EXPECT_EQ(broker_->Stop(), 0);
}

}  // namespace
}  // namespace tokenbroker::e2e
