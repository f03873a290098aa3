#include <gtest/gtest.h>

#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/e2e/world.h"

// The least that a build has to do. scripts/lib/image_check.sh asks the same of the image.
namespace tokenbroker::e2e {
namespace {

TEST(Smoke, AnswersHealthAndIssuesATokenThatZohoTakes) {
  World world;
  Broker& broker = world.StartBroker();

  auto health = grpc::health::v1::Health::NewStub(broker.NewChannel());
  grpc::health::v1::HealthCheckRequest check;
  grpc::health::v1::HealthCheckResponse checked;
  grpc::ClientContext context;
  ASSERT_TRUE(health->Check(&context, check, &checked).ok());
  EXPECT_EQ(checked.status(), grpc::health::v1::HealthCheckResponse::SERVING);
  EXPECT_EQ(HttpGet("http://" + broker.ops_address() + "/readyz").status, 200);

  const Broker::Registered registered = broker.RegisterGrant(
      world.CodeRegistration("acme", "eu", world.ConsentCode("eu", "org-eu-1")));
  ASSERT_TRUE(registered.status.ok()) << registered.status.error_message();
  EXPECT_EQ(registered.response.grant().dc(), "eu");
  EXPECT_EQ(registered.response.grant().state(), v1::GRANT_STATE_ACTIVE);

  const Broker::Token issued = broker.GetAccessToken("acme");
  ASSERT_TRUE(issued.status.ok()) << issued.status.error_message();
  EXPECT_EQ(issued.token.authorization_header(), "Zoho-oauthtoken " + issued.token.access_token());
  EXPECT_EQ(issued.token.people_host(), "people.zoho.eu");
  EXPECT_EQ(issued.token.api_domain(), "https://www.zohoapis.eu");
  EXPECT_GT(issued.token.expires_in().seconds(), 3500);
  EXPECT_EQ(
      world.zoho().accounts().AccessTokenState(issued.token.access_token(), world.zoho().now()),
      "live");
  EXPECT_EQ(broker.Stop(), 0) << broker.process().err();
}

// What every installation does, and most tests here do not.
TEST(Smoke, CallsZohoByHttps) {
  World::Options options;
  options.https = true;
  World world(options);
  Broker& broker = world.StartBroker();
  world.RegisterImported(broker, "acme", "eu");
  const Broker::Token token =
      broker.GetAccessToken("acme", [](auto& request) { request.set_rejected_version(1); });
  ASSERT_TRUE(token.status.ok()) << token.status.error_message();
  EXPECT_EQ(token.token.source(), v1::TOKEN_SOURCE_REFRESHED);
}

TEST(Smoke, ABrokerThatDoesNotTrustTheCertificateSendsNothing) {
  World::Options options;
  options.https = true;
  World world(options);
  std::string config = world.config();
  const size_t trust = config.find("zoho:\n");
  ASSERT_NE(trust, std::string::npos);
  Broker& broker = world.StartBrokerWith(config.substr(0, trust));
  const CallError error =
      Explain(broker.RegisterGrant(world.ImportRegistration("acme", "eu", "1000.a.b")).status);
  EXPECT_EQ(error.reason, "ZOHO_UNAVAILABLE");
  EXPECT_EQ(error.metadata.at("dc"), "eu");
  EXPECT_EQ(world.log().Count({}), 0);
}

}  // namespace
}  // namespace tokenbroker::e2e
