#include <gtest/gtest.h>

#include <set>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tests/e2e/load.h"
#include "tests/e2e/world.h"

// Against an OAuth server that was not written here: npm's oidc-provider, at Zoho's paths, with
// strictly rotating refresh tokens. Using a rotated-away token there kills the whole grant.
namespace tokenbroker::e2e {
namespace {

using nlohmann::json;
using testing::ChildProcess;

class Interop : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    provider_ = ChildProcess::Start(
        {.argv = {TB_NODE, TB_SOURCE_DIR "/tests/interop/provider.mjs", "--redirect-uri",
                  kRedirectUri, "--access-token-ttl", "90", "--token-delay-ms", "200"},
         .keep_input_open = true});
    const std::optional<std::string> ready = provider_->WaitForLine(
        [](const std::string& line) { return line[0] == '{'; }, absl::Seconds(60));
    ASSERT_TRUE(ready.has_value()) << provider_->err();
    facts_ = json::parse(*ready);

    World::Options options;
    options.redis = GetParam();
    options.accounts_servers = {{"us", facts_["url"]}};
    options.wrong_secrets = {{"us", facts_["client_secret"]}};
    world_ = std::make_unique<World>(options);
    std::string config = world_->config();
    const auto replace = [&config](const std::string& from, const std::string& to) {
      const size_t at = config.find(from);
      ASSERT_NE(at, std::string::npos) << from;
      config.replace(at, from.size(), to);
    };
    replace(World::kWebClientId, facts_["client_id"]);
    replace(World::kRedirectUri, kRedirectUri);
    broker_ = &world_->StartBrokerWith(config);
  }

  std::string Code() {
    const HttpReply reply = HttpGet(absl::StrCat(
        facts_["url"].get<std::string>(), "/test/consent?response_type=code&client_id=",
        facts_["client_id"].get<std::string>(), "&redirect_uri=", kRedirectUri,
        "&scope=ZOHOPEOPLE.forms.ALL,ZOHOPEOPLE.leave.READ&access_type=offline&prompt=consent"
        "&state=s"));
    const json walked = json::parse(reply.body, nullptr, false);
    EXPECT_TRUE(walked.contains("code")) << reply.body;
    return walked.value("code", "");
  }

  json Log() { return json::parse(HttpGet(facts_["url"].get<std::string>() + "/test/log").body); }
  int Successes(const std::string& grant_type) {
    return Log()["counts"].value(grant_type + " success", 0);
  }

  static constexpr char kRedirectUri[] = "http://127.0.0.1/callback";
  std::unique_ptr<ChildProcess> provider_;
  json facts_;
  std::unique_ptr<World> world_;
  Broker* broker_ = nullptr;
};

TEST_P(Interop, RotatedRefreshTokensAreStoredAndTheGrantLives) {
  v1::RegisterGrantRequest request = world_->CodeRegistration("acme", "us", Code());
  request.clear_location();
  request.clear_accounts_server();
  request.set_dc("us");
  request.mutable_authorization_code()->set_redirect_uri(kRedirectUri);
  const Broker::Registered registered = broker_->RegisterGrant(request);
  ASSERT_TRUE(registered.status.ok()) << registered.status.error_message();
  EXPECT_EQ(Successes("authorization_code"), 1);

  // Tokens live 90 s, so every round of callers wants a new one, each by the refresh token that the
  // round before was given.
  std::set<int64_t> versions;
  for (int round = 1; round <= 3; ++round) {
    v1::GetAccessTokenRequest get;
    get.set_org_id("acme");
    get.set_oauth_client(World::kWebClient);
    for (const CallResult& result :
         CallAllAtOnce({broker_}, std::vector<v1::GetAccessTokenRequest>(8, get))) {
      ASSERT_TRUE(result.status.ok()) << "round " << round << ": " << result.status.error_message();
      versions.insert(result.version);
    }
    EXPECT_EQ(Successes("refresh_token"), round);
    EXPECT_EQ(versions.size(), static_cast<size_t>(round));
  }
  const json log = Log();
  EXPECT_EQ(log["grants_revoked"], 0) << log.dump();
  for (const json& sent : log["token_requests"]) {
    EXPECT_EQ(sent["outcome"], "success");
    EXPECT_EQ(sent["in_flight"], 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Stores, Interop, ::testing::Bool(), [](const auto& info) {
  return std::string(info.param ? "Redis" : "Sqlite");
});

}  // namespace
}  // namespace tokenbroker::e2e
