// Two data centres, China, clients of each kind and a few users, on a clock that tests move.

#ifndef TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_STATE_FIXTURE_H_
#define TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_STATE_FIXTURE_H_

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/time/time.h"
#include "tests/zoho_simulator/accounts_state.h"
#include "tests/zoho_simulator/text.h"

namespace tokenbroker::zoho_simulator {

class StateTest : public testing::Test {
 protected:
  static constexpr char kCallback[] = "https://app.example/callback";

  StateTest() : state_(1) {
    for (const char* dc : {"us", "eu", "cn"}) EXPECT_TRUE(state_.AddDc(dc, Behaviour()).ok());
    ClientConfig app;
    app.client_id = "1000.APP";
    app.home_dc = "us";
    app.multi_dc = true;
    app.secrets = {{"us", "secret-us"}, {"eu", "secret-eu"}};
    app.redirect_uris = {kCallback};
    EXPECT_TRUE(state_.AddClient(app).ok());

    ClientConfig us_only = app;
    us_only.client_id = "1000.USONLY";
    us_only.multi_dc = false;
    us_only.secrets = {{"us", "secret-usonly"}};
    EXPECT_TRUE(state_.AddClient(us_only).ok());

    ClientConfig self;
    self.client_id = "1000.SELF";
    self.type = ClientType::kSelfClient;
    self.home_dc = "us";
    self.secrets = {{"us", "secret-self"}};
    EXPECT_TRUE(state_.AddClient(self).ok());

    ClientConfig tv;
    tv.client_id = "1004.TV";
    tv.type = ClientType::kNonBrowser;
    tv.home_dc = "us";
    tv.multi_dc = true;
    tv.same_secret_everywhere = true;
    tv.secrets = {{"us", "secret-tv"}};
    EXPECT_TRUE(state_.AddClient(tv).ok());

    EXPECT_TRUE(
        state_
            .AddUser({"ana",
                      "us",
                      {{"org-a",
                        "Org A",
                        {{Environment::kProduction, "100"}, {Environment::kSandbox, "101"}}},
                       {"org-b", "Org B", {}}}})
            .ok());
    EXPECT_TRUE(state_.AddUser({"eva", "eu", {{"org-e", "Org E", {}}}}).ok());
    EXPECT_TRUE(state_.AddUser({"chen", "cn", {{"org-c", "Org C", {}}}}).ok());
  }

  static nlohmann::json Json(const AccountsReply& reply) {
    nlohmann::json parsed = nlohmann::json::parse(reply.body, nullptr, false);
    EXPECT_FALSE(parsed.is_discarded()) << reply.body;
    return parsed;
  }

  // The authorization request of a well-made app, with a user who accepts.
  static Parameters ConsentParameters() {
    return {{"response_type", "code"},   {"client_id", "1000.APP"},
            {"redirect_uri", kCallback}, {"scope", "ZOHOPEOPLE.forms.ALL"},
            {"access_type", "offline"},  {"sim_user", "ana"}};
  }

  AccountsReply Authorize(std::string_view dc, const Parameters& parameters) {
    return state_.Authorize(dc, parameters, "/oauth/v2/auth?x=y", now_);
  }

  // A parameter of the redirect.
  static std::string Redirected(const AccountsReply& reply, const std::string& name) {
    EXPECT_EQ(reply.status, 302) << reply.outcome;
    const size_t question = reply.location.find('?');
    if (question == std::string::npos) return "";
    return Get(ParseForm(reply.location.substr(question + 1)), name);
  }

  std::string Code(Parameters parameters = ConsentParameters(), std::string_view dc = "us") {
    return Redirected(Authorize(dc, parameters), "code");
  }

  static Parameters ExchangeParameters(const std::string& code) {
    return {{"grant_type", "authorization_code"},
            {"client_id", "1000.APP"},
            {"client_secret", "secret-us"},
            {"redirect_uri", kCallback},
            {"code", code}};
  }

  static Parameters RefreshParameters(const std::string& refresh_token) {
    return {{"grant_type", "refresh_token"},
            {"client_id", "1000.APP"},
            {"client_secret", "secret-us"},
            {"refresh_token", refresh_token}};
  }

  AccountsReply Token(const Parameters& parameters, std::string_view dc = "us") {
    return state_.Token(dc, parameters, now_);
  }

  AccountsReply Refresh(const std::string& refresh_token, std::string_view dc = "us") {
    return Token(RefreshParameters(refresh_token), dc);
  }

  // A grant of org-a's in US for 1000.APP.
  std::string NewRefreshToken() {
    Parameters parameters = ConsentParameters();
    parameters["prompt"] = "consent";
    return Json(Token(ExchangeParameters(Code(parameters)))).value("refresh_token", "");
  }

  AccountsReply CallPeople(const std::string& access_token, std::string_view dc = "us",
                           std::string_view method = "GET",
                           std::string_view path = "/people/api/forms") {
    return state_.People(dc, method, path, "Zoho-oauthtoken " + access_token, now_);
  }

  void Change(const std::function<void(Behaviour&)>& change) {
    for (const char* dc : {"us", "eu", "cn"}) {
      Behaviour behaviour = *state_.GetBehaviour(dc);
      change(behaviour);
      EXPECT_TRUE(state_.SetBehaviour(dc, behaviour).ok());
    }
  }

  void Pass(absl::Duration time) { now_ += time; }

  AccountsState state_;
  absl::Time now_ = absl::FromUnixSeconds(1'700'000'000);
};

}  // namespace tokenbroker::zoho_simulator

#endif  // TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_STATE_FIXTURE_H_
