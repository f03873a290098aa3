#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "tests/e2e/world.h"

// People inspect the broker with grpcurl, knowing nothing but its address.
namespace tokenbroker::e2e {
namespace {

using nlohmann::json;
using testing::ChildProcess;

class Grpcurl : public ::testing::Test {
 protected:
  static World::Options Options() {
    World::Options options;
    options.consent = true;
    return options;
  }
  void SetUp() override { broker_ = &world_.StartBroker(); }

  ChildProcess::Result Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {TB_GRPCURL, "-plaintext"});
    return ChildProcess::Run({.argv = std::move(arguments)});
  }
  ChildProcess::Result Call(const std::string& rpc, const json& request) {
    return Run({"-format-error", "-d", request.dump(), broker_->grpc_address(),
                absl::StrCat("tokenbroker.v1.TokenService/", rpc)});
  }
  json MustCall(const std::string& rpc, const json& request) {
    const ChildProcess::Result result = Call(rpc, request);
    EXPECT_EQ(result.exit_code, 0) << rpc << ": " << result.err;
    return json::parse(result.out, nullptr, false);
  }

  World world_{Options()};
  Broker* broker_ = nullptr;
};

TEST_F(Grpcurl, ListsAndDescribesEverything) {
  const ChildProcess::Result list = Run({broker_->grpc_address(), "list"});
  ASSERT_EQ(list.exit_code, 0) << list.err;
  EXPECT_TRUE(absl::StrContains(list.out, "tokenbroker.v1.TokenService"));
  EXPECT_TRUE(absl::StrContains(list.out, "grpc.health.v1.Health"));
  for (const char* symbol :
       {"tokenbroker.v1.TokenService", "tokenbroker.v1.TokenService.GetAccessToken",
        "tokenbroker.v1.GetAccessTokenRequest", "tokenbroker.v1.Grant", "grpc.health.v1.Health",
        "grpc.health.v1.HealthCheckRequest", "google.rpc.ErrorInfo"}) {
    const ChildProcess::Result described = Run({broker_->grpc_address(), "describe", symbol});
    EXPECT_EQ(described.exit_code, 0) << symbol << ": " << described.err;
  }
  const ChildProcess::Result rpcs =
      Run({broker_->grpc_address(), "list", "tokenbroker.v1.TokenService"});
  for (const char* rpc : {"GetAccessToken", "RegisterGrant", "ListOrgs", "GetOrg", "RevokeGrant",
                          "CreateAuthorizationUrl"}) {
    EXPECT_TRUE(absl::StrContains(rpcs.out, rpc)) << rpcs.out;
    // The RPC, what goes in and what comes out.
    for (const char* suffix : {"", "Request", "Response"}) {
      const std::string symbol =
          absl::StrCat("tokenbroker.v1.", *suffix == '\0' ? "TokenService." : "", rpc, suffix);
      const ChildProcess::Result described = Run({broker_->grpc_address(), "describe", symbol});
      EXPECT_EQ(described.exit_code, 0) << symbol << ": " << described.err;
      EXPECT_TRUE(absl::StrContains(described.out, *suffix == '\0' ? "rpc " : "message "))
          << described.out;
    }
  }
}

TEST_F(Grpcurl, HealthIsServing) {
  for (const char* service : {"", "tokenbroker.v1.TokenService"}) {
    const ChildProcess::Result health =
        Run({"-d", json{{"service", service}}.dump(), broker_->grpc_address(),
             "grpc.health.v1.Health/Check"});
    EXPECT_EQ(health.exit_code, 0) << health.err;
    EXPECT_EQ(json::parse(health.out)["status"], "SERVING");
  }
}

TEST_F(Grpcurl, EveryRpcWorks) {
  const json registered = MustCall(
      "RegisterGrant",
      {{"org_id", "acme"},
       {"oauth_client", World::kWebClient},
       {"location", "us"},
       {"accounts_server", world_.zoho().dc("us").url()},
       {"authorization_code",
        {{"code", world_.ConsentCode("us", "org-us-1")}, {"redirect_uri", World::kRedirectUri}}},
       {"display_name", "Acme"},
       {"labels", {{"tier", "gold"}}}});
  EXPECT_EQ(registered["grant"]["state"], "GRANT_STATE_ACTIVE");

  const json token = MustCall("GetAccessToken", {{"org_id", "acme"}});
  EXPECT_EQ(token["token_type"], "Bearer");
  EXPECT_EQ(token["people_host"], "people.zoho.com");
  EXPECT_EQ(token["oauth_client"], World::kWebClient);
  EXPECT_EQ(world_.zoho().accounts().AccessTokenState(token["access_token"].get<std::string>(),
                                                      world_.zoho().now()),
            "live");

  const json orgs = MustCall("ListOrgs", {{"filter", {{"labels", {{"tier", "gold"}}}}}});
  ASSERT_EQ(orgs["orgs"].size(), 1u);
  EXPECT_EQ(orgs["orgs"][0]["org_id"], "acme");
  EXPECT_EQ(MustCall("ListOrgs", {{"filter", {{"dc", "eu"}}}}).count("orgs"), 0u);

  const json org = MustCall("GetOrg", {{"org_id", "acme"}});
  EXPECT_EQ(org["org"]["grants"][0]["display_name"], "Acme");

  const json url = MustCall("CreateAuthorizationUrl", {{"org_id", "new"},
                                                       {"oauth_client", World::kWebClient},
                                                       {"dc", "us"},
                                                       {"scopes", {"ZOHOPEOPLE.forms.ALL"}}});
  EXPECT_TRUE(
      absl::StartsWith(url["authorization_url"].get<std::string>(), world_.zoho().dc("us").url()));

  const json revoked =
      MustCall("RevokeGrant", {{"org_id", "acme"}, {"oauth_client", World::kWebClient}});
  EXPECT_EQ(revoked["revoked_at_zoho"], true);
  EXPECT_EQ(revoked["grant"]["state"], "GRANT_STATE_REVOKED");
  EXPECT_EQ(world_.zoho().accounts().AccessTokenState(token["access_token"].get<std::string>(),
                                                      world_.zoho().now()),
            "unknown");
}

TEST_F(Grpcurl, ErrorsExplainThemselves) {
  const ChildProcess::Result unknown = Call("GetAccessToken", {{"org_id", "nobody"}});
  EXPECT_NE(unknown.exit_code, 0);
  EXPECT_TRUE(absl::StrContains(unknown.err, "ORG_NOT_FOUND")) << unknown.err;
  EXPECT_TRUE(absl::StrContains(unknown.err, "tokenbroker.v1")) << unknown.err;

  const ChildProcess::Result invalid =
      Call("RegisterGrant", {{"org_id", ""}, {"oauth_client", "nobodys"}, {"dc", "atlantis"}});
  EXPECT_NE(invalid.exit_code, 0);
  for (const char* part : {"INVALID_REQUEST", "org_id", "oauth_client", "dc", "credential"}) {
    EXPECT_TRUE(absl::StrContains(invalid.err, part)) << part << " in " << invalid.err;
  }
}

TEST_F(Grpcurl, PagesThroughManyOrgs) {
  const auto seeded = world_.zoho().SeedGrants("us", World::kWebClientId, 25);
  ASSERT_TRUE(seeded.ok());
  for (size_t i = 0; i < seeded->size(); ++i) {
    ASSERT_TRUE(broker_
                    ->RegisterGrant(world_.ImportRegistration(absl::StrCat("org-", i), "us",
                                                              (*seeded)[i].refresh_token))
                    .status.ok());
  }
  std::set<std::string> seen;
  std::string page_token;
  int pages = 0;
  do {
    const json page = MustCall("ListOrgs", {{"page_size", 10}, {"page_token", page_token}});
    for (const json& org : page["orgs"]) {
      EXPECT_TRUE(seen.insert(org["org_id"]).second) << org["org_id"] << " twice";
    }
    page_token = page.value("next_page_token", "");
    ++pages;
  } while (!page_token.empty());
  EXPECT_EQ(seen.size(), 25u);
  EXPECT_EQ(pages, 3);
}

}  // namespace
}  // namespace tokenbroker::e2e
