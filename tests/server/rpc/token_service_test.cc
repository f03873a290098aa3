// GetAccessToken over the wire.
#include <atomic>
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

// --- GetAccessToken ------------------------------------------------------------------------------

TEST_F(TokenServiceTest, IssuesATokenFromTheCache) {
  const v1::Grant grant = Import("acme");
  v1::GetAccessTokenResponse first;
  ASSERT_TRUE(GetToken(TokenOf("acme"), &first).ok());
  EXPECT_EQ(first.access_token(), "at-1");
  EXPECT_EQ(first.authorization_header(), "Zoho-oauthtoken at-1");
  EXPECT_EQ(first.token_type(), "Bearer");
  EXPECT_EQ(first.api_domain(), "https://www.zohoapis.eu");
  EXPECT_EQ(first.people_host(), "people.zoho.eu");
  EXPECT_EQ(first.dc(), "eu");
  EXPECT_EQ(first.oauth_client(), "web");
  EXPECT_EQ(first.version(), grant.version());
  EXPECT_THAT(first.scopes(), ElementsAre("A.b.READ"));
  EXPECT_GT(first.expires_in().seconds(), 3500);
  EXPECT_LE(first.expires_in().seconds(), 3600);

  v1::GetAccessTokenResponse second;
  ASSERT_TRUE(GetToken(TokenOf("acme"), &second).ok());
  EXPECT_EQ(second.source(), v1::TOKEN_SOURCE_CACHE);
  EXPECT_EQ(second.access_token(), "at-1");
  EXPECT_EQ(broker_->zoho().sends(), 1);  // the import's own check
}

TEST_F(TokenServiceTest, MintsANewTokenForARejectedOne) {
  const v1::Grant grant = Import("acme");
  v1::GetAccessTokenRequest request = TokenOf("acme");
  request.set_rejected_version(grant.version());
  v1::GetAccessTokenResponse response;
  ASSERT_TRUE(GetToken(request, &response).ok());
  EXPECT_EQ(response.source(), v1::TOKEN_SOURCE_REFRESHED);
  EXPECT_EQ(response.access_token(), "at-2");
  EXPECT_EQ(response.version(), grant.version() + 1);
  // Whoever reports the old one now gets the new one, and nothing is sent.
  ASSERT_TRUE(GetToken(request, &response).ok());
  EXPECT_EQ(response.access_token(), "at-2");
  EXPECT_EQ(broker_->zoho().sends(), 2);
}

TEST_F(TokenServiceTest, JoinsCallersToOneRefresh) {
  const v1::Grant grant = Import("acme");
  broker_->zoho().Hold();
  v1::GetAccessTokenRequest request = TokenOf("acme");
  request.set_rejected_version(grant.version());
  constexpr int kCallers = 8;
  std::vector<std::thread> callers;
  std::vector<v1::GetAccessTokenResponse> responses(kCallers);
  std::vector<grpc::Status> statuses(kCallers);
  for (int i = 0; i < kCallers; ++i) {
    callers.emplace_back([&, i] { statuses[i] = GetToken(request, &responses[i]); });
  }
  EXPECT_TRUE(broker_->zoho().WaitForSends(2));
  broker_->zoho().Release();
  for (std::thread& caller : callers) caller.join();
  for (int i = 0; i < kCallers; ++i) {
    EXPECT_TRUE(statuses[i].ok()) << statuses[i].error_message();
    EXPECT_EQ(responses[i].access_token(), "at-2");
  }
  EXPECT_EQ(broker_->zoho().sends(), 2);
}

TEST_F(TokenServiceTest, DoesNotKnowTheOrg) {
  const grpc::Status status = GetToken(TokenOf("nobody"));
  EXPECT_EQ(status.error_code(), grpc::NOT_FOUND);
  EXPECT_EQ(ReasonOf(status), "ORG_NOT_FOUND");
  // Also not in another environment, nor for another OAuth client.
  Import("acme");
  v1::GetAccessTokenRequest request = TokenOf("acme");
  request.set_environment(v1::ENVIRONMENT_SANDBOX);
  EXPECT_EQ(ReasonOf(GetToken(request)), "ORG_NOT_FOUND");
  request = TokenOf("acme");
  request.set_oauth_client("other");
  EXPECT_EQ(ReasonOf(GetToken(request)), "ORG_NOT_FOUND");
}

TEST_F(TokenServiceTest, RefusesInvalidRequestsNamingTheFields) {
  v1::GetAccessTokenRequest request;
  request.set_rejected_version(-1);
  const grpc::Status status = GetToken(request);
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  const auto bad_request = DetailOf<google::rpc::BadRequest>(status);
  ASSERT_TRUE(bad_request.has_value());
  ASSERT_EQ(bad_request->field_violations_size(), 2);
  EXPECT_EQ(bad_request->field_violations(0).field(), "org_id");
  EXPECT_EQ(bad_request->field_violations(1).field(), "rejected_version");
}

TEST_F(TokenServiceTest, SaysWhichScopesAreMissing) {
  Import("acme");
  v1::GetAccessTokenRequest request = TokenOf("acme");
  request.set_oauth_client("web");
  request.add_scopes("A.b.READ");
  request.add_scopes("A.c.DELETE");
  const grpc::Status status = GetToken(request);
  EXPECT_EQ(ReasonOf(status), "SCOPE_NOT_GRANTED");
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(status)->metadata().at("missing_scopes"),
            "A.c.DELETE");
}

TEST_F(TokenServiceTest, ServesTheOldTokenWhenTheRefreshFails) {
  const v1::Grant grant = Import("acme");
  broker_->zoho().ScriptAll(ScriptedReply::Transient());
  v1::GetAccessTokenRequest request = TokenOf("acme");
  request.set_rejected_version(grant.version());
  const grpc::Status status = GetToken(request);
  EXPECT_EQ(ReasonOf(status), "ZOHO_UNAVAILABLE");
  EXPECT_TRUE(DetailOf<google::rpc::RetryInfo>(status).has_value());
  // A caller who has no quarrel with the old one still gets it.
  v1::GetAccessTokenResponse response;
  EXPECT_TRUE(GetToken(TokenOf("acme"), &response).ok());
  EXPECT_EQ(response.access_token(), "at-1");
}

TEST_F(TokenServiceTest, KeepsToTheCallersDeadline) {
  const v1::Grant grant = Import("acme");
  broker_->zoho().Hold();
  v1::GetAccessTokenRequest request = TokenOf("acme");
  request.set_rejected_version(grant.version());
  v1::GetAccessTokenResponse response;
  TestContext context(absl::Milliseconds(500));
  const grpc::Status status = broker_->stub().GetAccessToken(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::DEADLINE_EXCEEDED);
  // The refresh goes on, and what it brought is there for the next one.
  EXPECT_TRUE(broker_->zoho().WaitForSends(2));
  broker_->zoho().Release();
  EXPECT_TRUE(GetToken(request, &response).ok());
  EXPECT_EQ(response.access_token(), "at-2");
  EXPECT_EQ(broker_->zoho().sends(), 2);
}

TEST_F(TokenServiceTest, AnswersBeforeTheCallersDeadline) {
  const v1::Grant grant = Import("acme");
  broker_->zoho().Hold();
  v1::GetAccessTokenRequest request = TokenOf("acme");
  request.set_rejected_version(grant.version());
  // What the broker says is worth more than that the time is over. One of them may be held up by a
  // busy machine, not all.
  std::atomic<int> told{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&] {
      v1::GetAccessTokenResponse response;
      TestContext context(absl::Seconds(1));
      const grpc::Status status = broker_->stub().GetAccessToken(&context, request, &response);
      EXPECT_EQ(status.error_code(), grpc::DEADLINE_EXCEEDED);
      if (ReasonOf(status) == "DEADLINE_EXCEEDED") ++told;
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_GT(told, 0);
}

TEST_F(TokenServiceTest, AnswersCallsWithoutADeadline) {
  Start({.default_deadline = absl::Milliseconds(200)});
  const v1::Grant grant = Import("acme");
  broker_->zoho().Hold();
  v1::GetAccessTokenRequest request = TokenOf("acme");
  request.set_rejected_version(grant.version());
  v1::GetAccessTokenResponse response;
  grpc::ClientContext context;
  const grpc::Status status = broker_->stub().GetAccessToken(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::DEADLINE_EXCEEDED);
  EXPECT_EQ(ReasonOf(status), "DEADLINE_EXCEEDED");
}

TEST_F(TokenServiceTest, LetsACallerLeave) {
  const v1::Grant grant = Import("acme");
  broker_->zoho().Hold();
  v1::GetAccessTokenRequest request = TokenOf("acme");
  request.set_rejected_version(grant.version());
  TestContext context;
  std::thread caller([&] {
    v1::GetAccessTokenResponse response;
    EXPECT_EQ(broker_->stub().GetAccessToken(&context, request, &response).error_code(),
              grpc::CANCELLED);
  });
  EXPECT_TRUE(broker_->zoho().WaitForSends(2));
  context.TryCancel();
  caller.join();
  // The call is over on the broker's side too, though the refresh is not.
  const std::vector<SeenCall> calls = broker_->WaitForCalls(2);
  ASSERT_THAT(calls, SizeIs(2));
  EXPECT_EQ(calls[1].code, "CANCELLED");
  broker_->zoho().Release();
  v1::GetAccessTokenResponse response;
  EXPECT_TRUE(GetToken(request, &response).ok());
  EXPECT_EQ(response.access_token(), "at-2");
  EXPECT_EQ(broker_->zoho().sends(), 2);
}

TEST_F(TokenServiceTest, OffersAnAuthorizationUrlWhenConsentIsRequired) {
  const v1::Grant grant = Import("acme");
  broker_->zoho().ScriptAll(ScriptedReply::Dead());
  v1::GetAccessTokenRequest request = TokenOf("acme");
  request.set_rejected_version(grant.version());
  // Found out by this call, then known: the URL is there both times.
  for (int i = 0; i < 2; ++i) {
    const grpc::Status status = GetToken(request);
    EXPECT_EQ(status.error_code(), grpc::FAILED_PRECONDITION);
    const auto info = DetailOf<google::rpc::ErrorInfo>(status);
    ASSERT_TRUE(info.has_value());
    EXPECT_EQ(info->reason(), "CONSENT_REQUIRED");
    EXPECT_EQ(info->metadata().at("cause"), "invalid_code");
    EXPECT_THAT(info->metadata().at("authorization_url"),
                StartsWith("https://accounts.zoho.eu/oauth/v2/auth?"));
    EXPECT_THAT(info->metadata().at("authorization_url"), HasSubstr("scope=A.b.READ&"));
  }
}

TEST_F(TokenServiceTest, AnswersForADeadGrantFromMemory) {
  const v1::Grant grant = Import("acme");
  broker_->zoho().ScriptAll(ScriptedReply::Dead());
  v1::GetAccessTokenRequest request = TokenOf("acme");
  request.set_rejected_version(grant.version());
  const auto url = [&] {
    const auto info = DetailOf<google::rpc::ErrorInfo>(GetToken(request));
    if (!info.has_value() || info->reason() != "CONSENT_REQUIRED") return std::string("no error");
    return info->metadata().contains("authorization_url") ? info->metadata().at("authorization_url")
                                                          : std::string("no URL");
  };
  // Each that is made has a state of its own; this one is made once.
  const std::string first = url();
  EXPECT_THAT(first, StartsWith("https://accounts.zoho.eu/oauth/v2/auth?"));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(url(), first);
  // Another question is another URL.
  request.add_scopes("A.b.READ");
  EXPECT_THAT(url(), StartsWith("https://accounts.zoho.eu/oauth/v2/auth?"));
  EXPECT_NE(url(), first);
}

TEST_F(TokenServiceTest, OffersTheAuthorizationUrlOfItsOwnEnvironment) {
  Import("acme", "eu", {"A.b.READ", "A.c.READ"});
  // Of another environment, and with fewer scopes.
  RegisterRequest sandbox;
  sandbox.key = {"acme", Environment::kSandbox, "web"};
  sandbox.attempt_id = NewAttemptId();
  sandbox.info.dc = "eu";
  sandbox.info.scopes = {"A.b.READ"};
  sandbox.refresh_token = Secret("refresh of the sandbox");
  ASSERT_TRUE(store_->Register(sandbox).ok());
  ASSERT_TRUE(store_->Revoke({sandbox.key}).ok());
  ASSERT_TRUE(store_->Revoke({{"acme", Environment::kProduction, "web"}}).ok());
  const auto info = DetailOf<google::rpc::ErrorInfo>(GetToken(TokenOf("acme")));
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason(), "CONSENT_REQUIRED");
  ASSERT_TRUE(info->metadata().contains("authorization_url"));
  EXPECT_THAT(info->metadata().at("authorization_url"), HasSubstr("scope=A.b.READ%2cA.c.READ&"));
}

TEST_F(TokenServiceTest, OffersNoAuthorizationUrlThatCannotWork) {
  // This client has not the broker's callback URL among its redirect URIs.
  const v1::Grant grant = Import("acme", "eu", {"A.b.READ"}, "other");
  broker_->zoho().ScriptAll(ScriptedReply::Dead());
  v1::GetAccessTokenRequest request = TokenOf("acme");
  request.set_rejected_version(grant.version());
  const auto info = DetailOf<google::rpc::ErrorInfo>(GetToken(request));
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason(), "CONSENT_REQUIRED");
  EXPECT_FALSE(info->metadata().contains("authorization_url"));
}

TEST_F(TokenServiceTest, AsksForWhatTheCallWantsWhereZohoNeverNamedTheScopes) {
  const v1::Grant grant = Import("acme", "eu", {});
  ASSERT_THAT(grant.scopes(), SizeIs(0));
  broker_->zoho().ScriptAll(ScriptedReply::Dead());
  v1::GetAccessTokenRequest request = TokenOf("acme");
  request.set_rejected_version(grant.version());
  const auto nothing_wanted = DetailOf<google::rpc::ErrorInfo>(GetToken(request));
  ASSERT_TRUE(nothing_wanted.has_value());
  EXPECT_EQ(nothing_wanted->reason(), "CONSENT_REQUIRED");
  EXPECT_FALSE(nothing_wanted->metadata().contains("authorization_url"))
      << "Zoho refuses a consent without scopes";
  request.add_scopes("A.b.READ");
  const auto wanted = DetailOf<google::rpc::ErrorInfo>(GetToken(request));
  ASSERT_TRUE(wanted.has_value());
  ASSERT_TRUE(wanted->metadata().contains("authorization_url"));
  EXPECT_THAT(wanted->metadata().at("authorization_url"), HasSubstr("scope=A.b.READ&"));
}

TEST_F(TokenServiceTest, TellsTheListenerAboutEveryCall) {
  Import("acme");
  ASSERT_TRUE(GetToken(TokenOf("acme")).ok());
  ASSERT_TRUE(GetToken(TokenOf("acme")).ok());
  v1::GetAccessTokenRequest sandbox = TokenOf("acme");
  sandbox.set_environment(v1::ENVIRONMENT_SANDBOX);
  sandbox.set_oauth_client("web");
  ASSERT_FALSE(GetToken(sandbox).ok());
  const std::vector<SeenCall> calls = broker_->WaitForCalls(4);
  ASSERT_THAT(calls, SizeIs(4));
  EXPECT_EQ(calls[0].rpc, "RegisterGrant");
  EXPECT_EQ(calls[2].rpc, "GetAccessToken");
  EXPECT_EQ(calls[2].org_id, "acme");
  EXPECT_EQ(calls[2].environment, "PRODUCTION");
  EXPECT_EQ(calls[2].oauth_client, "web");  // as it was found
  EXPECT_EQ(calls[2].code, "OK");
  EXPECT_EQ(calls[2].reason, "");
  EXPECT_EQ(calls[2].source, "cache");
  EXPECT_THAT(calls[2].peer, HasSubstr("127.0.0.1"));
  EXPECT_EQ(calls[3].environment, "SANDBOX");
  EXPECT_EQ(calls[3].code, "NOT_FOUND");
  EXPECT_EQ(calls[3].reason, "ORG_NOT_FOUND");
  EXPECT_EQ(calls[3].source, "");
}

// --- RegisterGrant -------------------------------------------------------------------------------

TEST_F(TokenServiceTest, FindsGrantsThatWereThereBefore) {
  Import("acme");
  Start({});
  v1::GetAccessTokenResponse response;
  ASSERT_TRUE(GetToken(TokenOf("acme"), &response).ok());
  EXPECT_EQ(response.source(), v1::TOKEN_SOURCE_STORE);
  EXPECT_EQ(response.access_token(), "at-1");
  EXPECT_EQ(broker_->zoho().sends(), 0);
}

TEST_F(TokenServiceTest, TakesAnyBytesAsAnOrgId) {
  const std::string odd("a\0b:{c}\xF0\x9F\x94\x91", 11);
  Import(odd);
  v1::GetAccessTokenResponse response;
  EXPECT_TRUE(GetToken(TokenOf(odd), &response).ok());
  v1::ListOrgsResponse orgs;
  TestContext context;
  ASSERT_TRUE(broker_->stub().ListOrgs(&context, {}, &orgs).ok());
  ASSERT_THAT(orgs.orgs(), SizeIs(1));
  EXPECT_EQ(orgs.orgs(0).org_id(), odd);
}

}  // namespace
}  // namespace tokenbroker
