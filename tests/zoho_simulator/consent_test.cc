// The authorization endpoint: facts section 3 and the guide's step 2.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/zoho_simulator/state_fixture.h"

namespace tokenbroker::zoho_simulator {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

using ConsentTest = StateTest;

TEST_F(ConsentTest, RedirectsAsObserved) {
  Parameters parameters = ConsentParameters();
  parameters["state"] = "a b&c";
  const AccountsReply reply = Authorize("us", parameters);
  EXPECT_EQ(reply.status, 302);
  EXPECT_EQ(reply.outcome, "code_issued");
  // State first, code, location, accounts-server URL-encoded, and an ampersand at the end.
  EXPECT_THAT(reply.location,
              MatchesRegex("https://app\\.example/callback\\?state=a%20b%26c&code=1000\\.[0-9a-f]+"
                           "\\.[0-9a-f]+&location=us&accounts-server="
                           "https%3A%2F%2Faccounts\\.zoho\\.com&"));
  EXPECT_EQ(Redirected(reply, "code").size(), 5u + 32 + 1 + 32);
}

TEST_F(ConsentTest, NoStateMeansNoStateParameter) {
  EXPECT_THAT(Authorize("us", ConsentParameters()).location,
              MatchesRegex("https://app\\.example/callback\\?code=.*&"));
}

TEST_F(ConsentTest, RefusalIsReportedToTheApp) {
  Parameters parameters = ConsentParameters();
  parameters["sim_decision"] = "refuse";
  parameters["state"] = "s1";
  const AccountsReply reply = Authorize("us", parameters);
  EXPECT_EQ(Redirected(reply, "error"), "access_denied");
  EXPECT_EQ(Redirected(reply, "state"), "s1");
  EXPECT_EQ(Redirected(reply, "code"), "");
  EXPECT_EQ(reply.outcome, "access_denied");
}

struct ErrorPageCase {
  const char* name;
  const char* parameter;
  const char* value;  // nullptr: left out
  const char* error;
};

class ConsentErrorTest : public StateTest, public testing::WithParamInterface<ErrorPageCase> {};

TEST_P(ConsentErrorTest, ShowsAPageAndDoesNotRedirect) {
  Parameters parameters = ConsentParameters();
  if (GetParam().value == nullptr) {
    parameters.erase(GetParam().parameter);
  } else {
    parameters[GetParam().parameter] = GetParam().value;
  }
  const AccountsReply reply = Authorize("us", parameters);
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.location, "");
  EXPECT_THAT(reply.content_type, HasSubstr("text/html"));
  EXPECT_THAT(reply.body, HasSubstr(std::string("ERROR_") + GetParam().error));
  EXPECT_EQ(reply.outcome, GetParam().error);
}

INSTANTIATE_TEST_SUITE_P(
    Guide, ConsentErrorTest,
    testing::Values(
        ErrorPageCase{"WrongResponseType", "response_type", "token", "invalid_response_type"},
        ErrorPageCase{"NoResponseType", "response_type", nullptr, "invalid_response_type"},
        ErrorPageCase{"NoClient", "client_id", nullptr, "invalid_response_type"},
        ErrorPageCase{"EmptyClient", "client_id", "", "invalid_client"},
        ErrorPageCase{"WrongClient", "client_id", "1000.NOBODY", "invalid_client"},
        ErrorPageCase{"WrongRedirect", "redirect_uri", "https://app.example/callback/",
                      "invalid_redirect_uri"},
        ErrorPageCase{"NoRedirect", "redirect_uri", nullptr, "invalid_response_type"},
        ErrorPageCase{"SelfClient", "client_id", "1000.SELF", "invalid_redirect_uri"},
        ErrorPageCase{"NoScope", "scope", "", "invalid_scope"},
        ErrorPageCase{"UnknownPeopleScope", "scope", "ZOHOPEOPLE.nonsense.ALL", "invalid_scope"},
        ErrorPageCase{"UnknownOperation", "scope", "ZOHOPEOPLE.forms.FROB", "invalid_scope"},
        ErrorPageCase{"OneBadScope", "scope", "ZOHOPEOPLE.forms.ALL,forms", "invalid_scope"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(ConsentTest, ScopesMayBeSeparatedByCommaAndSpace) {
  Parameters parameters = ConsentParameters();
  parameters["scope"] = "ZOHOPEOPLE.forms.ALL, zohopeople.attendance.create";
  const auto reply = Json(Token(ExchangeParameters(Code(parameters))));
  EXPECT_EQ(reply["scope"], "ZOHOPEOPLE.forms.ALL zohopeople.attendance.create");
}

TEST_F(ConsentTest, WithoutAScriptItShowsAPageForHumans) {
  Parameters parameters = ConsentParameters();
  parameters.erase("sim_user");
  const AccountsReply reply = Authorize("us", parameters);
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.outcome, "consent_page");
  EXPECT_THAT(reply.body, HasSubstr("/oauth/v2/auth?x=y&amp;sim_user=ana&amp;sim_org=org-a&amp;"
                                    "sim_environment=SANDBOX&amp;sim_decision=accept"));
  EXPECT_THAT(reply.body, HasSubstr("sim_user=eva"));
  EXPECT_THAT(reply.body, HasSubstr("sim_decision=refuse"));
  // The app is not known in China.
  EXPECT_THAT(reply.body, Not(HasSubstr("sim_user=chen")));
}

TEST_F(ConsentTest, TheDefaultConsentAnswersAndParametersOverrideIt) {
  state_.SetDefaultConsent(ConsentChoice{"ana", "org-b", Environment::kProduction, true});
  Parameters parameters = ConsentParameters();
  parameters.erase("sim_user");
  EXPECT_EQ(Authorize("us", parameters).grant.org_id, "org-b");
  parameters["sim_org"] = "org-a";
  parameters["sim_environment"] = "SANDBOX";
  const AccountsReply reply = Authorize("us", parameters);
  EXPECT_EQ(reply.grant.org_id, "org-a");
  EXPECT_EQ(reply.grant.environment, Environment::kSandbox);
  state_.SetDefaultConsent(std::nullopt);
  parameters.erase("sim_org");
  parameters.erase("sim_environment");
  EXPECT_EQ(Authorize("us", parameters).outcome, "consent_page");
}

TEST_F(ConsentTest, OnlineIsTheDefaultAndGivesNoRefreshToken) {
  Parameters parameters = ConsentParameters();
  parameters.erase("access_type");
  const auto reply = Json(Token(ExchangeParameters(Code(parameters))));
  EXPECT_TRUE(reply.contains("access_token"));
  EXPECT_FALSE(reply.contains("refresh_token"));
}

TEST_F(ConsentTest, OnlyTheFirstOfflineConsentGivesARefreshToken) {
  EXPECT_TRUE(Json(Token(ExchangeParameters(Code()))).contains("refresh_token"));
  EXPECT_FALSE(Json(Token(ExchangeParameters(Code()))).contains("refresh_token"));
  Parameters other_org = ConsentParameters();
  other_org["sim_org"] = "org-b";
  EXPECT_FALSE(Json(Token(ExchangeParameters(Code(other_org)))).contains("refresh_token"));
  other_org["prompt"] = "consent";
  EXPECT_TRUE(Json(Token(ExchangeParameters(Code(other_org)))).contains("refresh_token"));
}

TEST_F(ConsentTest, FirstConsentCanBeCountedPerOrg) {
  Change([](Behaviour& behaviour) { behaviour.first_consent_per_org = true; });
  EXPECT_TRUE(Json(Token(ExchangeParameters(Code()))).contains("refresh_token"));
  Parameters other_org = ConsentParameters();
  other_org["sim_org"] = "org-b";
  EXPECT_TRUE(Json(Token(ExchangeParameters(Code(other_org)))).contains("refresh_token"));
  EXPECT_FALSE(Json(Token(ExchangeParameters(Code(other_org)))).contains("refresh_token"));
}

TEST_F(ConsentTest, RemovingTheConnectedAppMakesTheNextConsentAFirstOne) {
  const auto first = Json(Token(ExchangeParameters(Code())));
  EXPECT_EQ(state_.RemoveConnectedApp("ana", "1000.APP"), 1);
  EXPECT_EQ(Refresh(first["refresh_token"]).outcome, "invalid_code");
  EXPECT_TRUE(Json(Token(ExchangeParameters(Code()))).contains("refresh_token"));
}

TEST_F(ConsentTest, AUserOfAnotherDcIsRedirectedFromThere) {
  Parameters parameters = ConsentParameters();
  parameters["sim_user"] = "eva";
  const AccountsReply reply = Authorize("us", parameters);
  EXPECT_EQ(Redirected(reply, "location"), "eu");
  EXPECT_EQ(Redirected(reply, "accounts-server"), "https://accounts.zoho.eu");
  // The code is good only there, with that DC's secret.
  Parameters exchange = ExchangeParameters(Redirected(reply, "code"));
  EXPECT_EQ(Token(exchange, "us").outcome, "invalid_code");
  exchange["client_secret"] = "secret-eu";
  EXPECT_EQ(Token(exchange, "eu").outcome, "minted");
}

TEST_F(ConsentTest, WithoutMultiDcAUserOfAnotherDcCannotConsent) {
  Parameters parameters = ConsentParameters();
  parameters["client_id"] = "1000.USONLY";
  EXPECT_EQ(Authorize("us", parameters).outcome, "code_issued");
  EXPECT_EQ(Authorize("eu", parameters).outcome, "invalid_client");
  parameters["sim_user"] = "eva";
  EXPECT_EQ(Authorize("us", parameters).outcome, "invalid_client");
}

TEST_F(ConsentTest, ChinaRunsApart) {
  ClientConfig everywhere;
  everywhere.client_id = "1000.WORLD";
  everywhere.home_dc = "us";
  everywhere.multi_dc = true;
  everywhere.same_secret_everywhere = true;
  everywhere.secrets = {{"us", "one-secret"}};
  everywhere.redirect_uris = {kCallback};
  ASSERT_TRUE(state_.AddClient(everywhere).ok());
  Parameters parameters = ConsentParameters();
  parameters["client_id"] = "1000.WORLD";
  parameters["sim_user"] = "chen";
  EXPECT_EQ(Authorize("us", parameters).outcome, "invalid_client");
  EXPECT_EQ(Authorize("cn", parameters).outcome, "code_issued");
  parameters["sim_user"] = "eva";
  EXPECT_EQ(Authorize("cn", parameters).outcome, "invalid_client");

  EXPECT_EQ(
      Json(state_.ServerInfo("us"))["locations"],
      (nlohmann::json{{"us", "https://accounts.zoho.com"}, {"eu", "https://accounts.zoho.eu"}}));
  EXPECT_EQ(Json(state_.ServerInfo("cn"))["locations"],
            (nlohmann::json{{"cn", "https://accounts.zoho.com.cn"}}));
}

TEST_F(ConsentTest, TheRedirectCanLieAndCarryMore) {
  Change([](Behaviour& behaviour) {
    behaviour.redirect_location = "in";
    behaviour.redirect_accounts_server = "https://evil.example";
    behaviour.extra_redirect_parameters = {{"foo", "b r"}};
  });
  const AccountsReply reply = Authorize("us", ConsentParameters());
  EXPECT_EQ(Redirected(reply, "location"), "in");
  EXPECT_EQ(Redirected(reply, "accounts-server"), "https://evil.example");
  EXPECT_EQ(Redirected(reply, "foo"), "b r");
}

TEST_F(ConsentTest, ACodeLivesSixtySecondsAndWorksOnce) {
  const std::string in_time = Code();
  Pass(absl::Seconds(59));
  EXPECT_EQ(Token(ExchangeParameters(in_time)).outcome, "minted");
  EXPECT_EQ(Token(ExchangeParameters(in_time)).outcome, "invalid_code");
  const std::string late = Code();
  Pass(absl::Seconds(60));
  EXPECT_EQ(Token(ExchangeParameters(late)).outcome, "invalid_code");
  Change([](Behaviour& behaviour) { behaviour.code_life = absl::Seconds(120); });
  const std::string longer = Code();
  Pass(absl::Seconds(119));
  EXPECT_EQ(Token(ExchangeParameters(longer)).outcome, "minted");
}

TEST_F(ConsentTest, TenCodesPerTenMinutesClientAndDc) {
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Authorize("us", ConsentParameters()).status, 302);
  const AccountsReply refused = Authorize("us", ConsentParameters());
  EXPECT_EQ(refused.outcome, "throttled");
  EXPECT_EQ(refused.location, "");
  Parameters other_client = ConsentParameters();
  other_client["client_id"] = "1000.USONLY";
  EXPECT_EQ(Authorize("us", other_client).status, 302);
  Parameters other_dc = ConsentParameters();
  other_dc["sim_user"] = "eva";
  EXPECT_EQ(Authorize("eu", other_dc).status, 302);
  Pass(absl::Seconds(599));
  EXPECT_EQ(Authorize("us", ConsentParameters()).outcome, "throttled");
  Pass(absl::Seconds(1));
  EXPECT_EQ(Authorize("us", ConsentParameters()).status, 302);
}

TEST_F(ConsentTest, PkceS256) {
  // The example of RFC 7636, appendix B.
  const std::string verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
  Parameters parameters = ConsentParameters();
  parameters["code_challenge"] = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
  parameters["code_challenge_method"] = "S256";

  Parameters exchange = ExchangeParameters(Code(parameters));
  exchange["code_verifier"] = verifier;
  EXPECT_EQ(Token(exchange).outcome, "minted");

  exchange = ExchangeParameters(Code(parameters));
  EXPECT_EQ(Token(exchange).outcome, "invalid_code");
  exchange["code_verifier"] = verifier;
  EXPECT_EQ(Token(exchange).outcome, "invalid_code") << "a failed proof spends the code";

  exchange = ExchangeParameters(Code(parameters));
  exchange["code_verifier"] = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
  EXPECT_EQ(Token(exchange).outcome, "invalid_code");

  parameters["code_challenge_method"] = "S512";
  EXPECT_EQ(Authorize("us", parameters).outcome, "invalid_request");
}

TEST_F(ConsentTest, PkcePlain) {
  Parameters parameters = ConsentParameters();
  parameters["code_challenge"] = "plain-text-verifier";
  parameters["code_challenge_method"] = "plain";
  Parameters exchange = ExchangeParameters(Code(parameters));
  exchange["code_verifier"] = "plain-text-verifier";
  EXPECT_EQ(Token(exchange).outcome, "minted");
  exchange = ExchangeParameters(Code(parameters));
  exchange["code_verifier"] = "another";
  EXPECT_EQ(Token(exchange).outcome, "invalid_code");
}

TEST_F(ConsentTest, SelfClientCodesComeFromTheConsole) {
  CodeRequest request;
  request.client_id = "1000.SELF";
  request.user_id = "ana";
  request.org_id = "org-b";
  const std::string code = state_.CreateCode(request, now_).value();
  Pass(absl::Seconds(179));
  // No redirect_uri, and a refresh token every time.
  const Parameters exchange = {{"grant_type", "authorization_code"},
                               {"client_id", "1000.SELF"},
                               {"client_secret", "secret-self"},
                               {"code", code}};
  const AccountsReply reply = Token(exchange);
  EXPECT_TRUE(Json(reply).contains("refresh_token"));
  EXPECT_EQ(reply.grant.org_id, "org-b");

  request.prompt_consent = false;
  Parameters again = exchange;
  again["code"] = state_.CreateCode(request, now_).value();
  EXPECT_TRUE(Json(Token(again)).contains("refresh_token"));

  again["code"] = state_.CreateCode(request, now_).value();
  Pass(absl::Seconds(180));
  EXPECT_EQ(Token(again).outcome, "invalid_code");

  request.life = absl::Seconds(10);
  again["code"] = state_.CreateCode(request, now_).value();
  Pass(absl::Seconds(10));
  EXPECT_EQ(Token(again).outcome, "invalid_code");
}

TEST_F(ConsentTest, CreateCodeNamesItsMistakes) {
  const auto code_of = [&](const CodeRequest& request) {
    return state_.CreateCode(request, now_).status().code();
  };
  CodeRequest good;
  good.client_id = "1000.SELF";
  good.user_id = "ana";
  CodeRequest request = good;
  request.client_id = "1000.NOBODY";
  EXPECT_EQ(code_of(request), absl::StatusCode::kNotFound);
  request = good;
  request.user_id = "nobody";
  EXPECT_EQ(code_of(request), absl::StatusCode::kNotFound);
  request = good;
  request.org_id = "org-b";
  request.environment = Environment::kSandbox;
  EXPECT_EQ(code_of(request), absl::StatusCode::kNotFound);
  request = good;
  request.user_id = "eva";
  EXPECT_EQ(code_of(request), absl::StatusCode::kFailedPrecondition);
  request = good;
  request.scopes = "everything";
  EXPECT_EQ(code_of(request), absl::StatusCode::kInvalidArgument);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(code_of(good), absl::StatusCode::kOk);
  EXPECT_EQ(code_of(good), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace tokenbroker::zoho_simulator
