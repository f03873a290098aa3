// The grant types, TLS and the looks of replies against the simulated Zoho. What was really sent is
// judged by the simulator's record.

#include <memory>
#include <string>
#include <utility>

#include "clients/zoho/curl_accounts_server.h"
#include "common/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/clients/zoho/simulator_client_fixture.h"
#include "tests/zoho_simulator/simulator.h"

namespace tokenbroker {
namespace {

using ::testing::ElementsAre;
using Delivery = TokenResponse::Delivery;
using zoho_simulator::Behaviour;
using zoho_simulator::FaultKind;
using zoho_simulator::RequestEntry;
using zoho_simulator::SeededGrant;
using zoho_simulator::Simulator;

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
