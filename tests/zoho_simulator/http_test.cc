// The simulator over real sockets: how requests are read, and what the record says.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "tests/zoho_simulator/simulator_fixture.h"

namespace tokenbroker::zoho_simulator {
namespace {

using testing::HasSubstr;
using testing::Not;

using HttpTest = SimulatorTest;

TEST_F(HttpTest, ConsentExchangeRefreshPeople) {
  Start();
  const std::string url = simulator_->ConsentUrl("us",
                                                 {{"response_type", "code"},
                                                  {"client_id", "1000.APP"},
                                                  {"redirect_uri", kCallback},
                                                  {"scope", "ZOHOPEOPLE.forms.ALL"},
                                                  {"access_type", "offline"}},
                                                 {"ana", "", Environment::kProduction, true});
  const std::string& us = simulator_->dc("us").url();
  ASSERT_EQ(url.substr(0, us.size()), us);
  const HttpResult consent = Call(us, "GET", url.substr(us.size()));
  EXPECT_EQ(consent.status, 302);
  const std::string location = consent.headers.at("location");
  EXPECT_THAT(location, HasSubstr("&accounts-server=http%3A%2F%2F127.0.0.1%3A"));
  const std::string code = Get(ParseForm(location.substr(location.find('?') + 1)), "code");

  const auto exchanged = Json(Call(
      us, "POST", kTokenPath,
      absl::StrCat("grant_type=authorization_code&client_id=1000.APP&client_secret=secret-us&code=",
                   code, "&redirect_uri=", PercentEncode(kCallback))));
  const SeededGrant grant{{}, "us", "1000.APP", exchanged["refresh_token"]};
  const auto refreshed = Json(Refresh(grant));
  const HttpResult people =
      Call(us, "GET", "/people/api/forms", "",
           absl::StrCat("Authorization: Zoho-oauthtoken ",
                        refreshed["access_token"].get<std::string>(), "\r\n"));
  EXPECT_EQ(people.status, 200);
  EXPECT_EQ(Json(people)["response"]["result"][0]["org_id"], "org-a");

  const auto entries = simulator_->log().Entries({});
  ASSERT_EQ(entries.size(), 4u);
  const std::vector<std::string> outcomes = {"code_issued", "minted", "minted", "data"};
  for (size_t i = 0; i < entries.size(); ++i) {
    EXPECT_EQ(entries[i].sequence, i + 1);
    EXPECT_EQ(entries[i].outcome, outcomes[i]);
    EXPECT_EQ(entries[i].dc, "us");
    EXPECT_EQ(entries[i].grant.org_id, "org-a");
    EXPECT_EQ(entries[i].grant.user_id, "ana");
    EXPECT_TRUE(entries[i].finished);
    EXPECT_GE(entries[i].finish_time, entries[i].arrival_time);
    EXPECT_FALSE(entries[i].secret_in_url);
  }
  EXPECT_EQ(entries[2].grant_type, "refresh_token");
  EXPECT_EQ(entries[2].client_id, "1000.APP");
  EXPECT_EQ(entries[2].grant.number, entries[1].grant.number);
  EXPECT_EQ(entries[2].http_status, 200);
}

TEST_F(HttpTest, EachDcIsItsOwnServer) {
  Start();
  const SeededGrant grant = Seed("eu");
  EXPECT_EQ(Refresh(grant).status, 200);
  const HttpResult other = Call(simulator_->dc("us").url(), "POST", kTokenPath,
                                absl::StrCat("grant_type=refresh_token&client_id=1000.APP&client_"
                                             "secret=secret-us&refresh_token=",
                                             grant.refresh_token));
  EXPECT_EQ(other.body, "{\"error\":\"invalid_code\"}");
  RequestFilter eu;
  eu.dc = "eu";
  EXPECT_EQ(simulator_->log().Count(eu), 1);
  EXPECT_EQ(simulator_->ConnectionCount("us"), 1);
  EXPECT_EQ(simulator_->ConnectionCount(), 2);
}

TEST_F(HttpTest, ServerInfoNamesTheSimulatedServers) {
  Start();
  const auto info = Json(Call(simulator_->dc("us").url(), "GET", "/oauth/serverinfo"));
  EXPECT_EQ(info["locations"]["us"], simulator_->dc("us").url());
  EXPECT_EQ(info["locations"]["eu"], simulator_->dc("eu").url());
}

TEST_F(HttpTest, WrongMethodAndMissingGrantTypeAreHtml) {
  Start();
  const std::string& us = simulator_->dc("us").url();
  for (const HttpResult& result :
       {Call(us, "GET", kTokenPath), Call(us, "POST", kTokenPath),
        Call(us, "GET", absl::StrCat(kTokenPath, "?grant_type=refresh_token")),
        Call(us, "POST", kTokenPath, "client_id=1000.APP")}) {
    EXPECT_EQ(result.status, 400);
    EXPECT_THAT(result.headers.at("content-type"), HasSubstr("text/html"));
  }
  EXPECT_EQ(Outcomes("bad_request"), 4);
  EXPECT_EQ(Call(us, "GET", "/nowhere").status, 404);
}

TEST_F(HttpTest, JsonBodiesAreNotUnderstood) {
  Start();
  const SeededGrant grant = Seed();
  const nlohmann::json body = {{"grant_type", "refresh_token"},
                               {"client_id", "1000.APP"},
                               {"client_secret", "secret-us"},
                               {"refresh_token", grant.refresh_token}};
  const HttpResult result = Call(simulator_->dc("us").url(), "POST", kTokenPath, body.dump(),
                                 "Content-Type: application/json\r\n");
  EXPECT_EQ(result.status, 400);
  EXPECT_THAT(result.headers.at("content-type"), HasSubstr("text/html"));
}

TEST_F(HttpTest, MultipartFormsAreUnderstood) {
  Start();
  const SeededGrant grant = Seed();
  std::string body;
  for (const auto& [name, value] :
       std::vector<std::pair<std::string, std::string>>{{"grant_type", "refresh_token"},
                                                        {"client_id", "1000.APP"},
                                                        {"client_secret", "secret-us"},
                                                        {"refresh_token", grant.refresh_token}}) {
    absl::StrAppend(&body, "--XX\r\nContent-Disposition: form-data; name=\"", name, "\"\r\n\r\n",
                    value, "\r\n");
  }
  absl::StrAppend(&body, "--XX--\r\n");
  const HttpResult result = Call(simulator_->dc("us").url(), "POST", kTokenPath, body,
                                 "Content-Type: multipart/form-data; boundary=XX\r\n");
  EXPECT_TRUE(Json(result).contains("access_token")) << result.body;
}

TEST_F(HttpTest, SecretsInTheUrlWorkAndAreRecorded) {
  Start();
  const SeededGrant grant = Seed();
  const HttpResult result =
      Call(simulator_->dc("us").url(), "POST", absl::StrCat(kTokenPath, "?", RefreshBody(grant)));
  EXPECT_TRUE(Json(result).contains("access_token"));
  EXPECT_TRUE(LastEntry().secret_in_url);
  EXPECT_EQ(simulator_->log().Summary().secrets_in_url, 1);
  Refresh(grant);
  EXPECT_FALSE(LastEntry().secret_in_url);
}

TEST_F(HttpTest, HttpsWithItsOwnCertificate) {
  Simulator::Options options = TestOptions();
  options.https = true;
  Start(std::move(options));
  const SeededGrant grant = Seed();
  const std::string& https = simulator_->dc("us").https_url();
  const std::string& ca = simulator_->certificate_pem();
  EXPECT_EQ(Call(https, "POST", kTokenPath, RefreshBody(grant), "", ca).status, 200);
  EXPECT_TRUE(LastEntry().https);
  const std::string by_name = "https://localhost" + https.substr(https.rfind(':'));
  EXPECT_EQ(Call(by_name, "POST", kTokenPath, RefreshBody(grant), "", ca).status, 200);
  EXPECT_EQ(Call(https, "GET", "/oauth/serverinfo", "", "", "").end, HttpResult::End::kTls)
      << "nobody trusts it unasked";
  EXPECT_EQ(Refresh(grant).status, 200) << "HTTP stays";
  EXPECT_EQ(Json(Call(https, "GET", "/oauth/serverinfo", "", "", ca))["locations"]["us"], https);
}

TEST_F(HttpTest, ConnectionsAreNumbered) {
  Start();
  HttpConnection connection(simulator_->dc("us").url());
  for (int i = 0; i < 3; ++i) {
    connection.Request("GET", "/oauth/serverinfo");
    EXPECT_EQ(connection.Read().status, 200);
  }
  Call(simulator_->dc("us").url(), "GET", "/oauth/serverinfo");
  std::set<uint64_t> ids;
  for (const RequestEntry& entry : simulator_->log().Entries({})) ids.insert(entry.connection_id);
  EXPECT_EQ(ids.size(), 2u);
  EXPECT_EQ(simulator_->ConnectionCount("us"), 2);
}

TEST_F(HttpTest, PipelinedRequestsAreAnsweredInOrder) {
  Start();
  HttpConnection connection(simulator_->dc("us").url());
  const std::string one = "GET /oauth/serverinfo HTTP/1.1\r\nHost: x\r\n\r\n";
  const std::string two = "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n";
  ASSERT_TRUE(connection.Send(one + two + one));
  EXPECT_EQ(connection.Read().status, 200);
  EXPECT_EQ(connection.Read().status, 404);
  EXPECT_EQ(connection.Read().status, 200);
}

TEST_F(HttpTest, ConnectionCloseIsHonoured) {
  Start();
  HttpConnection connection(simulator_->dc("us").url());
  connection.Request("GET", "/oauth/serverinfo", "", "Connection: close\r\n");
  EXPECT_EQ(connection.Read().headers.at("connection"), "close");
  EXPECT_EQ(connection.Read().end, HttpResult::End::kClosed);
}

TEST_F(HttpTest, WhatIsNotHttpGets400) {
  Start();
  HttpConnection connection(simulator_->dc("us").url());
  ASSERT_TRUE(connection.Send("this is not HTTP\r\n\r\n"));
  EXPECT_EQ(connection.Read().status, 400);
}

TEST_F(HttpTest, TimeCanBeAdvanced) {
  Start();
  const SeededGrant grant = Seed();
  const std::string access_token = Json(Refresh(grant))["access_token"];
  const std::string header = absl::StrCat("Authorization: Zoho-oauthtoken ", access_token, "\r\n");
  const std::string& us = simulator_->dc("us").url();
  EXPECT_EQ(Call(us, "GET", "/people/api/forms", "", header).status, 200);
  const absl::Time before = simulator_->now();
  simulator_->AdvanceTime(absl::Seconds(3601));
  EXPECT_GE(simulator_->now() - before, absl::Seconds(3601));
  EXPECT_EQ(Call(us, "GET", "/people/api/forms", "", header).status, 401);
}

TEST_F(HttpTest, TheClockCanBeInjected) {
  const absl::Time fixed = absl::FromUnixSeconds(1'700'000'000);
  Simulator::Options options = TestOptions();
  options.now = [fixed] { return fixed; };
  Start(std::move(options));
  Call(simulator_->dc("us").url(), "GET", "/oauth/serverinfo");
  EXPECT_EQ(LastEntry().arrival_time, fixed);
}

TEST_F(HttpTest, ThrottleCountsAcrossConnections) {
  Start();
  const SeededGrant grant = Seed();
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Refresh(grant).status, 200);
  const HttpResult result = Refresh(grant);
  EXPECT_EQ(result.status, 400);
  EXPECT_EQ(Json(result)["status"], "failure");
  EXPECT_EQ(result.headers.count("retry-after"), 0u);
  EXPECT_EQ(Outcomes("minted"), 10);
  EXPECT_EQ(Outcomes("throttled"), 1);
}

TEST_F(HttpTest, ACallerThatWaitsNeverOverlapsItself) {
  Simulator::Options options = TestOptions();
  options.threads = 2;
  options.behaviour.limits.mints = 0;
  Start(std::move(options));
  const SeededGrant grant = Seed();
  for (int i = 0; i < 200; ++i) ASSERT_EQ(Refresh(grant).status, 200);
  EXPECT_EQ(simulator_->log().MaxInFlightPerGrant(), 1);
  EXPECT_EQ(simulator_->log().MaxInFlight(grant.identity.number), 1);
}

TEST_F(HttpTest, OverlapsAreSeenPerGrant) {
  Start();
  FaultRule hang;
  hang.fault.kind = FaultKind::kHang;
  simulator_->AddFault(hang);
  const SeededGrant one = Seed();
  const SeededGrant other = Seed();
  std::vector<HttpConnection> connections;
  for (const SeededGrant* grant : {&one, &one, &one, &other}) {
    connections.emplace_back(simulator_->dc("us").url());
    connections.back().Request("POST", kTokenPath, RefreshBody(*grant));
  }
  ASSERT_TRUE(simulator_->log().WaitForCount({}, 4, kPatience));
  EXPECT_EQ(simulator_->log().MaxInFlight(one.identity.number), 3);
  EXPECT_EQ(simulator_->log().MaxInFlight(other.identity.number), 1);
  EXPECT_EQ(simulator_->log().MaxInFlightPerGrant(), 3);
  EXPECT_EQ(simulator_->log().Summary().in_flight, 4);
  simulator_->ClearFaults();
  for (HttpConnection& connection : connections) EXPECT_EQ(connection.Read().status, 200);
  EXPECT_EQ(simulator_->log().Summary().in_flight, 0);
  simulator_->log().Clear();
  EXPECT_EQ(simulator_->log().MaxInFlightPerGrant(), 0);
}

TEST_F(HttpTest, ATakenPortIsReported) {
  Start();
  const std::string& url = simulator_->dc("us").url();
  Simulator::Options options;
  options.dcs = {
      {.name = "us", .port = static_cast<uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)))}};
  EXPECT_EQ(Simulator::Create(options).status().code(), absl::StatusCode::kUnavailable);
  options.dcs = {{.name = "us"}, {.name = "us"}};
  EXPECT_EQ(Simulator::Create(options).status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(HttpTest, AllElevenDataCentresInOneProcess) {
  Simulator::Options options;
  for (const DataCentre& dc : RealDataCentres()) options.dcs.push_back({.name = dc.name});
  Start(std::move(options));
  for (const DataCentre& dc : RealDataCentres()) {
    EXPECT_EQ(Call(simulator_->dc(dc.name).url(), "GET", "/oauth/serverinfo").status, 200);
  }
  const auto locations =
      Json(Call(simulator_->dc("us").url(), "GET", "/oauth/serverinfo"))["locations"];
  EXPECT_EQ(locations.size(), 10u);
  EXPECT_FALSE(locations.contains("cn"));
}

}  // namespace
}  // namespace tokenbroker::zoho_simulator
