// The text formats and the JSON of config file and control endpoint.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/zoho_simulator/json_config.h"
#include "tests/zoho_simulator/text.h"

namespace tokenbroker::zoho_simulator {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(TextTest, PercentEncoding) {
  EXPECT_EQ(PercentEncode("https://a.b/c d&e=ü~"), "https%3A%2F%2Fa.b%2Fc%20d%26e%3D%C3%BC~");
  EXPECT_EQ(PercentDecode("a+b%20c%2F%zz%4"), "a b c/%zz%4");
}

TEST(TextTest, Forms) {
  const auto form = ParseForm("a=1&b=x%20y&&c&a=2&d=");
  EXPECT_EQ(form.size(), 3u);
  EXPECT_EQ(form.at("a"), "1");
  EXPECT_EQ(form.at("b"), "x y");
  EXPECT_EQ(form.at("d"), "");
}

TEST(TextTest, Scopes) {
  EXPECT_THAT(ParseScopes("a.b.ALL, c.d.READ\te.f.READ,"),
              ElementsAre("a.b.ALL", "c.d.READ", "e.f.READ"));
  EXPECT_TRUE(IsKnownScope("ZohoCRM.modules.leads.READ"));
  EXPECT_TRUE(IsKnownScope("zohopeople.TIMETRACKER.all"));
  EXPECT_FALSE(IsKnownScope("ZOHOPEOPLE.forms"));
  EXPECT_FALSE(IsKnownScope("ZOHOPEOPLE..ALL"));
  EXPECT_FALSE(IsKnownScope("ZOHOPEOPLE.fo/rms.ALL"));
  EXPECT_TRUE(ScopesAllow({"zohopeople.forms.all"}, "ZOHOPEOPLE.forms.DELETE"));
  EXPECT_FALSE(ScopesAllow({"ZOHOPEOPLE.forms.READ"}, "ZOHOPEOPLE.forms.DELETE"));
  EXPECT_FALSE(ScopesAllow({"ZOHOPEOPLE.forms.ALL"}, "ZOHOPEOPLE.leave.READ"));
}

TEST(TextTest, Html) {
  EXPECT_EQ(HtmlEscape("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
}

absl::StatusOr<Simulator::Options> Parse(const std::string& text) {
  const absl::StatusOr<nlohmann::json> json = ParseJson(text);
  if (!json.ok()) return json.status();
  return ParseOptions(*json);
}

TEST(ConfigTest, ReadsEverything) {
  const auto options = Parse(R"({
    "dcs": ["us", {"name": "eu", "port": 4711, "https_port": 4712,
                   "behaviour": {"code_life_seconds": 7}}],
    "https": true, "listen_address": "127.0.0.2", "control_port": 4713, "threads": 2,
    "clients": [{"client_id": "c", "type": "mobile", "home_dc": "us", "multi_dc": true,
                 "same_secret_everywhere": true, "secrets": {"us": "s"},
                 "redirect_uris": ["https://a/b"]}],
    "users": [{"user_id": "u", "dc": "us", "orgs": [
        {"org_id": "o", "name": "O", "environments": {"SANDBOX": "z"}}]}],
    "default_consent": {"user_id": "u", "org_id": "o", "environment": "SANDBOX", "accept": false},
    "behaviour": {"access_token_life_seconds": 1.5, "expires_in": "milliseconds_only",
                  "throttle_language": "zh", "rotate_refresh_tokens": true,
                  "limits": {"mints": 3, "window_seconds": 30}}
  })");
  ASSERT_TRUE(options.ok()) << options.status();
  ASSERT_EQ(options->dcs.size(), 2u);
  EXPECT_EQ(options->dcs[0].name, "us");
  EXPECT_FALSE(options->dcs[0].behaviour.has_value());
  EXPECT_EQ(options->dcs[1].port, 4711);
  EXPECT_EQ(options->dcs[1].https_port, 4712);
  EXPECT_EQ(options->dcs[1].behaviour->code_life, absl::Seconds(7));
  EXPECT_EQ(options->dcs[1].behaviour->limits.mints, 3) << "on top of the common behaviour";
  EXPECT_TRUE(options->https);
  EXPECT_EQ(options->listen_address, "127.0.0.2");
  EXPECT_EQ(options->control_port, 4713);
  EXPECT_EQ(options->threads, 2);
  ASSERT_EQ(options->clients.size(), 1u);
  EXPECT_EQ(options->clients[0].type, ClientType::kMobile);
  EXPECT_TRUE(options->clients[0].same_secret_everywhere);
  EXPECT_EQ(options->clients[0].secrets.at("us"), "s");
  EXPECT_THAT(options->clients[0].redirect_uris, ElementsAre("https://a/b"));
  ASSERT_EQ(options->users.size(), 1u);
  EXPECT_EQ(options->users[0].orgs[0].environments.at(Environment::kSandbox), "z");
  EXPECT_FALSE(options->default_consent->accept);
  EXPECT_EQ(options->behaviour.access_token_life, absl::Milliseconds(1500));
  EXPECT_EQ(options->behaviour.expires_in, ExpiresInStyle::kMillisecondsOnly);
  EXPECT_EQ(options->behaviour.throttle_language, Language::kChinese);
  EXPECT_EQ(options->behaviour.limits.window, absl::Seconds(30));
}

struct BadConfig {
  const char* text;
  const char* complaint;
};
class BadConfigTest : public testing::TestWithParam<BadConfig> {};

TEST_P(BadConfigTest, NamesThePlace) {
  const absl::Status status = Parse(GetParam().text).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().complaint));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadConfigTest,
    testing::Values(
        BadConfig{"{", "not JSON"}, BadConfig{"[]", "config: not a JSON object"},
        BadConfig{R"({"htps": true})", "config.htps: no such field"},
        BadConfig{R"({"https": 1})", "config.https"},
        BadConfig{R"({"control_port": 65536})", "config.control_port"},
        BadConfig{R"({"control_port": -1})", "config.control_port"},
        BadConfig{R"({"dcs": [{"nam": "us"}]})", "dc.nam"},
        BadConfig{R"({"dcs": "us"})", "config.dcs"},
        BadConfig{R"({"clients": [{"type": "robot"}]})", "client.type"},
        BadConfig{R"({"clients": [{"secrets": {"us": 1}}]})", "client.secrets"},
        BadConfig{R"({"clients": [{"redirect_uris": "x"}]})", "client.redirect_uris"},
        BadConfig{R"({"users": [{"orgs": [{"environments": {"PROD": "z"}}]}]})",
                  "org.environments"},
        BadConfig{R"({"behaviour": {"code_life_seconds": "60"}})", "behaviour.code_life_seconds"},
        BadConfig{R"({"behaviour": {"limits": {"mint": 1}}})", "limits.mint"},
        BadConfig{R"({"default_consent": {"environment": 3}})", "consent.environment"}));

TEST(ConfigTest, BehaviourSurvivesARoundTrip) {
  Behaviour behaviour;
  ASSERT_TRUE(MergeBehaviour(nlohmann::json{{"api_domain", "https://x"},
                                            {"retries_extend_block", true},
                                            {"limits", {{"codes_per_window", 4}}}},
                             &behaviour)
                  .ok());
  Behaviour copy;
  ASSERT_TRUE(MergeBehaviour(nlohmann::json(ToJson(behaviour)), &copy).ok());
  EXPECT_EQ(ToJson(copy).dump(), ToJson(behaviour).dump());
  EXPECT_EQ(copy.limits.codes_per_window, 4);
  EXPECT_EQ(copy.limits.mints, 10);
}

TEST(ConfigTest, FaultRules) {
  const auto rule = ParseFaultRule(nlohmann::json{{"kind", "huge_body"},
                                                  {"dc", "us"},
                                                  {"times", 3},
                                                  {"delay_ms", 200},
                                                  {"drip_ms", 5},
                                                  {"huge_bytes", 10}});
  ASSERT_TRUE(rule.ok()) << rule.status();
  EXPECT_EQ(rule->fault.kind, FaultKind::kHugeBody);
  EXPECT_EQ(rule->times, 3);
  EXPECT_EQ(rule->fault.delay, absl::Milliseconds(200));
  EXPECT_EQ(rule->fault.drip_interval, absl::Milliseconds(5));
  EXPECT_EQ(rule->fault.huge_bytes, 10u);
  EXPECT_FALSE(ParseFaultRule(nlohmann::json{{"kind", "explode"}}).ok());
  for (int i = 0; i <= static_cast<int>(FaultKind::kTruncate); ++i) {
    const auto kind = static_cast<FaultKind>(i);
    EXPECT_EQ(ParseFaultKind(FaultKindName(kind)), kind);
  }
}

}  // namespace
}  // namespace tokenbroker::zoho_simulator
