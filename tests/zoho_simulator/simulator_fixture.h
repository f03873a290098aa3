// A running simulator with two data centres, for tests over real sockets.

#ifndef TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_SIMULATOR_FIXTURE_H_
#define TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_SIMULATOR_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/zoho_simulator/http_client.h"
#include "tests/zoho_simulator/simulator.h"
#include "tests/zoho_simulator/text.h"

namespace tokenbroker::zoho_simulator {

class SimulatorTest : public testing::Test {
 protected:
  static constexpr char kCallback[] = "https://app.example/callback";
  static constexpr char kTokenPath[] = "/oauth/v2/token";
  static constexpr absl::Duration kPatience = absl::Seconds(20);

  static Simulator::Options TestOptions() {
    Simulator::Options options;
    options.dcs = {{.name = "us"}, {.name = "eu"}};
    ClientConfig app;
    app.client_id = "1000.APP";
    app.home_dc = "us";
    app.multi_dc = true;
    app.secrets = {{"us", "secret-us"}, {"eu", "secret-eu"}};
    app.redirect_uris = {kCallback};
    options.clients = {app};
    options.users = {{"ana", "us", {{"org-a", "Org A", {}}}}, {"eva", "eu", {{"org-e", "", {}}}}};
    return options;
  }

  void Start(Simulator::Options options = TestOptions()) {
    absl::StatusOr<std::unique_ptr<Simulator>> created = Simulator::Create(std::move(options));
    ASSERT_TRUE(created.ok()) << created.status();
    simulator_ = *std::move(created);
  }

  SeededGrant Seed(const char* dc = "us") {
    return simulator_->SeedGrants(dc, "1000.APP", 1).value()[0];
  }

  static std::string RefreshBody(const SeededGrant& grant) {
    return absl::StrCat("grant_type=refresh_token&client_id=1000.APP&client_secret=secret-",
                        grant.dc, "&refresh_token=", grant.refresh_token);
  }

  HttpResult Refresh(const SeededGrant& grant) {
    return Call(simulator_->dc(grant.dc).url(), "POST", kTokenPath, RefreshBody(grant));
  }

  int64_t Outcomes(const std::string& outcome) {
    RequestFilter filter;
    filter.outcome = outcome;
    return simulator_->log().Count(filter);
  }

  RequestEntry LastEntry() {
    const auto entries = simulator_->log().Entries({});
    EXPECT_FALSE(entries.empty());
    return entries.empty() ? RequestEntry() : entries.back();
  }

  static nlohmann::json Json(const HttpResult& result) {
    nlohmann::json parsed = nlohmann::json::parse(result.body, nullptr, false);
    EXPECT_FALSE(parsed.is_discarded()) << result.body;
    return parsed;
  }

  std::unique_ptr<Simulator> simulator_;
};

}  // namespace tokenbroker::zoho_simulator

#endif  // TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_SIMULATOR_FIXTURE_H_
