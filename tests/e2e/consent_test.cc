#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/e2e/world.h"

// Consent by browser: from an authorization URL over Zoho's page and the broker's callback page to
// a token.
namespace tokenbroker::e2e {
namespace {

class Consent : public ::testing::Test {
 protected:
  static World::Options Options() {
    World::Options options;
    options.consent = true;
    return options;
  }
  void SetUp() override { broker_ = &world_.StartBroker(); }

  std::string AuthorizationUrl(const std::string& org_id, const std::string& dc) {
    v1::CreateAuthorizationUrlRequest request;
    request.set_org_id(org_id);
    request.set_oauth_client(World::kWebClient);
    request.set_dc(dc);
    request.add_scopes("ZOHOPEOPLE.forms.ALL");
    request.set_display_name("Acme & Söhne");
    (*request.mutable_labels())["tier"] = "gold";
    grpc::ClientContext context;
    v1::CreateAuthorizationUrlResponse response;
    const grpc::Status status =
        broker_->stub().CreateAuthorizationUrl(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.authorization_url();
  }

  // What the user's browser does with it: where Zoho sends it back to.
  std::string Decide(const std::string& url, const std::string& user, const std::string& zoho_org,
                     bool accept) {
    return HttpGet(absl::StrCat(url, "&sim_user=", user, "&sim_org=", zoho_org,
                                "&sim_decision=", accept ? "accept" : "refuse"))
        .location;
  }

  // The ingress in front of the broker's callback page.
  HttpReply Callback(const std::string& location) {
    EXPECT_TRUE(absl::StartsWith(location, World::kRedirectUri)) << location;
    return HttpGet(absl::StrCat("http://", broker_->ops_address(), "/oauth/callback",
                                location.substr(std::string(World::kRedirectUri).size())));
  }

  World world_{Options()};
  Broker* broker_ = nullptr;
};

TEST_F(Consent, BrowserConsentRegistersTheGrant) {
  const std::string url = AuthorizationUrl("acme", "eu");
  EXPECT_TRUE(absl::StartsWith(url, world_.zoho().dc("eu").url())) << url;
  const std::string location = Decide(url, "user-eu", "org-eu-1", true);
  const HttpReply page = Callback(location);
  EXPECT_EQ(page.status, 200) << page.body;

  const Broker::Token answer = broker_->GetAccessToken("acme");
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.token.dc(), "eu");
  EXPECT_FALSE(absl::StrContains(page.body, answer.token.access_token()));

  grpc::ClientContext context;
  v1::GetOrgRequest request;
  request.set_org_id("acme");
  v1::GetOrgResponse org;
  ASSERT_TRUE(broker_->stub().GetOrg(&context, request, &org).ok());
  ASSERT_EQ(org.org().grants_size(), 1);
  EXPECT_EQ(org.org().grants(0).display_name(), "Acme & Söhne");
  EXPECT_EQ(org.org().grants(0).labels().at("tier"), "gold");

  // The user reloads the page: fine, and nothing is spent.
  world_.log().Clear();
  EXPECT_EQ(Callback(location).status, 200);
  EXPECT_EQ(world_.log().Count({}), 0);
}

TEST_F(Consent, TheGrantGetsTheDcThatTheRedirectNames) {
  // Started at us; the user's account lives in eu. Zoho takes them there and back.
  std::string url = AuthorizationUrl("acme", "us");
  url.replace(0, world_.zoho().dc("us").url().size(), world_.zoho().dc("eu").url());
  EXPECT_EQ(Callback(Decide(url, "user-eu", "org-eu-1", true)).status, 200);
  EXPECT_EQ(broker_->GetAccessToken("acme").token.dc(), "eu");
}

TEST_F(Consent, RefusalIsSaidAndStoresNothing) {
  const HttpReply page =
      Callback(Decide(AuthorizationUrl("acme", "eu"), "user-eu", "org-eu-1", false));
  EXPECT_GE(page.status, 400);
  EXPECT_EQ(Explain(broker_->GetAccessToken("acme").status).reason, "ORG_NOT_FOUND");
}

TEST_F(Consent, AlteredStateIsRefused) {
  std::string location = Decide(AuthorizationUrl("acme", "eu"), "user-eu", "org-eu-1", true);
  const size_t state = location.find("state=") + 6;
  location[state + 30] = location[state + 30] == 'A' ? 'B' : 'A';
  world_.log().Clear();
  EXPECT_EQ(Callback(location).status, 400);
  EXPECT_EQ(world_.log().Count({}), 0) << "the code was spent for a forged state";
}

TEST_F(Consent, AttackersAccountsServerGetsNothing) {
  zoho_simulator::Behaviour attack = *world_.zoho().accounts().GetBehaviour("eu");
  attack.redirect_accounts_server = world_.zoho().trap_url();
  ASSERT_TRUE(world_.zoho().accounts().SetBehaviour("eu", attack).ok());
  const std::string location = Decide(AuthorizationUrl("acme", "eu"), "user-eu", "org-eu-1", true);
  world_.log().Clear();
  EXPECT_EQ(Callback(location).status, 400);
  EXPECT_EQ(world_.log().Count({}), 0);
}

TEST_F(Consent, ConsentRequiredBringsAUrlThatMends) {
  ASSERT_EQ(Callback(Decide(AuthorizationUrl("acme", "eu"), "user-eu", "org-eu-1", true)).status,
            200);
  const Broker::Token before = broker_->GetAccessToken("acme");
  ASSERT_TRUE(before.status.ok());
  EXPECT_EQ(world_.zoho().accounts().RemoveConnectedApp("user-eu", World::kWebClientId), 1);
  const CallError error = Explain(
      broker_
          ->GetAccessToken(
              "acme", [&](auto& request) { request.set_rejected_version(before.token.version()); })
          .status);
  ASSERT_EQ(error.reason, "CONSENT_REQUIRED");
  ASSERT_EQ(error.metadata.count("authorization_url"), 1u);
  EXPECT_EQ(
      Callback(Decide(error.metadata.at("authorization_url"), "user-eu", "org-eu-1", true)).status,
      200);
  EXPECT_TRUE(broker_->GetAccessToken("acme").status.ok());
}

}  // namespace
}  // namespace tokenbroker::e2e
