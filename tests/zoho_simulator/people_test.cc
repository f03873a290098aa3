// Revocation, the device flow, the People API and set-up: facts sections 2, 4, 6 and 7.

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "absl/strings/escaping.h"
#include "tests/zoho_simulator/state_fixture.h"

namespace tokenbroker::zoho_simulator {
namespace {

using RevocationTest = StateTest;

TEST_F(RevocationTest, ARefreshTokenTakesItsAccessTokensAlong) {
  const std::string refresh_token = NewRefreshToken();
  const std::string access_token = Json(Refresh(refresh_token))["access_token"];
  const AccountsReply reply = state_.Revoke("us", {{"token", refresh_token}}, now_);
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, "{\"status\":\"success\"}");
  EXPECT_EQ(Refresh(refresh_token).outcome, "invalid_code");
  EXPECT_EQ(CallPeople(access_token).outcome, "token_dead");
  EXPECT_EQ(state_.Revoke("us", {{"token", refresh_token}}, now_).status, 400);
}

TEST_F(RevocationTest, AnAccessTokenGoesAlone) {
  const std::string refresh_token = NewRefreshToken();
  const std::string access_token = Json(Refresh(refresh_token))["access_token"];
  EXPECT_EQ(state_.Revoke("us", {{"token", access_token}}, now_).status, 200);
  EXPECT_EQ(CallPeople(access_token).outcome, "token_dead");
  EXPECT_EQ(Refresh(refresh_token).outcome, "minted");
}

TEST_F(RevocationTest, InvalidTokensAndOtherDcs) {
  const std::string refresh_token = NewRefreshToken();
  const AccountsReply reply = state_.Revoke("us", {{"token", "1000.no.token"}}, now_);
  EXPECT_EQ(reply.status, 400);
  EXPECT_FALSE(Json(reply).contains("status")) << "would look like the throttle";
  EXPECT_EQ(state_.Revoke("us", {}, now_).status, 400);
  EXPECT_EQ(state_.Revoke("eu", {{"token", refresh_token}}, now_).status, 400);
  EXPECT_EQ(Refresh(refresh_token).outcome, "minted");
}

TEST_F(RevocationTest, TheNewerEndpointWantsTheClient) {
  const std::string refresh_token = NewRefreshToken();
  const auto revoke = [&](const std::string& user_and_password) {
    return state_.RevokeWithBasicAuth("us", "Basic " + absl::Base64Escape(user_and_password),
                                      {{"token", refresh_token}, {"token_type", "refresh_token"}},
                                      now_);
  };
  EXPECT_EQ(revoke("1000.APP:wrong").status, 401);
  EXPECT_EQ(revoke("1000.APP").status, 401);
  EXPECT_EQ(state_.RevokeWithBasicAuth("us", "", {{"token", refresh_token}}, now_).status, 401);
  EXPECT_EQ(revoke("1000.USONLY:secret-usonly").status, 400) << "not its token";
  EXPECT_EQ(Refresh(refresh_token).outcome, "minted");
  EXPECT_EQ(revoke("1000.APP:secret-us").status, 200);
  EXPECT_EQ(Refresh(refresh_token).outcome, "invalid_code");
}

TEST_F(RevocationTest, BehindTheAppsBack) {
  const std::string refresh_token = NewRefreshToken();
  const auto refreshed = Json(Refresh(refresh_token));
  EXPECT_EQ(state_.KillAccessTokens("org-a"), 2);  // the exchange's and the refresh's
  EXPECT_EQ(CallPeople(refreshed["access_token"]).outcome, "token_dead");
  EXPECT_EQ(Refresh(refresh_token).outcome, "minted");
  EXPECT_EQ(state_.TerminateUserTokens("ana"), 1);
  EXPECT_EQ(Refresh(refresh_token).outcome, "invalid_code");
}

TEST_F(RevocationTest, DeletingAClientDeletesItsTokens) {
  const std::string refresh_token = NewRefreshToken();
  const std::string access_token = Json(Refresh(refresh_token))["access_token"];
  const std::string code = Code();
  ASSERT_TRUE(state_.DeleteClient("1000.APP").ok());
  EXPECT_EQ(Refresh(refresh_token).outcome, "invalid_client");
  EXPECT_EQ(Token(ExchangeParameters(code)).outcome, "invalid_client");
  EXPECT_EQ(CallPeople(access_token).outcome, "token_dead");
  EXPECT_EQ(state_.DeleteClient("1000.APP").code(), absl::StatusCode::kNotFound);
}

class DeviceFlowTest : public StateTest {
 protected:
  static constexpr char kTv[] = "1004.TV";

  nlohmann::json Start(const std::string& access_type = "offline") {
    return Json(state_.DeviceCode("us",
                                  {{"grant_type", "device_request"},
                                   {"client_id", kTv},
                                   {"scope", "ZOHOPEOPLE.forms.READ"},
                                   {"access_type", access_type}},
                                  now_));
  }
  AccountsReply Poll(const nlohmann::json& started, std::string_view dc = "us") {
    return state_.DeviceToken(dc,
                              {{"grant_type", "device_token"},
                               {"client_id", kTv},
                               {"client_secret", "secret-tv"},
                               {"code", started["device_code"].get<std::string>()}},
                              now_);
  }
  AccountsReply Decide(const nlohmann::json& started, const std::string& user,
                       const std::string& decision = "accept") {
    return state_.DevicePage("us",
                             {{"user_code", started["user_code"].get<std::string>()},
                              {"sim_user", user},
                              {"sim_decision", decision}},
                             "/oauth/v3/device", now_);
  }
};

TEST_F(DeviceFlowTest, FromCodeToToken) {
  const auto started = Start();
  EXPECT_EQ(started["interval"], 5000) << "milliseconds";
  EXPECT_EQ(started["expires_in"], 300000) << "milliseconds";
  EXPECT_EQ(Poll(started).body, "{\"error\":\"authorization_pending\"}");
  EXPECT_EQ(Poll(started).body, "{\"error\":\"slow_down\"}");
  EXPECT_EQ(Decide(started, "ana").outcome, "device_accepted");
  Pass(absl::Seconds(5));
  const auto body = Json(Poll(started));
  EXPECT_EQ(body["access_token"].get<std::string>().substr(0, 5), "1004.");
  EXPECT_EQ(body["refresh_token"].get<std::string>().substr(0, 5), "1004.");
  EXPECT_EQ(Poll(started).outcome, "invalid_code") << "once";
  EXPECT_EQ(CallPeople(body["access_token"]).outcome, "data");
}

TEST_F(DeviceFlowTest, OnlineGivesNoRefreshToken) {
  const auto started = Start("online");
  Decide(started, "ana");
  EXPECT_FALSE(Json(Poll(started)).contains("refresh_token"));
}

TEST_F(DeviceFlowTest, Refused) {
  const auto started = Start();
  Decide(started, "ana", "refuse");
  EXPECT_EQ(Poll(started).body, "{\"error\":\"access_denied\"}");
}

TEST_F(DeviceFlowTest, Expired) {
  const auto started = Start();
  Pass(absl::Seconds(300));
  EXPECT_EQ(Poll(started).body, "{\"error\":\"expired\"}");
  EXPECT_EQ(Decide(started, "ana").status, 400);
}

TEST_F(DeviceFlowTest, AUserOfAnotherDc) {
  const auto started = Start();
  Decide(started, "eva");
  EXPECT_EQ(Poll(started).body, "{\"error\":\"other_dc\",\"user_location\":\"eu\"}");
  EXPECT_EQ(Poll(started, "eu").outcome, "minted");
}

TEST_F(DeviceFlowTest, BadRequests) {
  EXPECT_EQ(
      state_.DeviceCode("us", {{"grant_type", "device_request"}, {"client_id", "1000.APP"}}, now_)
          .outcome,
      "invalid_client");
  EXPECT_EQ(
      state_
          .DeviceCode("us", {{"grant_type", "device_request"}, {"client_id", kTv}, {"scope", "x"}},
                      now_)
          .outcome,
      "invalid_scope");
  EXPECT_EQ(Poll({{"device_code", "1004.no.code"}}).outcome, "invalid_code");
  const auto started = Start();
  Decide(started, "ana");
  Parameters poll = {{"grant_type", "authorization_code"},
                     {"client_id", kTv},
                     {"client_secret", "secret-tv"},
                     {"code", started["device_code"].get<std::string>()}};
  EXPECT_EQ(state_.DeviceToken("us", poll, now_).outcome, "invalid_client") << "grant_type";
  poll["grant_type"] = "device_token";
  poll["client_secret"] = "wrong";
  EXPECT_EQ(state_.DeviceToken("us", poll, now_).outcome, "invalid_client_secret");
  EXPECT_EQ(Token(poll).outcome, "invalid_client") << "it has an endpoint of its own";
  EXPECT_EQ(Poll(started).outcome, "minted");
  EXPECT_EQ(state_.DevicePage("us", {{"user_code", "NONE"}}, "/", now_).status, 400);
}

class PeopleTest : public StateTest {
 protected:
  static int CodeOf(const AccountsReply& reply) {
    EXPECT_EQ(reply.status, 401);
    return Json(reply)["response"]["errors"]["code"];
  }
};

TEST_F(PeopleTest, NamesOrgAndEnvironment) {
  const std::string access_token = Json(Refresh(NewRefreshToken()))["access_token"];
  const AccountsReply reply = CallPeople(access_token);
  EXPECT_EQ(reply.status, 200);
  const auto data = Json(reply)["response"]["result"][0];
  EXPECT_EQ(data["org_id"], "org-a");
  EXPECT_EQ(data["environment"], "PRODUCTION");
  EXPECT_EQ(data["dc"], "us");
  EXPECT_EQ(CallPeople(access_token, "us", "GET", "/people/api/forms/x/getRecords").status, 200);
}

TEST_F(PeopleTest, MissingCredentialIs7202) {
  const std::string access_token = Json(Refresh(NewRefreshToken()))["access_token"];
  EXPECT_EQ(CodeOf(state_.People("us", "GET", "/people/api/forms", "", now_)), 7202);
  EXPECT_EQ(CodeOf(state_.People("us", "GET", "/people/api/forms", "Bearer " + access_token, now_)),
            7202);
}

TEST_F(PeopleTest, DeadTokenIs7213) {
  const std::string access_token = Json(Refresh(NewRefreshToken()))["access_token"];
  EXPECT_EQ(CodeOf(CallPeople("1000.no.token")), 7213);
  EXPECT_EQ(CodeOf(CallPeople(access_token, "eu")), 7213) << "wrong DC";
  Pass(absl::Seconds(3600));
  EXPECT_EQ(CodeOf(CallPeople(access_token)), 7213) << "expired";
}

TEST_F(PeopleTest, MissingScopeIs7218) {
  Parameters parameters = ConsentParameters();
  parameters["scope"] = "ZOHOPEOPLE.forms.READ,zohopeople.leave.all";
  const std::string token = Json(Token(ExchangeParameters(Code(parameters))))["access_token"];
  EXPECT_EQ(CallPeople(token, "us", "GET", "/people/api/forms").status, 200);
  EXPECT_EQ(CodeOf(CallPeople(token, "us", "POST", "/people/api/forms")), 7218);
  EXPECT_EQ(CodeOf(CallPeople(token, "us", "GET", "/people/api/attendance")), 7218);
  EXPECT_EQ(CallPeople(token, "us", "DELETE", "/people/api/leave/7").status, 200);
}

using SetUpTest = StateTest;

TEST_F(SetUpTest, ContradictionsAreRefused) {
  ClientConfig client;
  client.client_id = "1000.NEW";
  client.home_dc = "us";
  client.secrets = {{"us", "s"}};
  const auto refused = [&](const std::function<void(ClientConfig&)>& change) {
    ClientConfig changed = client;
    change(changed);
    return state_.AddClient(changed).code();
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(refused([](auto& c) { c.client_id = ""; }), kInvalid);
  EXPECT_EQ(refused([](auto& c) { c.home_dc = "in"; }), kInvalid);
  EXPECT_EQ(refused([](auto& c) { c.secrets = {{"eu", "s"}}; }), kInvalid);
  EXPECT_EQ(refused([](auto& c) { c.secrets["eu"] = "s"; }), kInvalid) << "needs Multi-DC";
  EXPECT_EQ(refused([](auto& c) {
              c.type = ClientType::kSelfClient;
              c.multi_dc = true;
            }),
            kInvalid)
      << "Multi-DC is not for Self Clients";
  EXPECT_EQ(refused([](auto& c) { c.client_id = "1000.APP"; }), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(refused([](auto&) {}), absl::StatusCode::kOk);
  EXPECT_EQ(state_.AddUser({"u", "in", {{"o", "", {}}}}).code(), kInvalid);
  EXPECT_EQ(state_.AddUser({"u", "us", {}}).code(), kInvalid);
  EXPECT_EQ(state_.AddUser({"ana", "us", {{"o", "", {}}}}).code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(state_.AddDc("us", {}).code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(SetUpTest, TheElevenDataCentres) {
  // The last label of Zoho's three domains in each DC; Canada alone has another domain for two.
  const std::map<std::string, std::string> kSuffixes = {
      {"us", "com"}, {"eu", "eu"}, {"in", "in"}, {"au", "com.au"}, {"jp", "jp"}, {"cn", "com.cn"},
      {"ca", "ca"},  {"sa", "sa"}, {"uk", "uk"}, {"ae", "ae"},     {"sg", "sg"}};
  ASSERT_EQ(RealDataCentres().size(), kSuffixes.size());
  for (const auto& [name, suffix] : kSuffixes) {
    SCOPED_TRACE(name);
    const DataCentre* dc = FindRealDataCentre(name);
    ASSERT_NE(dc, nullptr);
    const std::string zoho = name == "ca" ? "zohocloud." : "zoho.";
    EXPECT_EQ(dc->accounts_server, "https://accounts." + zoho + suffix);
    EXPECT_EQ(dc->api_domain, "https://www.zohoapis." + suffix);
    EXPECT_EQ(dc->people_host, "people." + zoho + suffix);
  }
}

TEST_F(SetUpTest, IdentifyNamesTheGrantWithoutProcessing) {
  const std::string refresh_token = NewRefreshToken();
  const GrantIdentity identity = state_.Identify("us", RefreshParameters(refresh_token), "");
  EXPECT_NE(identity.number, 0u);
  EXPECT_EQ(identity.user_id, "ana");
  EXPECT_EQ(identity.org_id, "org-a");
  EXPECT_EQ(state_.Identify("us", ExchangeParameters(Code()), "").org_id, "org-a");
  const std::string access_token = Json(Refresh(refresh_token))["access_token"];
  EXPECT_EQ(state_.Identify("us", {}, "Zoho-oauthtoken " + access_token).number, identity.number);
  EXPECT_EQ(state_.Identify("us", RefreshParameters("x"), "").number, 0u);
}

}  // namespace
}  // namespace tokenbroker::zoho_simulator
