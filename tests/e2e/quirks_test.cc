#include <gtest/gtest.h>

#include "tests/e2e/world.h"

// How Zoho really behaves, through gRPC: each row of what goes wrong for others.
namespace tokenbroker::e2e {
namespace {

using zoho_simulator::Behaviour;
using zoho_simulator::ExpiresInStyle;

void ExpectAnHour(World& world, const Broker::Token& answer) {
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_GT(answer.token.expires_in().seconds(), 3500);
  EXPECT_LE(answer.token.expires_in().seconds(), 3600);
  EXPECT_EQ(
      world.zoho().accounts().AccessTokenState(answer.token.access_token(), world.zoho().now()),
      "live");
}

class Milliseconds : public ::testing::TestWithParam<ExpiresInStyle> {};

TEST_P(Milliseconds, AreNotTakenForSeconds) {
  World::Options options;
  options.behaviour.expires_in = GetParam();
  World world(options);
  Broker& broker = world.StartBroker();
  world.RegisterImported(broker, "acme", "us");
  ExpectAnHour(world, broker.GetAccessToken("acme"));
  const Broker::Token refreshed =
      broker.GetAccessToken("acme", [](auto& request) { request.set_rejected_version(1); });
  ExpectAnHour(world, refreshed);
  EXPECT_EQ(world.Refreshes(), 2);
}

INSTANTIATE_TEST_SUITE_P(Styles, Milliseconds,
                         ::testing::Values(ExpiresInStyle::kMillisecondsWithSeconds,
                                           ExpiresInStyle::kMillisecondsOnly,
                                           ExpiresInStyle::kAbsent));

TEST(Quirks, ErrorWithStatus200IsAnError) {
  World world;
  Broker& broker = world.StartBroker();
  const zoho_simulator::SeededGrant grant = world.RegisterImported(broker, "acme", "us");
  const Broker::Token before = broker.GetAccessToken("acme");
  ASSERT_TRUE(before.status.ok());
  // {"error":"invalid_code"} with HTTP 200 from now on.
  ASSERT_TRUE(world.zoho().accounts().KillGrant(grant.identity.number).ok());
  const CallError error = Explain(
      broker
          .GetAccessToken(
              "acme", [&](auto& request) { request.set_rejected_version(before.token.version()); })
          .status);
  EXPECT_EQ(error.code, grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(error.reason, "CONSENT_REQUIRED");
  // Known from now on: no further send.
  const int64_t sends = world.Refreshes();
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(Explain(broker.GetAccessToken("acme").status).reason, "CONSENT_REQUIRED");
  }
  EXPECT_EQ(world.Refreshes(), sends);

  // A new consent brings it back.
  const Broker::Registered again = broker.RegisterGrant(
      world.CodeRegistration("acme", "us", world.ConsentCode("us", "org-us-1")));
  ASSERT_TRUE(again.status.ok()) << again.status.error_message();
  EXPECT_TRUE(again.response.replaced());
  ExpectAnHour(world, broker.GetAccessToken("acme"));
}

class SecretOfAnotherDc : public ::testing::TestWithParam<const char*> {};

TEST_P(SecretOfAnotherDc, IsTheOperatorsFaultAndSaysSo) {
  World::Options options;
  options.behaviour.wrong_secret_error = GetParam();
  options.wrong_secrets = {{"eu", ""}};  // "": that of another DC
  World world(options);
  Broker& broker = world.StartBroker();
  const auto seeded = world.zoho().SeedGrants("eu", World::kWebClientId, 1);
  ASSERT_TRUE(seeded.ok());
  const CallError error = Explain(
      broker.RegisterGrant(world.ImportRegistration("acme", "eu", (*seeded)[0].refresh_token))
          .status);
  EXPECT_EQ(error.code, grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(error.reason, "CLIENT_REJECTED");
  EXPECT_EQ(error.metadata.at("dc"), "eu");
  EXPECT_EQ(error.metadata.at("oauth_client"), World::kWebClient);
  EXPECT_EQ(error.metadata.at("zoho_error"), GetParam());
  EXPECT_NE(error.message.find("wrong DC's secret"), std::string::npos) << error.message;
  // Nothing was stored.
  EXPECT_EQ(Explain(broker.GetAccessToken("acme").status).reason, "ORG_NOT_FOUND");
  // In the DC whose secret it is, all is well.
  world.RegisterImported(broker, "acme", "cn");
  ExpectAnHour(world, broker.GetAccessToken("acme"));
}

// As observed, and as the guide has it.
INSTANTIATE_TEST_SUITE_P(Spellings, SecretOfAnotherDc,
                         ::testing::Values("invalid_client_secret", "invalid_client"));

TEST(Quirks, DcWithoutSecretIsRefusedBeforeAnyCall) {
  World::Options options;
  options.dcs_without_secret = {"cn"};
  World world(options);
  Broker& broker = world.StartBroker();
  const CallError error =
      Explain(broker.RegisterGrant(world.ImportRegistration("acme", "cn", "1000.a.b")).status);
  EXPECT_EQ(error.code, grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(error.reason, "CLIENT_SECRET_MISSING");
  EXPECT_EQ(error.metadata.at("dc"), "cn");
  EXPECT_EQ(error.metadata.at("oauth_client"), World::kWebClient);
  EXPECT_EQ(world.Refreshes(), 0);
}

TEST(Quirks, CodeIsGoodOnce) {
  World world;
  Broker& broker = world.StartBroker();
  const std::string code = world.ConsentCode("us", "org-us-1");
  ASSERT_TRUE(broker.RegisterGrant(world.CodeRegistration("acme", "us", code)).status.ok());
  const CallError error =
      Explain(broker.RegisterGrant(world.CodeRegistration("other", "us", code)).status);
  EXPECT_EQ(error.code, grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(error.reason, "AUTHORIZATION_CODE_REJECTED");
  EXPECT_EQ(Explain(broker.GetAccessToken("other").status).reason, "ORG_NOT_FOUND");
  EXPECT_TRUE(broker.GetAccessToken("acme").status.ok());
}

TEST(Quirks, RepeatedRequestIdSpendsNothing) {
  World world;
  Broker& broker = world.StartBroker();
  v1::RegisterGrantRequest request =
      world.CodeRegistration("acme", "us", world.ConsentCode("us", "org-us-1"));
  request.set_request_id("registration-1");
  const Broker::Registered first = broker.RegisterGrant(request);
  ASSERT_TRUE(first.status.ok()) << first.status.error_message();
  world.log().Clear();
  const Broker::Registered second = broker.RegisterGrant(request);
  ASSERT_TRUE(second.status.ok()) << second.status.error_message();
  EXPECT_EQ(second.response.grant().version(), first.response.grant().version());
  EXPECT_EQ(world.log().Count({}), 0);
}

TEST(Quirks, EvictedRefreshTokenNeedsConsent) {
  World::Options options;
  options.behaviour.limits.refresh_tokens_per_window = 100;
  options.behaviour.limits.codes_per_window = 100;
  World world(options);
  Broker& broker = world.StartBroker();
  ASSERT_TRUE(
      broker
          .RegisterGrant(world.CodeRegistration("acme", "us", world.ConsentCode("us", "org-us-1")))
          .status.ok());
  const Broker::Token before = broker.GetAccessToken("acme");
  ASSERT_TRUE(before.status.ok());
  // The same user consents for 20 others: the first refresh token is the one too many.
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(broker
                    .RegisterGrant(world.CodeRegistration("other-" + std::to_string(i), "us",
                                                          world.ConsentCode("us", "org-us-2")))
                    .status.ok());
  }
  EXPECT_EQ(
      world.zoho().accounts().AccessTokenState(before.token.access_token(), world.zoho().now()),
      "unknown")
      << "the access tokens of an evicted refresh token die with it";
  const CallError error = Explain(
      broker
          .GetAccessToken(
              "acme", [&](auto& request) { request.set_rejected_version(before.token.version()); })
          .status);
  EXPECT_EQ(error.reason, "CONSENT_REQUIRED");
  EXPECT_EQ(error.metadata.at("cause"), "invalid_code");
}

TEST(Quirks, GrantsDoNotCrossEnvironments) {
  World world;
  Broker& broker = world.StartBroker();
  v1::RegisterGrantRequest sandbox = world.CodeRegistration(
      "acme", "us", world.ConsentCode("us", "org-us-1", zoho_simulator::Environment::kSandbox));
  sandbox.set_environment(v1::ENVIRONMENT_SANDBOX);
  ASSERT_TRUE(broker.RegisterGrant(sandbox).status.ok());

  EXPECT_EQ(Explain(broker.GetAccessToken("acme").status).reason, "ORG_NOT_FOUND")
      << "production must not see the sandbox's grant";
  const Broker::Token answer = broker.GetAccessToken(
      "acme", [](auto& request) { request.set_environment(v1::ENVIRONMENT_SANDBOX); });
  ExpectAnHour(world, answer);
  const auto grant =
      world.zoho().accounts().FindGrant("us", World::kWebClientId, "org-us-1",
                                        zoho_simulator::Environment::kSandbox, world.zoho().now());
  ASSERT_TRUE(grant.has_value());
  EXPECT_EQ(grant->active_access_tokens, 1);
  EXPECT_EQ(Explain(broker
                        .GetAccessToken("acme",
                                        [](auto& request) {
                                          request.set_environment(v1::ENVIRONMENT_DEVELOPER);
                                        })
                        .status)
                .reason,
            "ORG_NOT_FOUND");
}

TEST(Quirks, SelfClientGetsTokensWithoutConsent) {
  World world;
  Broker& broker = world.StartBroker();
  v1::RegisterGrantRequest request;
  request.set_org_id("own");
  request.set_oauth_client(World::kSelfClient);
  request.set_dc("us");
  request.mutable_client_credentials()->set_soid("Service.1001");
  request.mutable_client_credentials()->add_scopes("ZOHOPEOPLE.forms.ALL");
  const Broker::Registered registered = broker.RegisterGrant(request);
  ASSERT_TRUE(registered.status.ok()) << registered.status.error_message();
  EXPECT_EQ(registered.response.grant().type(), v1::GRANT_TYPE_CLIENT_CREDENTIALS);
  const auto self = [](auto& query) { query.set_oauth_client(World::kSelfClient); };
  const Broker::Token first = broker.GetAccessToken("own", self);
  ExpectAnHour(world, first);
  const Broker::Token second = broker.GetAccessToken("own", [&](auto& query) {
    self(query);
    query.set_rejected_version(first.token.version());
  });
  ExpectAnHour(world, second);
  EXPECT_NE(second.token.access_token(), first.token.access_token());
}

TEST(Quirks, SelfClientCodeHasNoRedirectUri) {
  World world;
  Broker& broker = world.StartBroker();
  zoho_simulator::CodeRequest code;
  code.client_id = World::kSelfClientId;
  code.user_id = "user-us";
  const absl::StatusOr<std::string> made =
      world.zoho().accounts().CreateCode(code, world.zoho().now());
  ASSERT_TRUE(made.ok()) << made.status();
  v1::RegisterGrantRequest request;
  request.set_org_id("own");
  request.set_oauth_client(World::kSelfClient);
  request.set_dc("us");
  request.mutable_authorization_code()->set_code(*made);
  ASSERT_TRUE(broker.RegisterGrant(request).status.ok());
  ExpectAnHour(world, broker.GetAccessToken(
                          "own", [](auto& query) { query.set_oauth_client(World::kSelfClient); }));
}

TEST(Quirks, AttackersAccountsServerIsNotBelieved) {
  World world;
  Broker& broker = world.StartBroker();
  v1::RegisterGrantRequest request =
      world.CodeRegistration("acme", "us", world.ConsentCode("us", "org-us-1"));
  for (const std::string& url :
       {world.zoho().trap_url(), world.zoho().dc("eu").url(), world.zoho().dc("us").url() + "/"}) {
    request.set_accounts_server(url);
    const CallError error = Explain(broker.RegisterGrant(request).status);
    EXPECT_EQ(error.code, grpc::StatusCode::INVALID_ARGUMENT) << url;
    ASSERT_FALSE(error.fields.empty());
    EXPECT_EQ(error.fields[0], "accounts_server");
  }
  zoho_simulator::RequestFilter tokens;
  tokens.path = "/oauth/v2/token";
  EXPECT_EQ(world.log().Count(tokens), 0);
}

TEST(Quirks, PeopleApiTakesTheTokenOfItsOwnOrgOnly) {
  World world;
  Broker& broker = world.StartBroker();
  ASSERT_TRUE(
      broker.RegisterGrant(world.CodeRegistration("one", "us", world.ConsentCode("us", "org-us-1")))
          .status.ok());
  ASSERT_TRUE(
      broker.RegisterGrant(world.CodeRegistration("two", "us", world.ConsentCode("us", "org-us-2")))
          .status.ok());
  for (const auto& [org, zoho_org] :
       std::map<std::string, std::string>{{"one", "org-us-1"}, {"two", "org-us-2"}}) {
    const Broker::Token answer = broker.GetAccessToken(org);
    ASSERT_TRUE(answer.status.ok());
    const zoho_simulator::AccountsReply reply = world.zoho().accounts().People(
        "us", "GET", "/people/api/forms", answer.token.authorization_header(), world.zoho().now());
    EXPECT_EQ(reply.status, 200);
    EXPECT_NE(reply.body.find(zoho_org), std::string::npos) << reply.body;
  }
}

}  // namespace
}  // namespace tokenbroker::e2e
