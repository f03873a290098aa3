// The client against the simulated Zoho, over HTTP and HTTPS. What was really sent is judged by the
// simulator's record.

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "clients/zoho/curl_accounts_server.h"
#include "common/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/zoho_simulator/simulator.h"

namespace tokenbroker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Delivery = TokenResponse::Delivery;
using zoho_simulator::Behaviour;
using zoho_simulator::CodeRequest;
using zoho_simulator::FaultKind;
using zoho_simulator::FaultRule;
using zoho_simulator::RequestEntry;
using zoho_simulator::RequestFilter;
using zoho_simulator::SeededGrant;
using zoho_simulator::Simulator;

constexpr char kCallback[] = "https://app.example/callback";

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
    simulator_ = Simulator::Create(SimulatorOptions(https)).value();
    CurlAccountsServer::Options options;
    options.allow_plaintext_loopback = true;
    if (https) {
      ca_file_.emplace(simulator_->certificate_pem());
      options.ca_file = ca_file_->path();
    }
    server_ = CurlAccountsServer::Create(options).value();
  }

  static Simulator::Options SimulatorOptions(bool https) {
    Simulator::Options options;
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
  TokenRequest RefreshOf(const SeededGrant& grant) const {
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

  SeededGrant Seed(const std::string& dc = "us") {
    return simulator_->SeedGrants(dc, "1000.APP", 1).value()[0];
  }
  std::string Code(const std::string& client_id = "1000.APP") {
    CodeRequest request;
    request.client_id = client_id;
    request.user_id = "ana";
    return simulator_->accounts().CreateCode(request, simulator_->now()).value();
  }

  TokenResponse Send(const TokenRequest& request) {
    return server_->RequestToken(request, [] { return absl::OkStatus(); });
  }

  // The only request since the last call, once the simulator is done with it.
  RequestEntry OnlyEntry() {
    RequestFilter filter;
    filter.after_sequence = last_sequence_;
    filter.finished = true;
    EXPECT_TRUE(simulator_->log().WaitForCount(filter, 1, absl::Seconds(10)));
    filter.finished.reset();
    const std::vector<RequestEntry> entries = simulator_->log().Entries(filter);
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
    EXPECT_EQ(response.delivery, Delivery::kAnswered);
    EXPECT_EQ(ReplyKindName(response.reply.kind), ReplyKindName(kind));
    EXPECT_EQ(response.reply.error, error);
    EXPECT_EQ(response.reply.advice, ZohoErrorAdvice(error));
    EXPECT_TRUE(response.reply.access_token.empty());
    EXPECT_EQ(OnlyEntry().outcome, outcome);
  }

  void SetBehaviour(Behaviour behaviour) {
    ASSERT_TRUE(simulator_->accounts().SetBehaviour("us", std::move(behaviour)).ok());
  }
  void AddFault(FaultKind kind, int status = 0, int times = 1) {
    FaultRule rule;
    rule.times = times;
    rule.fault.kind = kind;
    rule.fault.status = status;
    simulator_->AddFault(rule);
  }
  std::string TokenState(const Secret& token) {
    return std::string(simulator_->accounts().AccessTokenState(token.Reveal(), simulator_->now()));
  }

  const bool https_;
  std::unique_ptr<Simulator> simulator_;
  std::optional<CaFile> ca_file_;
  std::unique_ptr<CurlAccountsServer> server_;
  uint64_t last_sequence_ = 0;
};

// --- The grant types, over both transports
// ---------------------------------------------------------

class GrantTypesTest : public AgainstSimulatorTest, public ::testing::WithParamInterface<bool> {
 protected:
  GrantTypesTest() : AgainstSimulatorTest(GetParam()) {}
};

INSTANTIATE_TEST_SUITE_P(Transports, GrantTypesTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Https" : "Http"; });

TEST_P(GrantTypesTest, CodeByRedirectThenRefresh) {
  const TokenResponse exchanged = Send(ExchangeOf(Code()));
  ASSERT_EQ(exchanged.delivery, Delivery::kAnswered) << exchanged.status;
  ASSERT_EQ(exchanged.reply.kind, ReplyKind::kSuccess) << exchanged.reply.error;
  EXPECT_EQ(TokenState(exchanged.reply.access_token), "live");
  EXPECT_FALSE(exchanged.reply.refresh_token.empty());
  EXPECT_EQ(exchanged.reply.lifetime, absl::Seconds(3600));
  EXPECT_THAT(exchanged.reply.scopes, ElementsAre("ZOHOPEOPLE.forms.ALL"));
  EXPECT_EQ(exchanged.reply.api_domain, "https://www.zohoapis.com");
  const RequestEntry entry = OnlyEntry();
  EXPECT_EQ(entry.path, "/oauth/v2/token");
  EXPECT_EQ(entry.grant_type, "authorization_code");
  EXPECT_EQ(entry.outcome, "minted");

  TokenRequest refresh = App("us");
  refresh.grant_type = TokenRequest::GrantType::kRefreshToken;
  refresh.refresh_token = exchanged.reply.refresh_token;
  const TokenResponse refreshed = Send(refresh);
  EXPECT_EQ(refreshed.reply.kind, ReplyKind::kSuccess);
  EXPECT_TRUE(refreshed.reply.refresh_token.empty());
  EXPECT_NE(refreshed.reply.access_token, exchanged.reply.access_token);
  EXPECT_EQ(TokenState(refreshed.reply.access_token), "live");
  EXPECT_EQ(OnlyEntry().grant_type, "refresh_token");
}

TEST_P(GrantTypesTest, CodeOfASelfClient) {
  TokenRequest request = Self();
  request.grant_type = TokenRequest::GrantType::kAuthorizationCode;
  request.code = Secret(Code("1000.SELF"));
  const TokenResponse response = Send(request);
  EXPECT_EQ(response.reply.kind, ReplyKind::kSuccess) << response.reply.error;
  EXPECT_FALSE(response.reply.refresh_token.empty());
  EXPECT_EQ(OnlyEntry().client_id, "1000.SELF");
}

TEST_P(GrantTypesTest, ClientCredentials) {
  TokenRequest request = Self();
  request.grant_type = TokenRequest::GrantType::kClientCredentials;
  request.scope = "ZOHOPEOPLE.forms.READ,ZOHOPEOPLE.leave.READ";
  request.soid = "ZohoPeople.org-a";
  const TokenResponse response = Send(request);
  EXPECT_EQ(response.reply.kind, ReplyKind::kSuccess) << response.reply.error;
  EXPECT_TRUE(response.reply.refresh_token.empty());
  EXPECT_THAT(response.reply.scopes, ElementsAre("ZOHOPEOPLE.forms.READ", "ZOHOPEOPLE.leave.READ"));
  const RequestEntry entry = OnlyEntry();
  EXPECT_EQ(entry.grant_type, "client_credentials");
  EXPECT_EQ(entry.grant.org_id, "org-a");
}

TEST_P(GrantTypesTest, RefusalByTheCheckSendsNothing) {
  const SeededGrant grant = Seed();
  const TokenResponse response =
      server_->RequestToken(RefreshOf(grant), [] { return GrantChangedError(); });
  EXPECT_EQ(response.delivery, Delivery::kNotSent);
  EXPECT_EQ(ErrorReason(response.status), "GRANT_CHANGED");
  EXPECT_EQ(simulator_->log().Count({}), 0);
}

TEST_P(GrantTypesTest, RevokeKillsTheGrant) {
  const SeededGrant grant = Seed();
  const TokenResponse minted = Send(RefreshOf(grant));
  OnlyEntry();
  EXPECT_TRUE(server_->RevokeToken(Dc("us"), Secret(grant.refresh_token), absl::Seconds(10)).ok());
  EXPECT_EQ(OnlyEntry().outcome, "revoked");
  EXPECT_EQ(TokenState(minted.reply.access_token), "unknown");
  // Again: no longer known is as good.
  EXPECT_TRUE(server_->RevokeToken(Dc("us"), Secret(grant.refresh_token), absl::Seconds(10)).ok());
  EXPECT_EQ(OnlyEntry().outcome, "invalid_token");
  ExpectRefusal(RefreshOf(grant), ReplyKind::kGrantDead, "invalid_code", "invalid_code");
}

// --- TLS
// ------------------------------------------------------------------------------------------

class TlsTest : public AgainstSimulatorTest {
 protected:
  TlsTest() : AgainstSimulatorTest(/*https=*/true) {}

  void ExpectNotSent(const TokenRequest& request, const std::string& last_error) {
    bool checked = false;
    const TokenResponse response = server_->RequestToken(request, [&] {
      checked = true;
      return absl::OkStatus();
    });
    EXPECT_EQ(response.delivery, Delivery::kNotSent);
    EXPECT_FALSE(checked);
    EXPECT_EQ(GetErrorDetail(response.status)->metadata["last_error"], last_error);
    EXPECT_EQ(simulator_->log().Count({}), 0);
  }
};

TEST_F(TlsTest, UnknownAuthorityIsRefused) {
  const SeededGrant grant = Seed();
  server_ = CurlAccountsServer::Create({}).value();
  ExpectNotSent(RefreshOf(grant), "certificate_refused");
}

TEST_F(TlsTest, AnotherAuthorityIsRefused) {
  const SeededGrant grant = Seed();
  const auto other = Simulator::Create(SimulatorOptions(true)).value();
  const CaFile other_ca(other->certificate_pem());
  CurlAccountsServer::Options options;
  options.ca_file = other_ca.path();
  server_ = CurlAccountsServer::Create(options).value();
  ExpectNotSent(RefreshOf(grant), "certificate_refused");
}

TEST_F(TlsTest, CertificateForAnotherNameIsRefused) {
  // The certificate is for localhost and 127.0.0.1.
  Simulator::Options options = SimulatorOptions(true);
  options.listen_address = "127.0.0.2";
  simulator_ = Simulator::Create(std::move(options)).value();
  const SeededGrant grant = Seed();
  const CaFile ca(simulator_->certificate_pem());
  CurlAccountsServer::Options client_options;
  client_options.ca_file = ca.path();
  server_ = CurlAccountsServer::Create(client_options).value();
  TokenRequest request = RefreshOf(grant);
  const std::string url = request.dc.accounts_server;
  request.dc.accounts_server = "https://127.0.0.2" + url.substr(url.rfind(':'));
  ExpectNotSent(request, "certificate_refused");
}

TEST_F(TlsTest, StalledHandshakeIsBounded) {
  const SeededGrant grant = Seed();
  ASSERT_TRUE(simulator_->SetAcceptMode("us", zoho_simulator::AcceptMode::kStall).ok());
  TokenRequest request = RefreshOf(grant);
  request.connect_timeout = absl::Milliseconds(100);
  ExpectNotSent(request, "connect_timeout");
}

TEST_F(TlsTest, RefusedConnectionIsNotSent) {
  const SeededGrant grant = Seed();
  ASSERT_TRUE(simulator_->SetAcceptMode("us", zoho_simulator::AcceptMode::kRefuse).ok());
  ExpectNotSent(RefreshOf(grant), "connect_failed");
}

TEST_F(TlsTest, ReplyCutOffInsideTlsIsUnknown) {
  const SeededGrant grant = Seed();
  AddFault(FaultKind::kResetAfterProcessing);
  EXPECT_EQ(Send(RefreshOf(grant)).delivery, Delivery::kUnknown);
  EXPECT_EQ(OnlyEntry().outcome, "minted");
  AddFault(FaultKind::kTruncate);
  EXPECT_EQ(Send(RefreshOf(grant)).delivery, Delivery::kUnknown);
  EXPECT_EQ(OnlyEntry().outcome, "minted");
}

// --- The error table
// ------------------------------------------------------------------------------

TEST_F(AgainstSimulatorTest, UnknownClient) {
  TokenRequest request = RefreshOf(Seed());
  request.client_id = "1000.NOBODY";
  ExpectRefusal(request, ReplyKind::kClientRejected, "invalid_client", "invalid_client");
}

TEST_F(AgainstSimulatorTest, ClientOfAnotherDcWithoutMultiDc) {
  TokenRequest request = Self();
  request.dc = Dc("eu");
  request.grant_type = TokenRequest::GrantType::kAuthorizationCode;
  request.code = Secret(Code("1000.SELF"));
  ExpectRefusal(request, ReplyKind::kClientRejected, "invalid_client", "invalid_client");
}

TEST_F(AgainstSimulatorTest, SecretOfAnotherDc) {
  TokenRequest request = RefreshOf(Seed("us"));
  request.client_secret = Secret("secret-eu");
  ExpectRefusal(request, ReplyKind::kClientRejected, "invalid_client_secret",
                "invalid_client_secret");
  // As the guide has it.
  Behaviour guide;
  guide.wrong_secret_error = "invalid_client";
  SetBehaviour(guide);
  ExpectRefusal(request, ReplyKind::kClientRejected, "invalid_client", "invalid_client_secret");
}

TEST_F(AgainstSimulatorTest, CodeIsGoodOnceAndForAMinute) {
  const TokenRequest used = ExchangeOf(Code());
  EXPECT_EQ(Send(used).reply.kind, ReplyKind::kSuccess);
  OnlyEntry();
  ExpectRefusal(used, ReplyKind::kGrantDead, "invalid_code", "invalid_code");

  const TokenRequest late = ExchangeOf(Code());
  simulator_->AdvanceTime(absl::Seconds(61));
  ExpectRefusal(late, ReplyKind::kGrantDead, "invalid_code", "invalid_code");
}

TEST_F(AgainstSimulatorTest, RefreshTokenThatIsDeadWrongOrOfAnotherDc) {
  const SeededGrant grant = Seed();
  TokenRequest elsewhere = RefreshOf(grant);
  elsewhere.dc = Dc("eu");
  elsewhere.client_secret = Secret("secret-eu");
  ExpectRefusal(elsewhere, ReplyKind::kGrantDead, "invalid_code", "invalid_code");

  TokenRequest wrong = RefreshOf(grant);
  wrong.refresh_token = Secret("1000.0.0");
  ExpectRefusal(wrong, ReplyKind::kGrantDead, "invalid_code", "invalid_code");

  ASSERT_TRUE(simulator_->accounts().KillGrant(grant.identity.number).ok());
  ExpectRefusal(RefreshOf(grant), ReplyKind::kGrantDead, "invalid_code", "invalid_code");
}

TEST_F(AgainstSimulatorTest, RedirectUriMissingOrDifferent) {
  TokenRequest request = ExchangeOf(Code());
  request.redirect_uri = "";
  ExpectRefusal(request, ReplyKind::kClientRejected, "invalid_redirect_uri",
                "invalid_redirect_uri");
  request.redirect_uri = absl::StrCat(kCallback, "/");
  ExpectRefusal(request, ReplyKind::kClientRejected, "invalid_redirect_uri",
                "invalid_redirect_uri");
}

TEST_F(AgainstSimulatorTest, ClientCredentialsWithoutOrgOrScope) {
  TokenRequest request = Self();
  request.grant_type = TokenRequest::GrantType::kClientCredentials;
  request.scope = "ZOHOPEOPLE.forms.READ";
  request.soid = "ZohoPeople.nobody";
  ExpectRefusal(request, ReplyKind::kClientRejected, "missing_org_info", "missing_org_info");
  request.soid = "ZohoPeople.org-a";
  request.scope = "nonsense";
  ExpectRefusal(request, ReplyKind::kClientRejected, "invalid_scope", "invalid_scope");
}

TEST_F(AgainstSimulatorTest, ThrottleInAnyLanguage) {
  for (const auto language :
       {zoho_simulator::Language::kEnglish, zoho_simulator::Language::kChinese}) {
    Behaviour behaviour;
    behaviour.throttle_language = language;
    behaviour.limits.mints = 1;
    SetBehaviour(behaviour);
    const TokenRequest request = RefreshOf(Seed());
    EXPECT_EQ(Send(request).reply.kind, ReplyKind::kSuccess);
    OnlyEntry();
    ExpectRefusal(request, ReplyKind::kThrottled, "throttled", "throttled");
  }
}

TEST_F(AgainstSimulatorTest, ThrottledRevocationIsNoRevocation) {
  const SeededGrant grant = Seed();
  AddFault(FaultKind::kThrottle);
  const absl::Status status =
      server_->RevokeToken(Dc("us"), Secret(grant.refresh_token), absl::Seconds(10));
  EXPECT_EQ(ErrorReason(status), "ZOHO_UNAVAILABLE");
  EXPECT_EQ(Send(RefreshOf(grant)).reply.kind, ReplyKind::kSuccess);
}

TEST_F(AgainstSimulatorTest, WhatSaysNothingAboutTheGrant) {
  const SeededGrant grant = Seed();
  struct Row {
    FaultKind kind;
    int status;
    ReplyKind reply;
    const char* error;
  };
  for (const Row& row : {Row{FaultKind::kTooManyRequests, 0, ReplyKind::kThrottled, "throttled"},
                         Row{FaultKind::kStatus, 500, ReplyKind::kTransient, "general_error"},
                         Row{FaultKind::kStatus, 400, ReplyKind::kTransient, "general_error"},
                         Row{FaultKind::kHtml, 0, ReplyKind::kTransient, "html"},
                         Row{FaultKind::kHtml, 400, ReplyKind::kTransient, "http_400"},
                         Row{FaultKind::kHtml, 502, ReplyKind::kTransient, "http_502"},
                         Row{FaultKind::kEmpty, 0, ReplyKind::kTransient, "empty_reply"},
                         Row{FaultKind::kEmpty, 503, ReplyKind::kTransient, "http_503"},
                         Row{FaultKind::kGarbageJson, 0, ReplyKind::kTransient, "not_json"},
                         Row{FaultKind::kRedirect, 0, ReplyKind::kTransient, "http_302"}}) {
    AddFault(row.kind, row.status);
    ExpectRefusal(RefreshOf(grant), row.reply, row.error, "not_processed");
  }
  // The redirect led to the trap, and nobody went there.
  RequestFilter trap;
  trap.dc = "trap";
  EXPECT_EQ(simulator_->log().Count(trap), 0);
  EXPECT_EQ(Send(RefreshOf(grant)).reply.kind, ReplyKind::kSuccess);
}

// --- Replies that do not arrive
// -------------------------------------------------------------------

TEST_F(AgainstSimulatorTest, LostRepliesAreUnknownAndTheRequestIsNotRepeated) {
  const SeededGrant grant = Seed();
  for (const FaultKind kind :
       {FaultKind::kResetBeforeProcessing, FaultKind::kResetAfterProcessing, FaultKind::kTruncate,
        FaultKind::kHugeBody, FaultKind::kHang, FaultKind::kHangAfterProcessing}) {
    AddFault(kind);
    TokenRequest request = RefreshOf(grant);
    request.response_timeout = absl::Milliseconds(300);
    const TokenResponse response = Send(request);
    EXPECT_EQ(response.delivery, Delivery::kUnknown) << FaultKindName(kind);
    EXPECT_EQ(ErrorReason(response.status), "ZOHO_UNAVAILABLE");
    simulator_->ClearFaults();  // lets go what hangs
    EXPECT_EQ(OnlyEntry().fault, FaultKindName(kind));
  }
}

TEST_F(AgainstSimulatorTest, DrippingReplyIsBounded) {
  const SeededGrant grant = Seed();
  FaultRule rule;
  rule.fault.drip_interval = absl::Milliseconds(50);
  simulator_->AddFault(rule);
  TokenRequest request = RefreshOf(grant);
  request.response_timeout = absl::Milliseconds(300);
  const TokenResponse response = Send(request);
  EXPECT_EQ(response.delivery, Delivery::kUnknown);
  EXPECT_THAT(response.status.ToString(), HasSubstr("response_timeout"));
}

// --- What replies may look like
// -------------------------------------------------------------------

TEST_F(AgainstSimulatorTest, LifetimeInEveryStyle) {
  const SeededGrant grant = Seed();
  for (const auto style : {zoho_simulator::ExpiresInStyle::kSeconds,
                           zoho_simulator::ExpiresInStyle::kMillisecondsWithSeconds,
                           zoho_simulator::ExpiresInStyle::kMillisecondsOnly,
                           zoho_simulator::ExpiresInStyle::kAbsent}) {
    Behaviour behaviour;
    behaviour.expires_in = style;
    behaviour.scope_in_replies = false;
    SetBehaviour(behaviour);
    const TokenResponse response = Send(RefreshOf(grant));
    EXPECT_EQ(response.reply.kind, ReplyKind::kSuccess);
    EXPECT_EQ(response.reply.lifetime, absl::Hours(1)) << ExpiresInStyleName(style);
    EXPECT_TRUE(response.reply.scopes.empty());
  }
}

TEST_F(AgainstSimulatorTest, RotatedRefreshTokenIsHandedOn) {
  Behaviour behaviour;
  behaviour.rotate_refresh_tokens = true;
  SetBehaviour(behaviour);
  const SeededGrant grant = Seed();
  const TokenResponse first = Send(RefreshOf(grant));
  ASSERT_FALSE(first.reply.refresh_token.empty());
  EXPECT_EQ(first.reply.refresh_token.Reveal(),
            *simulator_->accounts().RefreshTokenOf(grant.identity.number));
  TokenRequest next = RefreshOf(grant);
  next.refresh_token = first.reply.refresh_token;
  EXPECT_EQ(Send(next).reply.kind, ReplyKind::kSuccess);
}

TEST_F(AgainstSimulatorTest, ApiDomainOfAnotherDcIsDropped) {
  Behaviour behaviour;
  behaviour.api_domain = "https://www.zohoapis.eu";
  SetBehaviour(behaviour);
  const TokenResponse response = Send(RefreshOf(Seed("us")));
  EXPECT_EQ(response.reply.kind, ReplyKind::kSuccess);
  EXPECT_EQ(response.reply.api_domain, "");
}

}  // namespace
}  // namespace tokenbroker
