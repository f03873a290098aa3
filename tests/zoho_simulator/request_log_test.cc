#include "tests/zoho_simulator/request_log.h"

#include <gtest/gtest.h>

#include <thread>

namespace tokenbroker::zoho_simulator {
namespace {

RequestEntry Refresh(uint64_t grant_number) {
  RequestEntry entry;
  entry.dc = "us";
  entry.path = "/oauth/v2/token";
  entry.grant_type = "refresh_token";
  entry.client_id = "1000.APP";
  entry.grant.number = grant_number;
  return entry;
}

RequestLog::Ending Minted() {
  RequestLog::Ending ending;
  ending.outcome = "minted";
  ending.http_status = 200;
  return ending;
}

TEST(RequestLogTest, NumbersAndFinishes) {
  RequestLog log;
  EXPECT_EQ(log.Begin(Refresh(1)), 1u);
  EXPECT_EQ(log.Begin(Refresh(2)), 2u);
  EXPECT_FALSE(log.Entries({})[0].finished);
  log.Finish(1, Minted());
  const auto entries = log.Entries({});
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_TRUE(entries[0].finished);
  EXPECT_EQ(entries[0].outcome, "minted");
  EXPECT_EQ(entries[0].http_status, 200);
  RequestLog::Ending second;
  second.outcome = "other";
  log.Finish(1, second);
  EXPECT_EQ(log.Entries({})[0].outcome, "minted") << "the first end counts";
  EXPECT_EQ(log.Entries({}, 1).size(), 1u);
}

TEST(RequestLogTest, FiltersByEachField) {
  RequestLog log;
  RequestEntry entry = Refresh(7);
  entry.grant.user_id = "ana";
  entry.grant.org_id = "org-a";
  log.Begin(entry);
  RequestLog::Ending ending = Minted();
  ending.fault = "drip";
  log.Finish(1, ending);

  RequestFilter matching;
  matching.dc = "us";
  matching.path = "/oauth/v2/token";
  matching.grant_type = "refresh_token";
  matching.client_id = "1000.APP";
  matching.user_id = "ana";
  matching.org_id = "org-a";
  matching.outcome = "minted";
  matching.fault = "drip";
  matching.grant_number = 7;
  matching.finished = true;
  EXPECT_EQ(log.Count(matching), 1);
  const auto without = [&](auto change) {
    RequestFilter filter = matching;
    change(filter);
    return log.Count(filter);
  };
  EXPECT_EQ(without([](auto& f) { f.dc = "eu"; }), 0);
  EXPECT_EQ(without([](auto& f) { f.path = "/"; }), 0);
  EXPECT_EQ(without([](auto& f) { f.grant_type = "x"; }), 0);
  EXPECT_EQ(without([](auto& f) { f.client_id = "x"; }), 0);
  EXPECT_EQ(without([](auto& f) { f.user_id = "x"; }), 0);
  EXPECT_EQ(without([](auto& f) { f.org_id = "x"; }), 0);
  EXPECT_EQ(without([](auto& f) { f.outcome = "x"; }), 0);
  EXPECT_EQ(without([](auto& f) { f.fault = "x"; }), 0);
  EXPECT_EQ(without([](auto& f) { f.grant_number = 8; }), 0);
  EXPECT_EQ(without([](auto& f) { f.after_sequence = 1; }), 0);
  EXPECT_EQ(without([](auto& f) { f.finished = false; }), 0);
  EXPECT_EQ(without([](auto& f) { f.client_gone = true; }), 0);
}

TEST(RequestLogTest, OverlapIsPerGrantAndOnlyOfMints) {
  RequestLog log;
  const uint64_t first = log.Begin(Refresh(1));
  log.Begin(Refresh(1));
  log.Begin(Refresh(2));
  RequestEntry people = Refresh(1);
  people.grant_type = "";
  log.Begin(people);
  EXPECT_EQ(log.MaxInFlight(1), 2);
  EXPECT_EQ(log.MaxInFlight(2), 1);
  EXPECT_EQ(log.MaxInFlight(3), 0);
  log.Finish(first, Minted());
  log.Begin(Refresh(1));
  EXPECT_EQ(log.MaxInFlight(1), 2);
  EXPECT_EQ(log.MaxInFlightPerGrant(), 2);
  EXPECT_EQ(log.Entries({}).back().in_flight, 2);
  EXPECT_EQ(log.Entries({})[3].in_flight, 0);
}

TEST(RequestLogTest, ClientCredentialsOverlapPerOrg) {
  RequestLog log;
  RequestEntry entry = Refresh(0);
  entry.grant_type = "client_credentials";
  entry.grant.org_id = "org-a";
  log.Begin(entry);
  log.Begin(entry);
  entry.grant.org_id = "org-b";
  log.Begin(entry);
  EXPECT_EQ(log.MaxInFlightPerGrant(), 2);
}

TEST(RequestLogTest, ACallerThatLeftIsNotInFlight) {
  RequestLog log;
  const uint64_t first = log.Begin(Refresh(1));
  log.ClientGone(first);
  log.Begin(Refresh(1));
  EXPECT_EQ(log.MaxInFlight(1), 1);
  EXPECT_EQ(log.Summary().in_flight, 1);
  log.Finish(first, Minted());
  EXPECT_TRUE(log.Entries({})[0].client_gone);
  EXPECT_EQ(log.Summary().in_flight, 1) << "not counted twice";
}

TEST(RequestLogTest, WaitsForArrivalsAndOutcomes) {
  RequestLog log;
  RequestFilter minted;
  minted.outcome = "minted";
  EXPECT_FALSE(log.WaitForCount(minted, 1, absl::Milliseconds(1)));
  EXPECT_TRUE(log.WaitForCount(minted, 0, absl::ZeroDuration()));
  std::thread server([&] {
    for (int i = 0; i < 100; ++i) log.Finish(log.Begin(Refresh(1)), Minted());
  });
  EXPECT_TRUE(log.WaitForCount(minted, 100, absl::Seconds(20)));
  EXPECT_TRUE(log.WaitForCount({}, 100, absl::Seconds(20)));
  server.join();
  EXPECT_FALSE(log.WaitForCount(minted, 101, absl::Milliseconds(1)));
}

TEST(RequestLogTest, ClearKeepsNumbersAndWhatIsInFlight) {
  RequestLog log;
  const uint64_t open = log.Begin(Refresh(1));
  log.Finish(log.Begin(Refresh(1)), Minted());
  log.Clear();
  EXPECT_EQ(log.Count({}), 0);
  EXPECT_EQ(log.MaxInFlight(1), 1);
  EXPECT_EQ(log.Begin(Refresh(1)), 3u);
  EXPECT_EQ(log.MaxInFlight(1), 2);
  log.Finish(open, Minted());
  EXPECT_EQ(log.Count({}), 1);
  log.Finish(3, Minted());
  EXPECT_EQ(log.Entries({})[0].outcome, "minted");
  EXPECT_EQ(log.Summary().in_flight, 0);
}

TEST(RequestLogTest, SummaryCounts) {
  RequestLog log;
  RequestEntry entry = Refresh(1);
  entry.secret_in_url = true;
  log.Finish(log.Begin(entry), Minted());
  entry.secret_in_url = false;
  entry.dc = "eu";
  log.Begin(entry);
  const LogSummary summary = log.Summary();
  EXPECT_EQ(summary.requests, 2);
  EXPECT_EQ(summary.in_flight, 1);
  EXPECT_EQ(summary.max_in_flight, 1);
  EXPECT_EQ(summary.secrets_in_url, 1);
  EXPECT_EQ(summary.by_dc.at("us"), 1);
  EXPECT_EQ(summary.by_dc.at("eu"), 1);
  EXPECT_EQ(summary.by_grant_type.at("refresh_token"), 2);
  EXPECT_EQ(summary.by_outcome.at("minted"), 1);
  EXPECT_EQ(summary.by_outcome.size(), 1u);
}

TEST(RequestLogTest, AHundredThousandEntries) {
  RequestLog log;
  for (uint64_t i = 1; i <= 100000; ++i) log.Finish(log.Begin(Refresh(i)), Minted());
  RequestFilter last;
  last.grant_number = 100000;
  EXPECT_EQ(log.Count(last), 1);
  EXPECT_EQ(log.Count({}), 100000);
  EXPECT_EQ(log.MaxInFlightPerGrant(), 1);
}

}  // namespace
}  // namespace tokenbroker::zoho_simulator
