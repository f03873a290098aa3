// Zoho's error table, and replies that do not arrive, against the simulated Zoho. What was really
// sent is judged by the simulator's record.

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/clients/zoho/simulator_client_fixture.h"
#include "tests/zoho_simulator/simulator.h"

namespace tokenbroker {
namespace {

using ::testing::HasSubstr;
using Delivery = TokenResponse::Delivery;
using zoho_simulator::Behaviour;
using zoho_simulator::FaultKind;
using zoho_simulator::FaultRule;
using zoho_simulator::RequestFilter;
using zoho_simulator::SeededGrant;

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

}  // namespace
}  // namespace tokenbroker
