// Each fault over a real socket: what the caller sees, what changed, what the record says.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "tests/zoho_simulator/simulator_fixture.h"

namespace tokenbroker::zoho_simulator {
namespace {

using testing::HasSubstr;

class FaultsTest : public SimulatorTest {
 protected:
  void SetUp() override {
    Start();
    grant_ = Seed();
  }

  uint64_t Add(
      FaultKind kind, int64_t times = 1,
      const std::function<void(FaultRule&)>& change = [](FaultRule&) {}) {
    FaultRule rule;
    rule.times = times;
    rule.fault.kind = kind;
    change(rule);
    return simulator_->AddFault(rule);
  }

  int64_t Mints() {
    return simulator_->accounts().FindGrant(grant_.identity.number, simulator_->now())->mints;
  }

  SeededGrant grant_;
};

TEST_F(FaultsTest, ResetBeforeProcessing) {
  Add(FaultKind::kResetBeforeProcessing);
  EXPECT_EQ(Refresh(grant_).end, HttpResult::End::kReset);
  EXPECT_EQ(Mints(), 0);
  EXPECT_EQ(LastEntry().outcome, "not_processed");
  EXPECT_EQ(LastEntry().fault, "reset_before_processing");
  EXPECT_EQ(LastEntry().http_status, 0);
  EXPECT_EQ(Refresh(grant_).status, 200) << "once";
}

TEST_F(FaultsTest, ResetAfterProcessing) {
  Add(FaultKind::kResetAfterProcessing);
  EXPECT_EQ(Refresh(grant_).end, HttpResult::End::kReset);
  EXPECT_EQ(Mints(), 1);
  EXPECT_EQ(LastEntry().outcome, "minted");
  EXPECT_EQ(LastEntry().fault, "reset_after_processing");
  EXPECT_EQ(LastEntry().http_status, 0);
}

TEST_F(FaultsTest, ResetsOverTls) {
  Simulator::Options options = TestOptions();
  options.https = true;
  Start(std::move(options));
  grant_ = Seed();
  Add(FaultKind::kResetAfterProcessing);
  EXPECT_EQ(Call(simulator_->dc("us").https_url(), "POST", kTokenPath, RefreshBody(grant_), "",
                 simulator_->certificate_pem())
                .end,
            HttpResult::End::kReset);
  EXPECT_EQ(Mints(), 1);
}

TEST_F(FaultsTest, DelayKeepsTheRequestInFlight) {
  Add(FaultKind::kNone, 1, [](FaultRule& rule) { rule.fault.delay = absl::Milliseconds(100); });
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(Refresh(grant_).status, 200);
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(100));
  const RequestEntry entry = LastEntry();
  EXPECT_GE(entry.finish_time - entry.arrival_time, absl::Milliseconds(100));
  EXPECT_EQ(entry.fault, "");
}

TEST_F(FaultsTest, ReplyDelayComesAfterTheStateChanged) {
  Add(FaultKind::kNone, 1, [](FaultRule& rule) { rule.fault.reply_delay = absl::Hours(1); });
  HttpConnection connection(simulator_->dc("us").url());
  connection.Request("POST", kTokenPath, RefreshBody(grant_));
  ASSERT_TRUE(simulator_->log().WaitForCount({}, 1, kPatience));
  while (Mints() == 0) std::this_thread::yield();
  EXPECT_FALSE(LastEntry().finished);
}

TEST_F(FaultsTest, ACallerThatLeavesIsNoLongerInFlight) {
  Add(FaultKind::kNone, 1, [](FaultRule& rule) { rule.fault.reply_delay = absl::Hours(1); });
  {
    HttpConnection connection(simulator_->dc("us").url());
    connection.Request("POST", kTokenPath, RefreshBody(grant_));
    ASSERT_TRUE(simulator_->log().WaitForCount({}, 1, kPatience));
    EXPECT_EQ(simulator_->log().Summary().in_flight, 1);
  }
  RequestFilter gone;
  gone.client_gone = true;
  ASSERT_TRUE(simulator_->log().WaitForCount(gone, 1, kPatience));
  EXPECT_EQ(simulator_->log().Summary().in_flight, 0);
  EXPECT_FALSE(LastEntry().finished);
}

TEST_F(FaultsTest, HangUntilReleased) {
  Add(FaultKind::kHang, -1);
  HttpConnection connection(simulator_->dc("us").url());
  connection.Request("POST", kTokenPath, RefreshBody(grant_));
  ASSERT_TRUE(simulator_->log().WaitForCount({}, 1, kPatience));
  while (simulator_->hung() == 0) std::this_thread::yield();
  EXPECT_EQ(Mints(), 0);
  EXPECT_EQ(simulator_->ReleaseHung("eu"), 0);
  EXPECT_EQ(simulator_->ReleaseHung("us"), 1);
  EXPECT_EQ(connection.Read().status, 200);
  EXPECT_EQ(Mints(), 1);
  EXPECT_EQ(LastEntry().fault, "hang");
}

TEST_F(FaultsTest, AReleaseAlsoFreesWhatIsAboutToHang) {
  Add(FaultKind::kHang, -1, [](FaultRule& rule) { rule.fault.delay = absl::Milliseconds(200); });
  HttpConnection connection(simulator_->dc("us").url());
  connection.Request("POST", kTokenPath, RefreshBody(grant_));
  ASSERT_TRUE(simulator_->log().WaitForCount({}, 1, kPatience));
  simulator_->ClearFaults();
  EXPECT_EQ(connection.Read().status, 200);
}

TEST_F(FaultsTest, HangAfterProcessing) {
  Add(FaultKind::kHangAfterProcessing);
  HttpConnection connection(simulator_->dc("us").url());
  connection.Request("POST", kTokenPath, RefreshBody(grant_));
  while (simulator_->hung() == 0) std::this_thread::yield();
  EXPECT_EQ(Mints(), 1);
  simulator_->ReleaseHung();
  EXPECT_EQ(connection.Read().status, 200);
}

TEST_F(FaultsTest, ACallerThatLeavesAHangingRequestEndsIt) {
  for (const bool https : {false, true}) {
    SCOPED_TRACE(https);
    Simulator::Options options = TestOptions();
    options.https = true;
    Start(std::move(options));
    grant_ = Seed();
    Add(FaultKind::kHang);
    HttpConnection connection(https ? simulator_->dc("us").https_url() : simulator_->dc("us").url(),
                              simulator_->certificate_pem());
    connection.Request("POST", kTokenPath, RefreshBody(grant_));
    while (simulator_->hung() == 0) std::this_thread::yield();
    connection.Close();
    RequestFilter finished;
    finished.finished = true;
    ASSERT_TRUE(simulator_->log().WaitForCount(finished, 1, kPatience));
    EXPECT_TRUE(LastEntry().client_gone);
    EXPECT_EQ(LastEntry().outcome, "not_processed");
    EXPECT_EQ(simulator_->hung(), 0);
    EXPECT_EQ(Mints(), 0);
    EXPECT_EQ(simulator_->log().Summary().in_flight, 0);
  }
}

TEST_F(FaultsTest, ADelayedRequestIsProcessedEvenIfTheCallerLeaves) {
  Add(FaultKind::kNone, 1, [](FaultRule& rule) { rule.fault.delay = absl::Milliseconds(200); });
  {
    HttpConnection connection(simulator_->dc("us").url());
    connection.Request("POST", kTokenPath, RefreshBody(grant_));
    ASSERT_TRUE(simulator_->log().WaitForCount({}, 1, kPatience));
  }
  RequestFilter minted;
  minted.outcome = "minted";
  ASSERT_TRUE(simulator_->log().WaitForCount(minted, 1, kPatience));
  EXPECT_TRUE(LastEntry().client_gone);
  EXPECT_EQ(LastEntry().http_status, 0);
  EXPECT_EQ(Mints(), 1);
}

TEST_F(FaultsTest, Status) {
  Add(FaultKind::kStatus, 2);
  Add(FaultKind::kStatus, 1, [](FaultRule& rule) {
    rule.fault.status = 503;
    rule.fault.body = "down";
    rule.fault.content_type = "text/plain";
  });
  for (int i = 0; i < 2; ++i) {
    const HttpResult result = Refresh(grant_);
    EXPECT_EQ(result.status, 500);
    EXPECT_EQ(result.body, "{\"error\":\"general_error\"}");
  }
  const HttpResult result = Refresh(grant_);
  EXPECT_EQ(result.status, 503);
  EXPECT_EQ(result.body, "down");
  EXPECT_EQ(result.headers.at("content-type"), "text/plain");
  EXPECT_EQ(LastEntry().http_status, 503);
  EXPECT_EQ(Mints(), 0);
  EXPECT_EQ(Outcomes("not_processed"), 3);
  EXPECT_EQ(Refresh(grant_).status, 200);
}

TEST_F(FaultsTest, StatusAfterProcessing) {
  Add(FaultKind::kStatus, 1, [](FaultRule& rule) { rule.fault.process = true; });
  EXPECT_EQ(Refresh(grant_).status, 500);
  EXPECT_EQ(Mints(), 1);
  EXPECT_EQ(LastEntry().outcome, "minted");
  EXPECT_EQ(LastEntry().http_status, 500);
}

TEST_F(FaultsTest, Html) {
  Add(FaultKind::kHtml);
  const HttpResult result = Refresh(grant_);
  EXPECT_EQ(result.status, 200);
  EXPECT_THAT(result.headers.at("content-type"), HasSubstr("text/html"));
  EXPECT_THAT(result.body, HasSubstr("<html>"));
}

TEST_F(FaultsTest, Empty) {
  Add(FaultKind::kEmpty);
  const HttpResult result = Refresh(grant_);
  EXPECT_EQ(result.end, HttpResult::End::kReply);
  EXPECT_EQ(result.body, "");
}

TEST_F(FaultsTest, HugeBodyIsOneJsonString) {
  Add(FaultKind::kHugeBody, 1, [](FaultRule& rule) { rule.fault.huge_bytes = 200001; });
  const HttpResult result = Refresh(grant_);
  EXPECT_EQ(result.body.size(), 200001u);
  EXPECT_TRUE(Json(result).contains("padding"));
}

TEST_F(FaultsTest, ACallerMayLeaveAHugeBody) {
  Add(FaultKind::kHugeBody, 1, [](FaultRule& rule) { rule.fault.huge_bytes = size_t{1} << 40; });
  {
    HttpConnection connection(simulator_->dc("us").url());
    connection.Request("POST", kTokenPath, RefreshBody(grant_));
    ASSERT_TRUE(simulator_->log().WaitForCount({}, 1, kPatience));
  }
  RequestFilter finished;
  finished.finished = true;
  EXPECT_TRUE(simulator_->log().WaitForCount(finished, 1, kPatience));
}

TEST_F(FaultsTest, RedirectLeadsToTheTrap) {
  Add(FaultKind::kRedirect);
  const HttpResult result = Refresh(grant_);
  EXPECT_EQ(result.status, 302);
  const std::string location = result.headers.at("location");
  EXPECT_EQ(location, simulator_->trap_url() + kTokenPath);
  RequestFilter trap;
  trap.dc = "trap";
  EXPECT_EQ(simulator_->log().Count(trap), 0);
  Call(simulator_->trap_url(), "POST", kTokenPath, RefreshBody(grant_));
  EXPECT_EQ(simulator_->log().Count(trap), 1);
  EXPECT_EQ(Mints(), 0);
  Add(FaultKind::kRedirect, 1, [](FaultRule& rule) {
    rule.fault.redirect_to = "https://evil.example/";
    rule.fault.status = 307;
  });
  const HttpResult chosen = Refresh(grant_);
  EXPECT_EQ(chosen.status, 307);
  EXPECT_EQ(chosen.headers.at("location"), "https://evil.example/");
}

TEST_F(FaultsTest, GarbageJson) {
  Add(FaultKind::kGarbageJson);
  const HttpResult result = Refresh(grant_);
  EXPECT_THAT(result.headers.at("content-type"), HasSubstr("application/json"));
  EXPECT_TRUE(nlohmann::json::parse(result.body, nullptr, false).is_discarded());
}

TEST_F(FaultsTest, TooManyRequestsAndThrottle) {
  Add(FaultKind::kTooManyRequests);
  Add(FaultKind::kThrottle);
  EXPECT_EQ(Refresh(grant_).status, 429);
  const HttpResult result = Refresh(grant_);
  EXPECT_EQ(result.status, 400);
  EXPECT_EQ(Json(result)["status"], "failure");
}

TEST_F(FaultsTest, TruncateProcessesAndBreaksOff) {
  Add(FaultKind::kTruncate, 1, [](FaultRule& rule) { rule.fault.truncate_bytes = 20; });
  const HttpResult result = Refresh(grant_);
  EXPECT_EQ(result.end, HttpResult::End::kClosed);
  EXPECT_EQ(Mints(), 1);
}

TEST_F(FaultsTest, DripSendsAllInPieces) {
  Add(FaultKind::kNone, 1, [](FaultRule& rule) {
    rule.fault.drip_interval = absl::Milliseconds(1);
    rule.fault.drip_bytes = 7;
  });
  const HttpResult result = Refresh(grant_);
  EXPECT_EQ(result.end, HttpResult::End::kReply);
  EXPECT_TRUE(Json(result).contains("access_token"));
  const RequestEntry entry = LastEntry();
  EXPECT_GE(entry.finish_time - entry.arrival_time, absl::Milliseconds(40))
      << "in flight until the last byte";
}

TEST_F(FaultsTest, ADripThatNeverEndsDoesNotStopTheSimulator) {
  Add(FaultKind::kNone, 1, [](FaultRule& rule) { rule.fault.drip_interval = absl::Hours(1); });
  HttpConnection connection(simulator_->dc("us").url());
  connection.Request("POST", kTokenPath, RefreshBody(grant_));
  while (Mints() == 0) std::this_thread::yield();
  simulator_.reset();
  EXPECT_NE(connection.Read().end, HttpResult::End::kReply);
}

TEST_F(FaultsTest, HungRequestsDoNotStopTheSimulator) {
  Add(FaultKind::kHang);
  HttpConnection connection(simulator_->dc("us").url());
  connection.Request("POST", kTokenPath, RefreshBody(grant_));
  while (simulator_->hung() == 0) std::this_thread::yield();
  simulator_.reset();
  EXPECT_NE(connection.Read().end, HttpResult::End::kReply);
}

TEST_F(FaultsTest, RulesChooseTheirRequests) {
  FaultRule rule;
  rule.dc = "us";
  rule.path = kTokenPath;
  rule.grant_type = "refresh_token";
  rule.client_id = "1000.APP";
  rule.org_id = grant_.identity.org_id;
  rule.fault.kind = FaultKind::kStatus;
  const uint64_t id = simulator_->AddFault(rule);
  EXPECT_EQ(Refresh(grant_).status, 500);
  EXPECT_EQ(Refresh(Seed()).status, 200) << "another org";
  EXPECT_EQ(Refresh(Seed("eu")).status, 200) << "another DC";
  EXPECT_EQ(Call(simulator_->dc("us").url(), "GET", "/oauth/serverinfo").status, 200);
  EXPECT_TRUE(simulator_->RemoveFault(id));
  EXPECT_FALSE(simulator_->RemoveFault(id));
  EXPECT_EQ(Refresh(grant_).status, 200);
}

TEST_F(FaultsTest, ManyHangingRequestsAtOnce) {
  constexpr int kRequests = 1000;
  Add(FaultKind::kHang, -1);
  const auto grants = simulator_->SeedGrants("us", "1000.APP", kRequests).value();
  std::vector<HttpConnection> connections;
  connections.reserve(kRequests);
  for (const SeededGrant& grant : grants) {
    connections.emplace_back(simulator_->dc("us").url());
    ASSERT_TRUE(connections.back().Request("POST", kTokenPath, RefreshBody(grant)));
  }
  ASSERT_TRUE(simulator_->log().WaitForCount({}, kRequests, kPatience));
  EXPECT_EQ(simulator_->log().Summary().max_in_flight, kRequests);
  simulator_->ClearFaults();
  RequestFilter minted;
  minted.outcome = "minted";
  ASSERT_TRUE(simulator_->log().WaitForCount(minted, kRequests, kPatience));
  for (HttpConnection& connection : connections) ASSERT_EQ(connection.Read().status, 200);
  EXPECT_EQ(simulator_->log().MaxInFlightPerGrant(), 1);
}

TEST_F(FaultsTest, AcceptModes) {
  const std::string& us = simulator_->dc("us").url();
  ASSERT_TRUE(simulator_->SetAcceptMode("us", AcceptMode::kRefuse).ok());
  EXPECT_EQ(Refresh(grant_).end, HttpResult::End::kRefused);
  EXPECT_EQ(Refresh(Seed("eu")).status, 200) << "the other DC lives";
  ASSERT_TRUE(simulator_->SetAcceptMode("us", AcceptMode::kReset).ok());
  EXPECT_EQ(Refresh(grant_).end, HttpResult::End::kReset);
  ASSERT_TRUE(simulator_->SetAcceptMode("us", AcceptMode::kStall).ok());
  HttpConnection stalled(us, "", 100);
  stalled.Request("POST", kTokenPath, RefreshBody(grant_));
  EXPECT_EQ(stalled.Read().end, HttpResult::End::kTimeout);
  ASSERT_TRUE(simulator_->SetAcceptMode("us", AcceptMode::kServe).ok());
  EXPECT_EQ(Refresh(grant_).status, 200);
  EXPECT_EQ(Mints(), 1);
  EXPECT_EQ(simulator_->SetAcceptMode("in", AcceptMode::kServe).code(),
            absl::StatusCode::kNotFound);
}

TEST(FaultRulesTest, DelaysAddToOneHarmAndHarmsQueueUp) {
  FaultRules rules;
  FaultRule rule;
  rule.fault.delay = absl::Milliseconds(200);
  rules.Add(rule);
  rule.times = 1;
  rule.fault.delay = absl::Milliseconds(100);
  rule.fault.kind = FaultKind::kStatus;
  rules.Add(rule);
  rule.fault.delay = absl::ZeroDuration();
  rule.fault.kind = FaultKind::kHtml;
  rules.Add(rule);
  const FaultSubject subject{"us", "/oauth/v2/token", "refresh_token", "c", "o"};
  std::vector<FaultKind> kinds;
  for (int i = 0; i < 3; ++i) {
    const std::optional<Fault> fault = rules.Take(subject);
    ASSERT_TRUE(fault.has_value());
    EXPECT_EQ(fault->delay, absl::Milliseconds(200));
    kinds.push_back(fault->kind);
  }
  EXPECT_EQ(kinds,
            (std::vector<FaultKind>{FaultKind::kStatus, FaultKind::kHtml, FaultKind::kNone}));
  EXPECT_EQ(rules.List().size(), 1u);
  rules.Clear("eu");
  EXPECT_TRUE(rules.Take(subject).has_value());
  rules.Clear("");
  EXPECT_FALSE(rules.Take(subject).has_value());
}

}  // namespace
}  // namespace tokenbroker::zoho_simulator
