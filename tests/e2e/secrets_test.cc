#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/e2e/world.h"

// No client secret, refresh token, access token, code or key is ever seen where it does not belong:
// logs, errors, metrics, pages, the process's arguments, the store at rest.
namespace tokenbroker::e2e {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

class Secrets : public ::testing::TestWithParam<bool> {};

TEST_P(Secrets, AreNowhereToBeSeen) {
  World::Options options;
  options.redis = GetParam();
  options.consent = true;
  options.more_config = "log:\n  level: DEBUG\n";
  World world(options);
  Broker& broker = world.StartBroker();
  std::string seen;  // everything that callers and operators got, apart from issued tokens
  const auto note = [&](const grpc::Status& status) {
    seen += status.error_message() + status.error_details();
  };

  // Each kind of registration, token, failure and page.
  const std::string code = world.ConsentCode("us", "org-us-1");
  world.AddSecret(code);
  const Broker::Registered by_code = broker.RegisterGrant(world.CodeRegistration("a", "us", code));
  ASSERT_TRUE(by_code.status.ok()) << by_code.status.error_message();
  seen += by_code.response.DebugString();
  note(broker.RegisterGrant(world.CodeRegistration("b", "us", code)).status);  // used code
  const zoho_simulator::SeededGrant imported = world.RegisterImported(broker, "c", "eu");
  v1::RegisterGrantRequest unknown =
      world.ImportRegistration("d", "eu", "1000.feedfacefeedfacefeedfacefeedface.canary");
  world.AddSecret("1000.feedfacefeedfacefeedfacefeedface.canary");
  note(broker.RegisterGrant(unknown).status);
  unknown.set_dc("nowhere");
  note(broker.RegisterGrant(unknown).status);
  for (const char* org : {"a", "c"}) {
    for (int i = 0; i < 2; ++i) {
      const Broker::Token token = broker.GetAccessToken(org, [&](auto& request) {
        if (i == 1) request.set_rejected_version(1);
      });
      ASSERT_TRUE(token.status.ok());
      world.AddSecret(token.token.access_token());
    }
  }
  const auto refresh_token = world.zoho().accounts().RefreshTokenOf(
      world.zoho()
          .accounts()
          .FindGrant("us", World::kWebClientId, "org-us-1",
                     zoho_simulator::Environment::kProduction, world.zoho().now())
          ->identity.number);
  ASSERT_TRUE(refresh_token.has_value());
  world.AddSecret(*refresh_token);
  ASSERT_TRUE(world.zoho().accounts().KillGrant(imported.identity.number).ok());
  note(broker.GetAccessToken("c", [](auto& request) { request.set_rejected_version(2); }).status);
  zoho_simulator::FaultRule html;
  html.path = "/oauth/v2/token";
  html.fault.kind = zoho_simulator::FaultKind::kStatus;
  html.fault.status = 500;
  // A server that echoes what it was sent.
  html.fault.body = absl::StrCat("{\"error\":\"", world.secrets()[0], *refresh_token, "\"}");
  world.zoho().AddFault(html);
  note(broker.GetAccessToken("a", [](auto& request) { request.set_rejected_version(2); }).status);
  world.zoho().ClearFaults();
  v1::GetOrgRequest get;
  get.set_org_id("a");
  grpc::ClientContext context;
  v1::GetOrgResponse org;
  ASSERT_TRUE(broker.stub().GetOrg(&context, get, &org).ok());
  seen += org.DebugString();
  const std::string ops = "http://" + broker.ops_address();
  seen += HttpGet(ops + "/metrics").body + HttpGet(ops + "/readyz").body;
  seen += HttpGet(absl::StrCat(ops, "/oauth/callback?state=x&code=", code, "&location=us")).body;
  seen += ReadFile(absl::StrCat("/proc/", broker.process().pid(), "/cmdline"));

  std::string at_rest;
  if (GetParam()) {
    ASSERT_TRUE(world.redis().Command({"SAVE"}).ok());
    at_rest = ReadFile(world.redis().directory() + "/dump.rdb");
  }
  EXPECT_EQ(broker.Stop(), 0);
  if (!GetParam()) {
    for (const auto& file : std::filesystem::directory_iterator(world.directory())) {
      if (absl::StartsWith(file.path().filename().string(), "grants.db")) {
        at_rest += ReadFile(file.path());
        EXPECT_EQ(file.status().permissions(),
                  std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
      }
    }
  }
  ASSERT_GT(at_rest.size(), 500u);
  seen += broker.process().out() + broker.process().err();
  ASSERT_TRUE(absl::StrContains(seen, "RegisterGrant")) << "the log was not captured";

  ASSERT_GT(world.secrets().size(), 10u);
  for (const std::string& secret : world.secrets()) {
    for (const std::string& form :
         {secret, absl::Base64Escape(secret), absl::WebSafeBase64Escape(secret),
          std::string(absl::BytesToHexString(secret))}) {
      EXPECT_FALSE(absl::StrContains(seen, form)) << "a secret was shown";
      EXPECT_FALSE(absl::StrContains(at_rest, form)) << "a secret is stored in clear";
    }
  }
  EXPECT_EQ(world.log().Summary().secrets_in_url, 0);
}

INSTANTIATE_TEST_SUITE_P(Stores, Secrets, ::testing::Bool(), [](const auto& info) {
  return std::string(info.param ? "Redis" : "Sqlite");
});

}  // namespace
}  // namespace tokenbroker::e2e
