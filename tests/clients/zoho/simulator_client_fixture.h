// The client and a simulated Zoho of two DCs, over HTTP or HTTPS.

#ifndef TOKEN_BROKER_TESTS_CLIENTS_ZOHO_SIMULATOR_CLIENT_FIXTURE_H_
#define TOKEN_BROKER_TESTS_CLIENTS_ZOHO_SIMULATOR_CLIENT_FIXTURE_H_

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "clients/zoho/curl_accounts_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/zoho_simulator/simulator.h"

namespace tokenbroker {

inline constexpr char kCallback[] = "https://app.example/callback";

// A PEM file that is gone at the end.
class CaFile {
 public:
  explicit CaFile(const std::string& pem) : path_(::testing::TempDir() + "/tb-ca-XXXXXX") {
    const int file = mkstemp(path_.data());
    EXPECT_GE(file, 0);
    close(file);
    std::ofstream(path_) << pem;
  }
  ~CaFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class AgainstSimulatorTest : public ::testing::Test {
 protected:
  explicit AgainstSimulatorTest(bool https = false) : https_(https) {
    simulator_ = zoho_simulator::Simulator::Create(SimulatorOptions(https)).value();
    CurlAccountsServer::Options options;
    options.allow_plaintext_loopback = true;
    if (https) {
      ca_file_.emplace(simulator_->certificate_pem());
      options.ca_file = ca_file_->path();
    }
    server_ = CurlAccountsServer::Create(options).value();
  }

  static zoho_simulator::Simulator::Options SimulatorOptions(bool https) {
    zoho_simulator::Simulator::Options options;
    options.https = https;
    options.dcs = {{.name = "us"}, {.name = "eu"}};
    zoho_simulator::ClientConfig app;
    app.client_id = "1000.APP";
    app.home_dc = "us";
    app.multi_dc = true;
    app.secrets = {{"us", "secret-us"}, {"eu", "secret-eu"}};
    app.redirect_uris = {kCallback};
    zoho_simulator::ClientConfig self;
    self.client_id = "1000.SELF";
    self.type = zoho_simulator::ClientType::kSelfClient;
    self.home_dc = "us";
    self.secrets = {{"us", "secret-self"}};
    options.clients = {app, self};
    options.users = {{"ana", "us", {{"org-a", "Org A", {}}}}};
    return options;
  }

  DataCenter Dc(const std::string& name) const {
    const auto& dc = simulator_->dc(name);
    const std::string& url = https_ ? dc.https_url() : dc.url();
    const DataCenter real =
        *DataCenterTable::Create({}, false).value().Find(name);  // its API domain comes in replies
    return {name, url, real.api_domain, real.people_host};
  }

  TokenRequest App(const std::string& dc) const {
    TokenRequest request;
    request.dc = Dc(dc);
    request.client_id = "1000.APP";
    request.client_secret = Secret("secret-" + dc);
    return request;
  }
  TokenRequest Self() const {
    TokenRequest request = App("us");
    request.client_id = "1000.SELF";
    request.client_secret = Secret("secret-self");
    return request;
  }
  TokenRequest RefreshOf(const zoho_simulator::SeededGrant& grant) const {
    TokenRequest request = App(grant.dc);
    request.grant_type = TokenRequest::GrantType::kRefreshToken;
    request.refresh_token = Secret(grant.refresh_token);
    return request;
  }
  TokenRequest ExchangeOf(std::string code) const {
    TokenRequest request = App("us");
    request.grant_type = TokenRequest::GrantType::kAuthorizationCode;
    request.code = Secret(std::move(code));
    request.redirect_uri = kCallback;
    return request;
  }

  zoho_simulator::SeededGrant Seed(const std::string& dc = "us") {
    return simulator_->SeedGrants(dc, "1000.APP", 1).value()[0];
  }
  std::string Code(const std::string& client_id = "1000.APP") {
    zoho_simulator::CodeRequest request;
    request.client_id = client_id;
    request.user_id = "ana";
    return simulator_->accounts().CreateCode(request, simulator_->now()).value();
  }

  TokenResponse Send(const TokenRequest& request) {
    return server_->RequestToken(request, [] { return absl::OkStatus(); });
  }

  // The only request since the last call, once the simulator is done with it.
  zoho_simulator::RequestEntry OnlyEntry() {
    zoho_simulator::RequestFilter filter;
    filter.after_sequence = last_sequence_;
    filter.finished = true;
    EXPECT_TRUE(simulator_->log().WaitForCount(filter, 1, absl::Seconds(10)));
    filter.finished.reset();
    const std::vector<zoho_simulator::RequestEntry> entries = simulator_->log().Entries(filter);
    EXPECT_EQ(entries.size(), 1u);
    if (entries.empty()) return {};
    last_sequence_ = entries.back().sequence;
    EXPECT_EQ(entries[0].method, "POST");
    EXPECT_EQ(entries[0].https, https_);
    EXPECT_FALSE(entries[0].secret_in_url);
    return entries[0];
  }

  // Sends a request that Zoho must refuse, and compares both sides' view of it.
  void ExpectRefusal(const TokenRequest& request, ReplyKind kind, const std::string& error,
                     const std::string& outcome) {
    const TokenResponse response = Send(request);
    EXPECT_EQ(response.delivery, TokenResponse::Delivery::kAnswered);
    EXPECT_EQ(ReplyKindName(response.reply.kind), ReplyKindName(kind));
    EXPECT_EQ(response.reply.error, error);
    EXPECT_EQ(response.reply.advice, ZohoErrorAdvice(error));
    EXPECT_TRUE(response.reply.access_token.empty());
    EXPECT_EQ(OnlyEntry().outcome, outcome);
  }

  void SetBehaviour(zoho_simulator::Behaviour behaviour) {
    ASSERT_TRUE(simulator_->accounts().SetBehaviour("us", std::move(behaviour)).ok());
  }
  void AddFault(zoho_simulator::FaultKind kind, int status = 0, int times = 1) {
    zoho_simulator::FaultRule rule;
    rule.times = times;
    rule.fault.kind = kind;
    rule.fault.status = status;
    simulator_->AddFault(rule);
  }
  std::string TokenState(const Secret& token) {
    return std::string(simulator_->accounts().AccessTokenState(token.Reveal(), simulator_->now()));
  }

  const bool https_;
  std::unique_ptr<zoho_simulator::Simulator> simulator_;
  std::optional<CaFile> ca_file_;
  std::unique_ptr<CurlAccountsServer> server_;
  uint64_t last_sequence_ = 0;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_CLIENTS_ZOHO_SIMULATOR_CLIENT_FIXTURE_H_
