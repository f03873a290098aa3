#include "server/consent/authorization_url.h"

#include <map>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "common/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/consent/callback.h"
#include "server/consent/consent_state.h"
#include "storage/sealing/primitives.h"
#include "tests/server/consent/query.h"
#include "tests/server/consent/state_keys.h"
#include "tests/server/rpc/zoho_setup.h"

namespace tokenbroker {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

class AuthorizationUrlsTest : public ::testing::Test {
 protected:
  AuthorizationUrls Urls(std::string callback_url = kCallbackUrl) {
    Clock clock = Clock::System();
    clock.wall = [] { return kNow; };
    return AuthorizationUrls(
        {.callback_url = std::move(callback_url), .state_lifetime = absl::Hours(2)}, &keys_,
        &setup_, clock);
  }

  static AuthorizationRequest SomeRequest() {
    return {.key = {"acme", Environment::kSandbox, "web"},
            .dc = "us",
            .scopes = {"A.b.READ", "A.c.ALL"},
            .display_name = "Acme & Sons",
            .labels = {{"team", "a"}},
            .keep_warm = true};
  }

  // The decoded parameters; all that is checked of them is there once.
  static std::map<std::string, std::string> ParametersOf(const std::string& url) {
    const size_t question_mark = url.find('?');
    const CallbackParameters all = ParseCallbackQuery(url.substr(question_mark + 1));
    std::map<std::string, std::string> parameters(all.begin(), all.end());
    EXPECT_EQ(parameters.size(), all.size());
    return parameters;
  }

  const ZohoSetup setup_ = TestSetup();
  const Keyring keys_ = TestStateKeys();
};

TEST_F(AuthorizationUrlsTest, AsksForOfflineConsentWithPkce) {
  const absl::StatusOr<AuthorizationUrl> url = Urls().Create(SomeRequest());
  ASSERT_TRUE(url.ok()) << url.status();
  EXPECT_EQ(url->expire_time, kNow + absl::Hours(2));
  EXPECT_THAT(url->url, StartsWith("https://accounts.zoho.com/oauth/v2/auth?"));
  std::map<std::string, std::string> parameters = ParametersOf(url->url);
  EXPECT_EQ(parameters["response_type"], "code");
  EXPECT_EQ(parameters["client_id"], "1000.WEB");
  EXPECT_EQ(parameters["redirect_uri"], kCallbackUrl);
  EXPECT_EQ(parameters["scope"], "A.b.READ,A.c.ALL");
  EXPECT_EQ(parameters["access_type"], "offline");
  EXPECT_EQ(parameters["prompt"], "consent");
  EXPECT_EQ(parameters["code_challenge_method"], "S256");

  const absl::StatusOr<ConsentState> state = OpenConsentState(parameters["state"], keys_, kNow);
  ASSERT_TRUE(state.ok()) << state.status();
  const std::string verifier(state->code_verifier.Reveal());
  EXPECT_THAT(verifier, MatchesRegex("[A-Za-z0-9_-]{43}"));
  EXPECT_EQ(parameters["code_challenge"], absl::WebSafeBase64Escape(Sha256(verifier)));
  EXPECT_THAT(url->url, Not(HasSubstr(verifier)));
}

// RFC 7636, appendix B.
TEST(Pkce, MakesTheChallengeOfTheStandard) {
  EXPECT_EQ(absl::WebSafeBase64Escape(Sha256("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
}

TEST_F(AuthorizationUrlsTest, PutsEverythingIntoTheState) {
  const std::string url = Urls().Create(SomeRequest())->url;
  const absl::StatusOr<ConsentState> state =
      OpenConsentState(ParametersOf(url)["state"], keys_, kNow);
  ASSERT_TRUE(state.ok()) << state.status();
  const AuthorizationRequest wanted = SomeRequest();
  EXPECT_EQ(state->request.key, wanted.key);
  EXPECT_EQ(state->request.dc, wanted.dc);
  EXPECT_EQ(state->request.scopes, wanted.scopes);
  EXPECT_EQ(state->request.display_name, wanted.display_name);
  EXPECT_EQ(state->request.labels, wanted.labels);
  EXPECT_EQ(state->request.keep_warm, wanted.keep_warm);
  EXPECT_EQ(state->expire_time, kNow + absl::Hours(2));
}

TEST_F(AuthorizationUrlsTest, IsDifferentEveryTime) {
  const std::string first = ParametersOf(Urls().Create(SomeRequest())->url)["state"];
  const std::string second = ParametersOf(Urls().Create(SomeRequest())->url)["state"];
  const absl::StatusOr<ConsentState> a = OpenConsentState(first, keys_, kNow);
  const absl::StatusOr<ConsentState> b = OpenConsentState(second, keys_, kNow);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_NE(a->request_id, b->request_id);
  EXPECT_NE(a->code_verifier, b->code_verifier);
}

TEST_F(AuthorizationUrlsTest, StartsAtTheDcThatIsAskedFor) {
  AuthorizationRequest request = SomeRequest();
  request.dc = "eu";
  EXPECT_THAT(Urls().Create(request)->url, StartsWith("https://accounts.zoho.eu/oauth/v2/auth?"));
}

TEST_F(AuthorizationUrlsTest, WantsTheCallbackUrlAmongTheRedirectUris) {
  EXPECT_EQ(ErrorReason(Urls("https://elsewhere.example.com/cb").Create(SomeRequest()).status()),
            "CONSENT_NOT_CONFIGURED");
  // Exactly: Zoho compares byte for byte.
  EXPECT_EQ(ErrorReason(Urls(std::string(kCallbackUrl) + "/").Create(SomeRequest()).status()),
            "CONSENT_NOT_CONFIGURED");
  AuthorizationRequest request = SomeRequest();
  request.key.oauth_client = "other";
  EXPECT_EQ(ErrorReason(Urls().Create(request).status()), "CONSENT_NOT_CONFIGURED");
}

TEST_F(AuthorizationUrlsTest, WantsConfiguredNames) {
  AuthorizationRequest request = SomeRequest();
  request.key.oauth_client = "nobody";
  EXPECT_EQ(ErrorReason(Urls().Create(request).status()), "OAUTH_CLIENT_NOT_CONFIGURED");
  request = SomeRequest();
  request.dc = "mars";
  EXPECT_EQ(ErrorReason(Urls().Create(request).status()), "DC_NOT_CONFIGURED");
  request = SomeRequest();
  request.dc = "in";
  EXPECT_EQ(ErrorReason(Urls().Create(request).status()), "CLIENT_SECRET_MISSING");
}

TEST_F(AuthorizationUrlsTest, RefusesUrlsThatAreTooLong) {
  const auto field_of = [this](const AuthorizationRequest& request) {
    const absl::Status status = Urls().Create(request).status();
    EXPECT_EQ(ErrorReason(status), "INVALID_REQUEST") << status;
    const auto detail = GetErrorDetail(status);
    return detail && detail->violations.size() == 1 ? detail->violations[0].field : "";
  };
  AuthorizationRequest request = SomeRequest();
  request.scopes.assign(100, std::string(256, 's'));
  EXPECT_EQ(field_of(request), "scopes");
  request = SomeRequest();
  for (int i = 0; i < 32; ++i) request.labels["k" + std::to_string(i)] = std::string(256, 'v');
  EXPECT_EQ(field_of(request), "labels");
}

TEST_F(AuthorizationUrlsTest, TakesTheLongestOrgId) {
  AuthorizationRequest request = SomeRequest();
  request.key.org_id = std::string(1024, '\0');  // the encoding doubles each
  const absl::StatusOr<AuthorizationUrl> url = Urls().Create(request);
  ASSERT_TRUE(url.ok()) << url.status();
  EXPECT_LE(url->url.size(), AuthorizationUrls::kMaxUrlBytes);
}

}  // namespace
}  // namespace tokenbroker
