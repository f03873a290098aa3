// The RPCs about grants and orgs over the wire.
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/rpc/token_service_fixture.h"

namespace tokenbroker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::ScriptedReply;
using ::testing::SizeIs;
using ::testing::StartsWith;

// --- RegisterGrant -------------------------------------------------------------------------------

TEST_F(TokenServiceTest, RegistersACode) {
  v1::RegisterGrantRequest request;
  request.set_org_id("acme");
  request.set_oauth_client("web");
  request.set_location("us");
  request.set_accounts_server("https://accounts.zoho.com");
  request.mutable_authorization_code()->set_code("1000.c.d");
  request.mutable_authorization_code()->set_redirect_uri("https://app.example.com/back");
  request.mutable_authorization_code()->set_code_verifier(std::string(43, 'v'));
  request.set_display_name("Acme");
  (*request.mutable_labels())["team"] = "a";
  request.set_request_id("r-1");
  broker_->zoho().SetScopes({"A.b.READ", "A.c.READ"});
  v1::RegisterGrantResponse response;
  {
    TestContext context;
    const grpc::Status status = broker_->stub().RegisterGrant(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  EXPECT_FALSE(response.replaced());
  EXPECT_EQ(response.grant().dc(), "us");
  EXPECT_EQ(response.grant().state(), v1::GRANT_STATE_ACTIVE);
  EXPECT_EQ(response.grant().type(), v1::GRANT_TYPE_REFRESH_TOKEN);
  EXPECT_THAT(response.grant().scopes(), ElementsAre("A.b.READ", "A.c.READ"));
  EXPECT_EQ(response.grant().display_name(), "Acme");
  EXPECT_EQ(response.grant().labels().at("team"), "a");

  const std::vector<TokenRequest> sent = broker_->zoho().requests();
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_EQ(sent[0].dc.name, "us");
  EXPECT_EQ(sent[0].client_id, "1000.WEB");
  EXPECT_EQ(sent[0].client_secret, Secret("web-us-secret"));
  EXPECT_EQ(sent[0].code, Secret("1000.c.d"));
  EXPECT_EQ(sent[0].redirect_uri, "https://app.example.com/back");
  EXPECT_EQ(sent[0].code_verifier, Secret(std::string(43, 'v')));

  // Repeated with the same id: the same answer, and the code is not spent again.
  TestContext context;
  EXPECT_TRUE(broker_->stub().RegisterGrant(&context, request, &response).ok());
  EXPECT_THAT(broker_->zoho().requests(), SizeIs(1));
}

TEST_F(TokenServiceTest, RegistersClientCredentials) {
  v1::RegisterGrantRequest request;
  request.set_org_id("acme");
  request.set_oauth_client("self");
  request.set_dc("us");
  request.mutable_client_credentials()->set_soid("Service.12345678");
  request.mutable_client_credentials()->add_scopes("A.b.ALL");
  v1::RegisterGrantResponse response;
  TestContext context;
  const grpc::Status status = broker_->stub().RegisterGrant(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.grant().type(), v1::GRANT_TYPE_CLIENT_CREDENTIALS);
  v1::GetAccessTokenResponse token;
  EXPECT_TRUE(GetToken(TokenOf("acme"), &token).ok());
  EXPECT_EQ(token.access_token(), "at-1");
}

TEST_F(TokenServiceTest, SaysWhenAGrantIsReplaced) {
  Import("acme");
  v1::RegisterGrantRequest request;
  request.set_org_id("acme");
  request.set_oauth_client("web");
  request.set_dc("eu");
  request.set_refresh_token("another one");
  v1::RegisterGrantResponse response;
  TestContext context;
  const grpc::Status status = broker_->stub().RegisterGrant(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(response.replaced());
  EXPECT_EQ(response.grant().version(), 2);
}

TEST_F(TokenServiceTest, SaysWhyARegistrationFailed) {
  const auto reason_of = [this](const ScriptedReply& reply, bool code) {
    broker_->zoho().ScriptAll(reply);
    v1::RegisterGrantRequest request;
    request.set_org_id("acme");
    request.set_oauth_client("web");
    request.set_dc("eu");
    if (code) {
      request.mutable_authorization_code()->set_code("1000.c.d");
      request.mutable_authorization_code()->set_redirect_uri("https://app.example.com/back");
    } else {
      request.set_refresh_token("1000.r.t");
    }
    v1::RegisterGrantResponse response;
    TestContext context;
    return ReasonOf(broker_->stub().RegisterGrant(&context, request, &response));
  };
  EXPECT_EQ(reason_of(ScriptedReply::Dead(), true), "AUTHORIZATION_CODE_REJECTED");
  EXPECT_EQ(reason_of(ScriptedReply::Success(absl::Hours(1)), true), "REFRESH_TOKEN_MISSING");
  EXPECT_EQ(reason_of(ScriptedReply::ClientRejected(), true), "CLIENT_REJECTED");
  EXPECT_EQ(reason_of(ScriptedReply::Dead(), false), "REFRESH_TOKEN_REJECTED");
  EXPECT_EQ(reason_of(ScriptedReply::Unreachable(), false), "ZOHO_UNAVAILABLE");
  EXPECT_EQ(reason_of(ScriptedReply::Throttled(), false), "ZOHO_THROTTLED");
}

TEST_F(TokenServiceTest, SendsNothingWithoutASecretForTheDc) {
  v1::RegisterGrantRequest request;
  request.set_org_id("acme");
  request.set_oauth_client("web");
  request.set_dc("in");
  request.set_refresh_token("1000.r.t");
  v1::RegisterGrantResponse response;
  TestContext context;
  const grpc::Status status = broker_->stub().RegisterGrant(&context, request, &response);
  EXPECT_EQ(ReasonOf(status), "CLIENT_SECRET_MISSING");
  EXPECT_EQ(broker_->zoho().sends(), 0);
}

// --- ListOrgs, GetOrg
// ------------------------------------------------------------------------------

TEST_F(TokenServiceTest, ListsOrgsPageByPage) {
  for (int i = 0; i < 5; ++i) Import(absl::StrCat("org-", i), i % 2 == 0 ? "eu" : "us");
  v1::ListOrgsRequest request;
  request.set_page_size(2);
  std::vector<std::string> seen;
  do {
    v1::ListOrgsResponse response;
    TestContext context;
    const grpc::Status status = broker_->stub().ListOrgs(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_LE(response.orgs_size(), 2);
    for (const v1::Org& org : response.orgs()) {
      seen.push_back(org.org_id());
      EXPECT_EQ(org.grants_size(), 1);
      EXPECT_EQ(org.grants(0).org_id(), org.org_id());
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty() && seen.size() < 10);
  EXPECT_THAT(seen, ElementsAre("org-0", "org-1", "org-2", "org-3", "org-4"));
}

TEST_F(TokenServiceTest, ListsPagesThatClientsAccept) {
  // The largest grants that can be registered: all together more than a client takes by default.
  constexpr size_t kClientsLimit = 4 * 1024 * 1024;
  constexpr int kOrgs = 150;
  RegisterRequest request;
  request.info.dc = "eu";
  for (int i = 0; i < 100; ++i) {
    request.info.scopes.push_back(absl::StrCat("A.", std::string(250, 'b'), i));
  }
  for (int i = 0; i < 32; ++i) {
    request.info.labels[absl::StrCat(std::string(60, 'k'), i)] = std::string(256, 'v');
  }
  request.refresh_token = Secret("refresh");
  for (int i = 0; i < kOrgs; ++i) {
    request.key = {absl::StrCat("org-", i), Environment::kProduction, "web"};
    request.attempt_id = NewAttemptId();
    ASSERT_TRUE(store_->Register(request).ok());
  }
  v1::ListOrgsRequest list;
  list.set_page_size(1000);
  std::set<std::string> seen;
  size_t bytes = 0;
  do {
    v1::ListOrgsResponse response;
    TestContext context;
    const grpc::Status status = broker_->stub().ListOrgs(&context, list, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_LT(response.ByteSizeLong(), kClientsLimit);
    bytes += response.ByteSizeLong();
    for (const v1::Org& org : response.orgs()) {
      EXPECT_TRUE(seen.insert(org.org_id()).second) << org.org_id() << " twice";
    }
    list.set_page_token(response.next_page_token());
  } while (!list.page_token().empty());
  EXPECT_THAT(seen, SizeIs(kOrgs));
  EXPECT_GT(bytes, kClientsLimit) << "the test proves nothing";
}

TEST_F(TokenServiceTest, ListsOrgsThatPassTheFilter) {
  for (int i = 0; i < 4; ++i) Import(absl::StrCat("org-", i), i % 2 == 0 ? "eu" : "us");
  v1::ListOrgsRequest request;
  request.mutable_filter()->set_dc("us");
  request.set_page_size(1);
  v1::ListOrgsResponse response;
  {
    TestContext context;
    ASSERT_TRUE(broker_->stub().ListOrgs(&context, request, &response).ok());
    ASSERT_THAT(response.orgs(), SizeIs(1));
    EXPECT_EQ(response.orgs(0).org_id(), "org-1");
    EXPECT_FALSE(response.next_page_token().empty());
  }
  // The token goes with its filter.
  request.set_page_token(response.next_page_token());
  request.mutable_filter()->set_dc("eu");
  {
    TestContext context;
    const grpc::Status status = broker_->stub().ListOrgs(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
    EXPECT_EQ(DetailOf<google::rpc::BadRequest>(status)->field_violations(0).field(), "page_token");
  }
}

TEST_F(TokenServiceTest, ListsNothingWhereNothingIs) {
  v1::ListOrgsResponse response;
  TestContext context;
  EXPECT_TRUE(broker_->stub().ListOrgs(&context, {}, &response).ok());
  EXPECT_THAT(response.orgs(), IsEmpty());
  EXPECT_EQ(response.next_page_token(), "");
}

TEST_F(TokenServiceTest, TellsAboutAnOrg) {
  Import("acme");
  const v1::Grant other = Import("acme", "eu", {"A.b.READ"}, "other");
  broker_->zoho().ScriptAll(ScriptedReply::Transient());
  v1::GetAccessTokenRequest token = TokenOf("acme");
  token.set_oauth_client("other");
  token.set_rejected_version(other.version());
  ASSERT_EQ(ReasonOf(GetToken(token)), "ZOHO_UNAVAILABLE");

  v1::GetOrgRequest request;
  request.set_org_id("acme");
  v1::GetOrgResponse response;
  TestContext context;
  const grpc::Status status = broker_->stub().GetOrg(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.org().org_id(), "acme");
  ASSERT_THAT(response.org().grants(), SizeIs(2));
  const v1::Grant& failed = response.org().grants(0);
  EXPECT_EQ(failed.oauth_client(), "other");
  EXPECT_EQ(failed.last_failure().kind(), "TRANSIENT");
  EXPECT_EQ(failed.last_failure().error(), "http_502");
  EXPECT_EQ(failed.last_failure().consecutive_count(), 1);
  EXPECT_EQ(failed.next_action(), v1::NEXT_ACTION_COOLDOWN);
  EXPECT_TRUE(failed.has_next_action_time());
  EXPECT_EQ(failed.recent_sends(), 2);
  const v1::Grant& fine = response.org().grants(1);
  EXPECT_EQ(fine.oauth_client(), "web");
  EXPECT_FALSE(fine.has_last_failure());
  EXPECT_EQ(fine.next_action(), v1::NEXT_ACTION_REFRESH_AHEAD);
  EXPECT_TRUE(fine.has_access_token_expire_time());
  EXPECT_TRUE(fine.has_create_time());
}

TEST_F(TokenServiceTest, DoesNotTellAboutAnUnknownOrg) {
  v1::GetOrgRequest request;
  request.set_org_id("nobody");
  v1::GetOrgResponse response;
  TestContext context;
  EXPECT_EQ(ReasonOf(broker_->stub().GetOrg(&context, request, &response)), "ORG_NOT_FOUND");
}

// --- RevokeGrant
// -----------------------------------------------------------------------------------

TEST_F(TokenServiceTest, RevokesAGrant) {
  Import("acme");
  ASSERT_TRUE(GetToken(TokenOf("acme")).ok());
  v1::RevokeGrantRequest request;
  request.set_org_id("acme");
  request.set_oauth_client("web");
  v1::RevokeGrantResponse response;
  {
    TestContext context;
    const grpc::Status status = broker_->stub().RevokeGrant(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  EXPECT_EQ(response.grant().state(), v1::GRANT_STATE_REVOKED);
  EXPECT_EQ(response.grant().next_action(), v1::NEXT_ACTION_NONE);
  EXPECT_TRUE(response.revoked_at_zoho());
  EXPECT_THAT(broker_->zoho().revoked(), ElementsAre("refresh of acme web"));
  const grpc::Status status = GetToken(TokenOf("acme"));
  EXPECT_EQ(ReasonOf(status), "CONSENT_REQUIRED");
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(status)->metadata().at("cause"), "revoked");
}

TEST_F(TokenServiceTest, SaysWhenZohoHasNotRevoked) {
  Import("acme");
  broker_->zoho().SetRevokeStatus(absl::UnavailableError("down"));
  v1::RevokeGrantRequest request;
  request.set_org_id("acme");
  request.set_oauth_client("web");
  v1::RevokeGrantResponse response;
  {
    TestContext context;
    ASSERT_TRUE(broker_->stub().RevokeGrant(&context, request, &response).ok());
    EXPECT_FALSE(response.revoked_at_zoho());
    EXPECT_EQ(response.grant().state(), v1::GRANT_STATE_REVOKED);
  }
  // Repeating it repeats the call to Zoho.
  broker_->zoho().SetRevokeStatus(absl::OkStatus());
  TestContext context;
  ASSERT_TRUE(broker_->stub().RevokeGrant(&context, request, &response).ok());
  EXPECT_TRUE(response.revoked_at_zoho());
  EXPECT_THAT(broker_->zoho().revoked(), SizeIs(2));
}

TEST_F(TokenServiceTest, RevokesNothingThatIsNotThere) {
  v1::RevokeGrantRequest request;
  request.set_org_id("nobody");
  request.set_oauth_client("web");
  v1::RevokeGrantResponse response;
  TestContext context;
  EXPECT_EQ(ReasonOf(broker_->stub().RevokeGrant(&context, request, &response)), "ORG_NOT_FOUND");
}

// --- CreateAuthorizationUrl
// --------------------------------------------------------------------------

TEST_F(TokenServiceTest, MakesAnAuthorizationUrl) {
  v1::CreateAuthorizationUrlRequest request;
  request.set_org_id("acme");
  request.set_oauth_client("web");
  request.set_dc("us");
  request.add_scopes("A.b.READ");
  v1::CreateAuthorizationUrlResponse response;
  TestContext context;
  const grpc::Status status = broker_->stub().CreateAuthorizationUrl(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(response.authorization_url(),
              StartsWith("https://accounts.zoho.com/oauth/v2/auth?response_type=code&"));
  EXPECT_GT(response.expire_time().seconds(), absl::ToUnixSeconds(absl::Now()));
}

TEST_F(TokenServiceTest, MakesNoAuthorizationUrlUnconfigured) {
  v1::CreateAuthorizationUrlRequest request;
  request.set_org_id("acme");
  request.set_oauth_client("other");
  request.set_dc("us");
  request.add_scopes("A.b.READ");
  v1::CreateAuthorizationUrlResponse response;
  {
    TestContext context;
    EXPECT_EQ(ReasonOf(broker_->stub().CreateAuthorizationUrl(&context, request, &response)),
              "CONSENT_NOT_CONFIGURED");
  }
  Start({.consent = false});
  request.set_oauth_client("web");
  TestContext context;
  EXPECT_EQ(ReasonOf(broker_->stub().CreateAuthorizationUrl(&context, request, &response)),
            "CONSENT_NOT_CONFIGURED");
}

// An error with the longest URL still gets through to a client with default limits.
TEST_F(TokenServiceTest, GetsTheLongestAuthorizationUrlThrough) {
  std::vector<std::string> scopes;
  for (int i = 0; i < 50; ++i) scopes.push_back(absl::StrCat("ServiceName.module", i, ".READ"));
  const v1::Grant grant = Import("acme", "eu", scopes);
  broker_->zoho().ScriptAll(ScriptedReply::Dead());
  v1::GetAccessTokenRequest request = TokenOf("acme");
  request.set_rejected_version(grant.version());
  const auto info = DetailOf<google::rpc::ErrorInfo>(GetToken(request));
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason(), "CONSENT_REQUIRED");
  ASSERT_TRUE(info->metadata().contains("authorization_url"));
  EXPECT_GT(info->metadata().at("authorization_url").size(), 3500u);
}

// --- The store
// ---------------------------------------------------------------------------------------

}  // namespace
}  // namespace tokenbroker
