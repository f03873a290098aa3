// The token endpoint: facts section 4, its table of grants and its table of errors.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/zoho_simulator/state_fixture.h"

namespace tokenbroker::zoho_simulator {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

using TokenEndpointTest = StateTest;

void ExpectError(const AccountsReply& reply, const std::string& error) {
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, "{\"error\":\"" + error + "\"}");
  EXPECT_EQ(reply.outcome, error);
}

TEST_F(TokenEndpointTest, CodeExchange) {
  const AccountsReply reply = Token(ExchangeParameters(Code()));
  EXPECT_EQ(reply.status, 200);
  EXPECT_THAT(reply.content_type, HasSubstr("application/json"));
  EXPECT_EQ(reply.outcome, "minted");
  const auto body = Json(reply);
  constexpr char kShape[] = "1000\\.[0-9a-f]+\\.[0-9a-f]+";
  EXPECT_THAT(body.value("access_token", ""), MatchesRegex(kShape));
  EXPECT_THAT(body.value("refresh_token", ""), MatchesRegex(kShape));
  EXPECT_EQ(body["scope"], "ZOHOPEOPLE.forms.ALL");
  EXPECT_EQ(body["api_domain"], "https://www.zohoapis.com");
  EXPECT_EQ(body["token_type"], "Bearer");
  EXPECT_EQ(body["expires_in"], 3600);
  EXPECT_FALSE(body.contains("expires_in_sec"));
}

TEST_F(TokenEndpointTest, RefreshGivesNoRefreshToken) {
  const auto body = Json(Refresh(NewRefreshToken()));
  EXPECT_TRUE(body.contains("access_token"));
  EXPECT_FALSE(body.contains("refresh_token"));
  EXPECT_EQ(body["expires_in"], 3600);
  EXPECT_EQ(body["api_domain"], "https://www.zohoapis.com");
}

TEST_F(TokenEndpointTest, ApiDomainFollowsDcAndEnvironment) {
  const auto api_domain = [&](const char* user, const char* environment, const char* dc,
                              const char* secret) {
    Parameters parameters = ConsentParameters();
    parameters["sim_user"] = user;
    parameters["sim_environment"] = environment;
    Parameters exchange = ExchangeParameters(Code(parameters));
    exchange["client_secret"] = secret;
    return Json(Token(exchange, dc)).value("api_domain", "");
  };
  EXPECT_EQ(api_domain("ana", "SANDBOX", "us", "secret-us"), "https://sandbox.zohoapis.com");
  EXPECT_EQ(api_domain("eva", "PRODUCTION", "eu", "secret-eu"), "https://www.zohoapis.eu");
  SeedOptions developer;
  developer.environment = Environment::kDeveloper;
  const auto seeded = state_.SeedGrants("us", "1000.APP", 1, developer, now_).value();
  EXPECT_EQ(Json(Refresh(seeded[0].refresh_token))["api_domain"], "https://developer.zohoapis.com");
  Change([](Behaviour& behaviour) { behaviour.api_domain = "http://127.0.0.1:1"; });
  EXPECT_EQ(api_domain("ana", "SANDBOX", "us", "secret-us"), "http://127.0.0.1:1");
}

TEST_F(TokenEndpointTest, UnknownClientIsInvalidClient) {
  Parameters parameters = RefreshParameters(NewRefreshToken());
  parameters["client_id"] = "1000.NOBODY";
  ExpectError(Token(parameters), "invalid_client");
  parameters.erase("client_id");
  ExpectError(Token(parameters), "invalid_client");
}

TEST_F(TokenEndpointTest, ClientOfAnotherDcIsInvalidClient) {
  Parameters parameters = RefreshParameters("x");
  parameters["client_id"] = "1000.USONLY";
  parameters["client_secret"] = "secret-usonly";
  ExpectError(Token(parameters, "us"), "invalid_code");
  ExpectError(Token(parameters, "eu"), "invalid_client");
  ClientConfig careless;
  careless.client_id = "1000.CARELESS";
  careless.home_dc = "us";
  careless.same_secret_everywhere = true;  // means nothing without Multi-DC
  careless.secrets = {{"us", "secret-us"}};
  ASSERT_TRUE(state_.AddClient(careless).ok());
  parameters["client_id"] = "1000.CARELESS";
  parameters["client_secret"] = "secret-us";
  ExpectError(Token(parameters, "us"), "invalid_code");
  ExpectError(Token(parameters, "eu"), "invalid_client");
  // Multi-DC helps only where the client has been given a secret.
  ExpectError(Token(RefreshParameters("x"), "cn"), "invalid_client");
}

TEST_F(TokenEndpointTest, BadGrantTypeIsInvalidClient) {
  Parameters parameters = RefreshParameters(NewRefreshToken());
  parameters["grant_type"] = "password";
  ExpectError(Token(parameters), "invalid_client");
}

TEST_F(TokenEndpointTest, WrongSecret) {
  Parameters parameters = RefreshParameters(NewRefreshToken());
  parameters["client_secret"] = "wrong";
  ExpectError(Token(parameters), "invalid_client_secret");
  parameters["client_secret"] = "secret-eu";  // of another DC
  ExpectError(Token(parameters), "invalid_client_secret");
  parameters.erase("client_secret");
  ExpectError(Token(parameters), "invalid_client_secret");
  // As in the guide.
  Change([](Behaviour& behaviour) { behaviour.wrong_secret_error = "invalid_client"; });
  EXPECT_EQ(Token(parameters).body, "{\"error\":\"invalid_client\"}");
}

TEST_F(TokenEndpointTest, ForeignCode) {
  ExpectError(Token(ExchangeParameters("1000.no.code")), "invalid_code");
  Parameters parameters = ExchangeParameters(Code());
  parameters["client_id"] = "1000.USONLY";
  parameters["client_secret"] = "secret-usonly";
  ExpectError(Token(parameters), "invalid_code");
}

TEST_F(TokenEndpointTest, BadRefreshTokens) {
  ExpectError(Refresh("1000.no.token"), "invalid_code");
  const std::string refresh_token = NewRefreshToken();
  // Of another client.
  Parameters other_client = RefreshParameters(refresh_token);
  other_client["client_id"] = "1000.USONLY";
  other_client["client_secret"] = "secret-usonly";
  ExpectError(Token(other_client), "invalid_code");
  // In another DC.
  Parameters other_dc = RefreshParameters(refresh_token);
  other_dc["client_secret"] = "secret-eu";
  ExpectError(Token(other_dc, "eu"), "invalid_code");
  EXPECT_EQ(Refresh(refresh_token).outcome, "minted") << "none of it harmed the grant";
}

TEST_F(TokenEndpointTest, RedirectUriMustBeTheSame) {
  Parameters parameters = ExchangeParameters(Code());
  parameters["redirect_uri"] = "https://app.example/other";
  ExpectError(Token(parameters), "invalid_redirect_uri");
  parameters.erase("redirect_uri");
  ExpectError(Token(parameters), "invalid_redirect_uri");
  parameters["redirect_uri"] = kCallback;
  EXPECT_EQ(Token(parameters).outcome, "minted") << "the code was not spent";
}

TEST_F(TokenEndpointTest, NoGrantTypeIsAnHtmlPage) {
  const AccountsReply reply = Token({{"client_id", "1000.APP"}});
  EXPECT_EQ(reply.status, 400);
  EXPECT_THAT(reply.content_type, HasSubstr("text/html"));
  EXPECT_EQ(reply.outcome, "bad_request");
}

class ClientCredentialsTest : public StateTest {
 protected:
  static Parameters Request(const std::string& soid) {
    return {{"grant_type", "client_credentials"},
            {"client_id", "1000.SELF"},
            {"client_secret", "secret-self"},
            {"scope", "ZOHOPEOPLE.forms.READ,ZOHOPEOPLE.leave.READ"},
            {"soid", soid}};
  }
};

TEST_F(ClientCredentialsTest, GivesAnAccessTokenForTheOrg) {
  const AccountsReply reply = Token(Request("ZohoPeople.100"));
  const auto body = Json(reply);
  EXPECT_TRUE(body.contains("access_token"));
  EXPECT_FALSE(body.contains("refresh_token"));
  EXPECT_EQ(body["scope"], "ZOHOPEOPLE.forms.READ ZOHOPEOPLE.leave.READ");
  const auto data = Json(CallPeople(body["access_token"]))["response"]["result"][0];
  EXPECT_EQ(data["org_id"], "org-a");
  EXPECT_EQ(data["environment"], "PRODUCTION");
  EXPECT_EQ(Token(Request("ZohoPeople.101")).grant.environment, Environment::kSandbox);
}

TEST_F(ClientCredentialsTest, WithoutOrg) {
  for (const char* soid : {"", "100", "ZohoPeople.", "ZohoPeople.999", ".100"}) {
    SCOPED_TRACE(soid);
    ExpectError(Token(Request(soid)), "missing_org_info");
  }
  Parameters parameters = Request("");
  parameters.erase("soid");
  ExpectError(Token(parameters), "missing_org_info");
}

TEST_F(ClientCredentialsTest, BadScopeAndBadClient) {
  Parameters parameters = Request("ZohoPeople.100");
  parameters["scope"] = "nonsense";
  ExpectError(Token(parameters), "invalid_scope");
  parameters = Request("ZohoPeople.100");
  parameters["client_id"] = "1000.APP";
  parameters["client_secret"] = "secret-us";
  ExpectError(Token(parameters), "invalid_client");
}

TEST_F(ClientCredentialsTest, IsThrottledPerOrg) {
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Token(Request("ZohoPeople.100")).outcome, "minted");
  EXPECT_EQ(Token(Request("ZohoPeople.100")).outcome, "throttled");
  EXPECT_EQ(Token(Request("ZohoPeople.101")).outcome, "minted");
}

TEST_F(TokenEndpointTest, ExpiresInQuirk) {
  const std::string refresh_token = NewRefreshToken();
  Change([](Behaviour& b) { b.expires_in = ExpiresInStyle::kMillisecondsWithSeconds; });
  auto body = Json(Refresh(refresh_token));
  EXPECT_EQ(body["expires_in"], 3600000);
  EXPECT_EQ(body["expires_in_sec"], 3600);
  Change([](Behaviour& b) { b.expires_in = ExpiresInStyle::kMillisecondsOnly; });
  body = Json(Refresh(refresh_token));
  EXPECT_EQ(body["expires_in"], 3600000);
  EXPECT_FALSE(body.contains("expires_in_sec"));
  Change([](Behaviour& b) { b.expires_in = ExpiresInStyle::kAbsent; });
  EXPECT_FALSE(Json(Refresh(refresh_token)).contains("expires_in"));
}

TEST_F(TokenEndpointTest, ScopeInRepliesIsOptional) {
  Change([](Behaviour& behaviour) { behaviour.scope_in_replies = false; });
  EXPECT_FALSE(Json(Refresh(NewRefreshToken())).contains("scope"));
}

TEST_F(TokenEndpointTest, AccessTokensExpire) {
  const std::string refresh_token = NewRefreshToken();
  Change([](Behaviour& behaviour) { behaviour.access_token_life = absl::Seconds(5); });
  const auto body = Json(Refresh(refresh_token));
  EXPECT_EQ(body["expires_in"], 5);
  const std::string access_token = body["access_token"];
  Pass(absl::Seconds(4));
  EXPECT_EQ(state_.AccessTokenState(access_token, now_), "live");
  EXPECT_EQ(CallPeople(access_token).outcome, "data");
  Pass(absl::Seconds(1));
  EXPECT_EQ(state_.AccessTokenState(access_token, now_), "expired");
  EXPECT_EQ(CallPeople(access_token).outcome, "token_dead");
}

TEST_F(TokenEndpointTest, ARefreshTokenStaysInItsOrgAndEnvironment) {
  Parameters parameters = ConsentParameters();
  parameters["sim_org"] = "org-a";
  parameters["sim_environment"] = "SANDBOX";
  const auto made = Json(Token(ExchangeParameters(Code(parameters))));
  const auto refreshed = Json(Refresh(made["refresh_token"]));
  const auto data = Json(CallPeople(refreshed["access_token"]))["response"]["result"][0];
  EXPECT_EQ(data["org_id"], "org-a");
  EXPECT_EQ(data["environment"], "SANDBOX");
}

class RotationTest : public StateTest {
 protected:
  void Rotate(absl::Duration leeway, bool reuse_revokes = false) {
    Change([&](Behaviour& behaviour) {
      behaviour.rotate_refresh_tokens = true;
      behaviour.rotation_leeway = leeway;
      behaviour.rotation_reuse_revokes = reuse_revokes;
    });
  }
};

TEST_F(RotationTest, IsOffByDefault) {
  const std::string refresh_token = NewRefreshToken();
  EXPECT_EQ(Refresh(refresh_token).outcome, "minted");
  EXPECT_EQ(Refresh(refresh_token).outcome, "minted");
}

TEST_F(RotationTest, StrictRotationKillsThePredecessorAtOnce) {
  Rotate(absl::ZeroDuration());
  const std::string first = NewRefreshToken();
  const std::string second = Json(Refresh(first)).value("refresh_token", "");
  EXPECT_NE(second, "");
  EXPECT_NE(second, first);
  ExpectError(Refresh(first), "invalid_code");
  EXPECT_EQ(Refresh(second).outcome, "minted");
}

TEST_F(RotationTest, InTheLeewayThePredecessorGetsTheSameSuccessor) {
  Rotate(absl::Seconds(30));
  const std::string first = NewRefreshToken();
  const std::string second = Json(Refresh(first)).value("refresh_token", "");
  Pass(absl::Seconds(29));
  EXPECT_EQ(Json(Refresh(first)).value("refresh_token", ""), second);
  Pass(absl::Seconds(1));
  ExpectError(Refresh(first), "invalid_code");
  EXPECT_EQ(Refresh(second).outcome, "minted");
}

TEST_F(RotationTest, ReuseCanKillTheGrant) {
  Rotate(absl::ZeroDuration(), true);
  const std::string first = NewRefreshToken();
  const auto second = Json(Refresh(first));
  ExpectError(Refresh(first), "invalid_code");
  ExpectError(Refresh(second["refresh_token"]), "invalid_code");
  EXPECT_EQ(CallPeople(second["access_token"]).outcome, "token_dead");
}

TEST_F(RotationTest, TheGrantKeepsItsNumberAndItsBudget) {
  Rotate(absl::ZeroDuration());
  std::string token = NewRefreshToken();
  const uint64_t number = state_.Identify("us", RefreshParameters(token), "").number;
  for (int i = 0; i < 10; ++i) {
    const AccountsReply reply = Refresh(token);
    EXPECT_EQ(reply.grant.number, number);
    token = Json(reply).value("refresh_token", "");
  }
  EXPECT_EQ(state_.RefreshTokenOf(number), token);
  EXPECT_EQ(Refresh(token).outcome, "throttled");
}

}  // namespace
}  // namespace tokenbroker::zoho_simulator
