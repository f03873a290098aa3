// Zoho's limits: facts section 5.

#include <gtest/gtest.h>

#include "tests/zoho_simulator/state_fixture.h"

namespace tokenbroker::zoho_simulator {
namespace {

using LimitsTest = StateTest;

TEST_F(LimitsTest, TenMintsThenThrottledToTheEndOfTheWindow) {
  const std::string refresh_token = NewRefreshToken();
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Refresh(refresh_token).outcome, "minted") << i;
    Pass(absl::Seconds(10));
  }
  const AccountsReply reply = Refresh(refresh_token);
  EXPECT_EQ(reply.outcome, "throttled");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.body,
            "{\"error_description\":\"You have made too many requests continuously. Please try "
            "again after some time.\",\"error\":\"Access Denied\",\"status\":\"failure\"}");
  // The window began with the first refresh, 100 s ago.
  Pass(absl::Seconds(499));
  EXPECT_EQ(Refresh(refresh_token).outcome, "throttled");
  Pass(absl::Seconds(1));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Refresh(refresh_token).outcome, "minted") << i;
  EXPECT_EQ(Refresh(refresh_token).outcome, "throttled");
}

TEST_F(LimitsTest, TheThrottleIsPerRefreshToken) {
  const std::string one = NewRefreshToken();
  const std::string other = NewRefreshToken();
  for (int i = 0; i < 11; ++i) Refresh(one);
  EXPECT_EQ(Refresh(one).outcome, "throttled");
  EXPECT_EQ(Refresh(other).outcome, "minted");
}

TEST_F(LimitsTest, RetriesCanExtendTheBlock) {
  Change([](Behaviour& behaviour) { behaviour.retries_extend_block = true; });
  const std::string refresh_token = NewRefreshToken();
  for (int i = 0; i < 10; ++i) Refresh(refresh_token);
  Pass(absl::Seconds(590));
  EXPECT_EQ(Refresh(refresh_token).outcome, "throttled");
  Pass(absl::Seconds(590));
  EXPECT_EQ(Refresh(refresh_token).outcome, "throttled");
  Pass(absl::Seconds(600));
  EXPECT_EQ(Refresh(refresh_token).outcome, "minted");
}

TEST_F(LimitsTest, TheThrottleSpeaksChinese) {
  Change([](Behaviour& behaviour) { behaviour.throttle_language = Language::kChinese; });
  const std::string refresh_token = NewRefreshToken();
  for (int i = 0; i < 10; ++i) Refresh(refresh_token);
  const AccountsReply reply = Refresh(refresh_token);
  EXPECT_EQ(reply.status, 400);
  const auto body = Json(reply);
  EXPECT_EQ(body["status"], "failure");
  EXPECT_NE(body["error"], "Access Denied");
  EXPECT_NE(body["error_description"].get<std::string>().find("请求过多"), std::string::npos);
}

TEST_F(LimitsTest, TheEleventhActiveAccessTokenSilentlyKillsTheOldest) {
  Change([](Behaviour& behaviour) { behaviour.limits.mints = 0; });
  const std::string refresh_token = NewRefreshToken();
  // The exchange's token is the first of the ten.
  std::vector<std::string> tokens;
  for (int i = 0; i < 9; ++i) tokens.push_back(Json(Refresh(refresh_token))["access_token"]);
  EXPECT_EQ(state_.AccessTokenState(tokens[0], now_), "live");
  tokens.push_back(Json(Refresh(refresh_token))["access_token"]);
  EXPECT_EQ(state_.AccessTokenState(tokens[0], now_), "live") << "the exchange's token went";
  tokens.push_back(Json(Refresh(refresh_token))["access_token"]);
  EXPECT_EQ(state_.AccessTokenState(tokens[0], now_), "unknown");
  EXPECT_EQ(state_.AccessTokenState(tokens[1], now_), "live");
  EXPECT_EQ(CallPeople(tokens[0]).outcome, "token_dead");
}

TEST_F(LimitsTest, ExpiredAccessTokensDoNotCount) {
  Change([](Behaviour& behaviour) {
    behaviour.limits.mints = 0;
    behaviour.limits.active_access_tokens = 2;
  });
  const std::string refresh_token = NewRefreshToken();
  Pass(absl::Seconds(3600));
  const std::string first = Json(Refresh(refresh_token))["access_token"];
  const std::string second = Json(Refresh(refresh_token))["access_token"];
  EXPECT_EQ(state_.AccessTokenState(first, now_), "live");
  EXPECT_EQ(state_.AccessTokenState(second, now_), "live");
  const std::string third = Json(Refresh(refresh_token))["access_token"];
  EXPECT_EQ(state_.AccessTokenState(first, now_), "unknown");
  EXPECT_EQ(state_.AccessTokenState(third, now_), "live");
}

TEST_F(LimitsTest, The21stRefreshTokenEvictsTheOldestWithItsAccessTokens) {
  Change([](Behaviour& behaviour) {
    behaviour.limits.refresh_tokens_per_window = 0;
    behaviour.limits.codes_per_window = 0;
  });
  const std::string oldest = NewRefreshToken();
  const std::string access_token = Json(Refresh(oldest))["access_token"];
  std::string second = NewRefreshToken();
  for (int i = 2; i < 20; ++i) NewRefreshToken();
  EXPECT_EQ(Refresh(oldest).outcome, "minted");
  NewRefreshToken();
  EXPECT_EQ(Refresh(oldest).outcome, "invalid_code");
  EXPECT_EQ(CallPeople(access_token).outcome, "token_dead");
  EXPECT_EQ(Refresh(second).outcome, "minted");
}

TEST_F(LimitsTest, RevokedRefreshTokensMakeRoom) {
  Change([](Behaviour& behaviour) { behaviour.limits.refresh_tokens = 2; });
  const std::string first = NewRefreshToken();
  const std::string second = NewRefreshToken();
  EXPECT_EQ(state_.Revoke("us", {{"token", second}}, now_).outcome, "revoked");
  NewRefreshToken();
  EXPECT_EQ(Refresh(first).outcome, "minted");
}

TEST_F(LimitsTest, TenRefreshTokensPerTenMinutes) {
  Change([](Behaviour& behaviour) { behaviour.limits.codes_per_window = 0; });
  for (int i = 0; i < 10; ++i) EXPECT_NE(NewRefreshToken(), "");
  Parameters parameters = ConsentParameters();
  parameters["prompt"] = "consent";
  EXPECT_EQ(Token(ExchangeParameters(Code(parameters))).outcome, "throttled");
  // Online consents make none.
  parameters["access_type"] = "online";
  EXPECT_EQ(Token(ExchangeParameters(Code(parameters))).outcome, "minted");
  Pass(absl::Seconds(599));
  EXPECT_EQ(NewRefreshToken(), "");
  Pass(absl::Seconds(1));
  EXPECT_NE(NewRefreshToken(), "");
}

TEST_F(LimitsTest, LimitsCanBeOff) {
  Change([](Behaviour& behaviour) {
    behaviour.limits.mints = 0;
    behaviour.limits.active_access_tokens = 0;
  });
  const std::string refresh_token = NewRefreshToken();
  const std::string first = Json(Refresh(refresh_token))["access_token"];
  for (int i = 0; i < 50; ++i) EXPECT_EQ(Refresh(refresh_token).outcome, "minted");
  EXPECT_EQ(state_.AccessTokenState(first, now_), "live");
}

TEST_F(LimitsTest, SeededGrantsHaveUsersOfTheirOwn) {
  const auto seeded = state_.SeedGrants("eu", "1000.APP", 1000, {}, now_).value();
  ASSERT_EQ(seeded.size(), 1000u);
  EXPECT_NE(seeded[0].identity.org_id, seeded[999].identity.org_id);
  for (const size_t i : {size_t{0}, size_t{999}}) {
    Parameters parameters = RefreshParameters(seeded[i].refresh_token);
    parameters["client_secret"] = "secret-eu";
    const AccountsReply reply = Token(parameters, "eu");
    EXPECT_EQ(reply.outcome, "minted");
    EXPECT_EQ(reply.grant.number, seeded[i].identity.number);
    EXPECT_EQ(reply.grant.org_id, seeded[i].identity.org_id);
  }
  const auto more = state_.SeedGrants("eu", "1000.APP", 1, {}, now_).value();
  EXPECT_EQ(more[0].identity.org_id, "org-1001");
  EXPECT_EQ(state_.SeedGrants("cn", "1000.APP", 1, {}, now_).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(state_.SeedGrants("in", "1000.APP", 1, {}, now_).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(LimitsTest, ReportsTellTheStateOfAGrant) {
  const auto seeded = state_.SeedGrants("us", "1000.APP", 1, {}, now_).value()[0];
  for (int i = 0; i < 11; ++i) Refresh(seeded.refresh_token);
  const auto report =
      state_.FindGrant("us", "1000.APP", seeded.identity.org_id, Environment::kProduction, now_);
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->identity.number, seeded.identity.number);
  EXPECT_TRUE(report->alive);
  EXPECT_EQ(report->mints, 10);
  EXPECT_EQ(report->active_access_tokens, 10);
  EXPECT_EQ(report->throttled_until, now_ + absl::Seconds(600));
  EXPECT_TRUE(state_.KillGrant(seeded.identity.number).ok());
  EXPECT_FALSE(state_.FindGrant(seeded.identity.number, now_)->alive);
  EXPECT_EQ(state_.RefreshTokenOf(seeded.identity.number), std::nullopt);
  EXPECT_FALSE(state_.FindGrant(9999, now_).has_value());
}

TEST_F(LimitsTest, RefreshTokensDoNotExpireByAge) {
  const std::string refresh_token = NewRefreshToken();
  Pass(10 * absl::Hours(24 * 365));
  EXPECT_EQ(Refresh(refresh_token).outcome, "minted");
}

// A second user of us, and a second client: neither shares the limits of ana and 1000.APP.
class SeparateLimitsTest : public LimitsTest {
 protected:
  SeparateLimitsTest() {
    EXPECT_TRUE(state_.AddUser({"abe", "us", {{"org-abe", "Abe's", {}}}}).ok());
  }
  // The exchange of a new consent.
  AccountsReply Consent(const std::string& user, const std::string& client_id,
                        const std::string& secret) {
    Parameters parameters = ConsentParameters();
    parameters["sim_user"] = user;
    parameters["client_id"] = client_id;
    parameters["prompt"] = "consent";
    Parameters exchange = ExchangeParameters(Code(parameters));
    exchange["client_id"] = client_id;
    exchange["client_secret"] = secret;
    return Token(exchange);
  }
};

TEST_F(SeparateLimitsTest, EvictionIsPerUserAndClient) {
  Change([](Behaviour& behaviour) { behaviour.limits.refresh_tokens = 1; });
  const std::string ana = NewRefreshToken();
  EXPECT_EQ(Consent("abe", "1000.APP", "secret-us").outcome, "minted");
  EXPECT_EQ(Consent("ana", "1000.USONLY", "secret-usonly").outcome, "minted");
  EXPECT_EQ(Refresh(ana).outcome, "minted") << "another user or client pushed it out";
  NewRefreshToken();
  EXPECT_EQ(Refresh(ana).outcome, "invalid_code");
}

TEST_F(SeparateLimitsTest, RefreshTokensMadeAreCountedPerUserAndClient) {
  Change([](Behaviour& behaviour) {
    behaviour.limits.codes_per_window = 0;
    behaviour.limits.refresh_tokens_per_window = 1;
  });
  EXPECT_EQ(Consent("ana", "1000.APP", "secret-us").outcome, "minted");
  EXPECT_EQ(Consent("ana", "1000.APP", "secret-us").outcome, "throttled");
  EXPECT_EQ(Consent("abe", "1000.APP", "secret-us").outcome, "minted");
  EXPECT_EQ(Consent("ana", "1000.USONLY", "secret-usonly").outcome, "minted");
}

}  // namespace
}  // namespace tokenbroker::zoho_simulator
