#include "clients/zoho/token_reply.h"

#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tokenbroker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// --- Replies without a token
// -----------------------------------------------------------------------

struct FailureCase {
  std::string_view name;
  int http_status;
  std::string_view body;
  ReplyKind kind;
  std::string_view error;
};

void PrintTo(const FailureCase& c, std::ostream* out) { *out << c.name; }

class FailureTest : public ::testing::TestWithParam<FailureCase> {};

TEST_P(FailureTest, IsClassified) {
  const TokenReply reply = ClassifyTokenReply(GetParam().http_status, GetParam().body);
  EXPECT_EQ(ReplyKindName(reply.kind), ReplyKindName(GetParam().kind));
  EXPECT_EQ(reply.error, GetParam().error);
  EXPECT_EQ(reply.http_status, GetParam().http_status);
  EXPECT_FALSE(reply.advice.empty());
  EXPECT_TRUE(reply.access_token.empty());
  EXPECT_TRUE(reply.refresh_token.empty());
}

constexpr std::string_view kEnglishThrottle =
    R"({"error_description":"You have made too many requests continuously. Please try again after )"
    R"(some time.","error":"Access Denied","status":"failure"})";
constexpr std::string_view kChineseThrottle =
    R"({"error_description":"您连续提出的请求过多。","error":"访问被拒绝","status":"failure"})";
constexpr std::string_view kPage = "<!DOCTYPE html><html><body>400 Bad Request</body></html>";

INSTANTIATE_TEST_SUITE_P(
    FactsErrorTable, FailureTest,
    ::testing::Values(
        FailureCase{"UnknownClient", 200, R"({"error":"invalid_client"})",
                    ReplyKind::kClientRejected, "invalid_client"},
        FailureCase{"WrongSecret", 200, R"({"error":"invalid_client_secret"})",
                    ReplyKind::kClientRejected, "invalid_client_secret"},
        FailureCase{"DeadCodeOrToken", 200, R"({"error":"invalid_code"})", ReplyKind::kGrantDead,
                    "invalid_code"},
        FailureCase{"RedirectUri", 200, R"({"error":"invalid_redirect_uri"})",
                    ReplyKind::kClientRejected, "invalid_redirect_uri"},
        FailureCase{"Scope", 200, R"({"error":"invalid_scope"})", ReplyKind::kClientRejected,
                    "invalid_scope"},
        FailureCase{"OrgMissing", 200, R"({"error":"missing_org_info"})",
                    ReplyKind::kClientRejected, "missing_org_info"},
        FailureCase{"ThrottledInEnglish", 400, kEnglishThrottle, ReplyKind::kThrottled,
                    "throttled"},
        FailureCase{"ThrottledInChinese", 400, kChineseThrottle, ReplyKind::kThrottled,
                    "throttled"},
        FailureCase{"ThrottledWithNothingButStatus", 400, R"({"status":"failure"})",
                    ReplyKind::kThrottled, "throttled"},
        FailureCase{"TooManyRequests", 429, "", ReplyKind::kThrottled, "throttled"},
        FailureCase{"TooManyRequestsAsPage", 429, kPage, ReplyKind::kThrottled, "throttled"},
        FailureCase{"WrongMethodPage", 400, kPage, ReplyKind::kTransient, "http_400"},
        FailureCase{"GeneralError", 400, R"({"error":"general_error"})", ReplyKind::kTransient,
                    "general_error"},
        FailureCase{"GeneralErrorOfFailingServer", 500, R"({"error":"general_error"})",
                    ReplyKind::kTransient, "general_error"},
        FailureCase{"GatewayPage", 502, kPage, ReplyKind::kTransient, "http_502"},
        FailureCase{"EmptyUnavailable", 503, "", ReplyKind::kTransient, "http_503"},
        // Servers of RFC 6749 answer with 400 and 401.
        FailureCase{"InvalidGrant", 400, R"({"error":"invalid_grant","error_description":"x"})",
                    ReplyKind::kGrantDead, "invalid_grant"},
        FailureCase{"InvalidClient401", 401, R"({"error":"invalid_client"})",
                    ReplyKind::kClientRejected, "invalid_client"}),
    [](const auto& info) { return std::string(info.param.name); });

INSTANTIATE_TEST_SUITE_P(
    WhatElseHappens, FailureTest,
    ::testing::Values(
        FailureCase{"Empty", 200, "", ReplyKind::kTransient, "empty_reply"},
        FailureCase{"White", 200, " \r\n\t ", ReplyKind::kTransient, "empty_reply"},
        FailureCase{"Page", 200, kPage, ReplyKind::kTransient, "html"},
        FailureCase{"Text", 200, "OK", ReplyKind::kTransient, "not_json"},
        FailureCase{"CutOff", 200, R"({"access_token":"1000.a.b","expires_in":36)",
                    ReplyKind::kTransient, "not_json"},
        FailureCase{"TwoDocuments", 200, R"({"access_token":"1000.a.b"}{"error":"invalid_code"})",
                    ReplyKind::kTransient, "not_json"},
        FailureCase{"NulAfterTheEnd", 200, std::string_view("{\"error\":\"invalid_code\"}\0", 25),
                    ReplyKind::kTransient, "not_json"},
        FailureCase{"InvalidUtf8", 200, "{\"error\":\"invalid_code\",\"x\":\"\xff\xfe\"}",
                    ReplyKind::kTransient, "not_json"},
        FailureCase{"List", 200, R"([{"access_token":"1000.a.b"}])", ReplyKind::kTransient,
                    "not_an_object"},
        FailureCase{"Null", 200, "null", ReplyKind::kTransient, "not_an_object"},
        FailureCase{"NoFields", 200, "{}", ReplyKind::kTransient, "no_access_token"},
        FailureCase{"TokenInside", 200, R"({"data":{"access_token":"1000.a.b"}})",
                    ReplyKind::kTransient, "no_access_token"},
        FailureCase{"ErrorInside", 200, R"({"data":{"error":"invalid_code"}})",
                    ReplyKind::kTransient, "no_access_token"},
        FailureCase{"UnknownError", 200, R"({"error":"quota <script>"})", ReplyKind::kTransient,
                    "unknown_error"},
        FailureCase{"UnknownErrorOf4xx", 403, R"({"error":"forbidden"})", ReplyKind::kTransient,
                    "http_403"},
        // The English words alone are no sign: they are translated.
        FailureCase{"AccessDeniedWithoutStatus", 400, R"({"error":"Access Denied"})",
                    ReplyKind::kTransient, "http_400"},
        FailureCase{"BrokersOwnWord", 200, R"({"error":"throttled"})", ReplyKind::kTransient,
                    "unknown_error"},
        FailureCase{"ErrorAsObject", 200, R"({"error":{"code":"invalid_code"}})",
                    ReplyKind::kTransient, "unknown_error"},
        FailureCase{"ErrorAsNumber", 200, R"({"error":7213})", ReplyKind::kTransient,
                    "unknown_error"},
        FailureCase{"UpperCase", 200, R"({"error":"INVALID_CODE"})", ReplyKind::kGrantDead,
                    "invalid_code"},
        FailureCase{"PrefixOfTheConsentPage", 200, R"({"error":"ERROR_invalid_scope"})",
                    ReplyKind::kClientRejected, "invalid_scope"},
        // A failing server, a redirect and a timeout are no verdict about a grant.
        FailureCase{"DeadSaysFailingServer", 503, R"({"error":"invalid_code"})",
                    ReplyKind::kTransient, "http_503"},
        FailureCase{"DeadSaysRedirect", 302, R"({"error":"invalid_code"})", ReplyKind::kTransient,
                    "http_302"},
        FailureCase{"DeadSaysTimeout", 408, R"({"error":"invalid_code"})", ReplyKind::kTransient,
                    "http_408"},
        // The throttle's mark outweighs the word: waiting harms less than a dead grant.
        FailureCase{"DeadAndThrottled", 400, R"({"error":"invalid_code","status":"failure"})",
                    ReplyKind::kThrottled, "throttled"},
        FailureCase{"NoHttpStatus", 0, "", ReplyKind::kTransient, "http_invalid"},
        FailureCase{"NegativeHttpStatus", -200, "{}", ReplyKind::kTransient, "http_invalid"}),
    [](const auto& info) { return std::string(info.param.name); });

INSTANTIATE_TEST_SUITE_P(
    UnusableTokens, FailureTest,
    ::testing::Values(
        FailureCase{"Empty", 200, R"({"access_token":""})", ReplyKind::kTransient,
                    "bad_access_token"},
        FailureCase{"Number", 200, R"({"access_token":1000})", ReplyKind::kTransient,
                    "bad_access_token"},
        FailureCase{"List", 200, R"({"access_token":["1000.a.b"]})", ReplyKind::kTransient,
                    "bad_access_token"},
        FailureCase{"True", 200, R"({"access_token":true})", ReplyKind::kTransient,
                    "bad_access_token"},
        FailureCase{"Null", 200, R"({"access_token":null})", ReplyKind::kTransient,
                    "no_access_token"},
        FailureCase{"HeaderInjection", 200, R"({"access_token":"1000.a\r\nX-Admin: 1"})",
                    ReplyKind::kTransient, "bad_access_token"},
        FailureCase{"Nul", 200, R"({"access_token":"1000.a\u0000b"})", ReplyKind::kTransient,
                    "bad_access_token"},
        FailureCase{"Space", 200, R"({"access_token":"1000.a b"})", ReplyKind::kTransient,
                    "bad_access_token"},
        FailureCase{"NotAscii", 200, R"({"access_token":"1000.ä"})", ReplyKind::kTransient,
                    "bad_access_token"},
        FailureCase{"Twice", 200, R"({"access_token":"1000.a","access_token":"1000.b"})",
                    ReplyKind::kTransient, "ambiguous_reply"},
        FailureCase{"RefreshTokenTwice", 200,
                    R"({"access_token":"1000.a","refresh_token":"1","refresh_token":"2"})",
                    ReplyKind::kTransient, "ambiguous_reply"},
        FailureCase{"WithError", 200, R"({"access_token":"1000.a.b","error":"invalid_code"})",
                    ReplyKind::kTransient, "contradictory_reply"},
        FailureCase{"WithFailure", 200, R"({"access_token":"1000.a.b","status":"failure"})",
                    ReplyKind::kTransient, "contradictory_reply"},
        FailureCase{"WithThrottle", 400, R"({"access_token":"1000.a.b","status":"failure"})",
                    ReplyKind::kThrottled, "throttled"},
        FailureCase{"WithHttpError", 500, R"({"access_token":"1000.a.b","expires_in":3600})",
                    ReplyKind::kTransient, "contradictory_reply"},
        FailureCase{"WithRedirect", 302, R"({"access_token":"1000.a.b","expires_in":3600})",
                    ReplyKind::kTransient, "contradictory_reply"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(TokenReplyTest, TokensHaveALengthLimit) {
  const auto reply = [](size_t bytes) {
    return ClassifyTokenReply(200, "{\"access_token\":\"" + std::string(bytes, 'a') + "\"}");
  };
  EXPECT_EQ(reply(4096).kind, ReplyKind::kSuccess);
  EXPECT_EQ(reply(4097).error, "bad_access_token");
}

TEST(TokenReplyTest, DeepNestingIsRefusedWithoutRecursion) {
  for (const std::string& deep : {std::string(60000, '['), "{\"a\":" + std::string(60000, '{'),
                                  "{\"access_token\":\"1000.a\",\"x\":" + std::string(100, '[') +
                                      std::string(100, ']') + "}"}) {
    EXPECT_EQ(ClassifyTokenReply(200, deep).error, "not_json");
  }
}

// --- The advice
// -----------------------------------------------------------------------------------

struct AdviceCase {
  std::string_view code;
  std::vector<std::string_view> mentions;
};

TEST(ZohoErrorAdviceTest, KeepsTheGuidesResolutions) {
  const AdviceCase cases[] = {
      // Wrong id or secret; another domain without Multi-DC; another DC's secret with it.
      {"invalid_client", {"client ID", "wrong DC", "Multi-DC", "each DC has a secret of its own"}},
      {"invalid_client_secret", {"secret", "wrong DC's"}},
      // Expired after a minute; used before; refresh token wrong or revoked.
      {"invalid_code", {"once", "minute", "refresh token is wrong", "revoked", "consent again"}},
      {"invalid_redirect_uri", {"registered", "console"}},
      {"invalid_scope", {"scopes"}},
      {"invalid_response_type", {"response_type=code", "mandatory"}},
      {"missing_org_info", {"soid", "zsoid"}},
      {"throttled", {"Wait", "retries"}},
  };
  for (const AdviceCase& c : cases) {
    for (const std::string_view part : c.mentions) {
      EXPECT_THAT(std::string(ZohoErrorAdvice(c.code)), HasSubstr(std::string(part))) << c.code;
    }
  }
}

TEST(ZohoErrorAdviceTest, IsInTheReplyAndNeverEmpty) {
  EXPECT_EQ(ClassifyTokenReply(200, R"({"error":"invalid_client"})").advice,
            ZohoErrorAdvice("invalid_client"));
  EXPECT_EQ(ClassifyTokenReply(502, "").advice, ZohoErrorAdvice("http_502"));
  EXPECT_FALSE(ZohoErrorAdvice("").empty());
}

// --- Tokens
// ---------------------------------------------------------------------------------------

TEST(TokenReplyTest, CodeExchange) {
  const TokenReply reply = ClassifyTokenReply(200, R"({
    "access_token": "1000.aaaa.bbbb", "refresh_token": "1000.cccc.dddd",
    "scope": "ZOHOPEOPLE.forms.ALL ZOHOPEOPLE.attendance.CREATE",
    "api_domain": "https://www.zohoapis.com", "token_type": "Bearer", "expires_in": 3600})");
  EXPECT_EQ(reply.kind, ReplyKind::kSuccess);
  EXPECT_EQ(reply.access_token.Reveal(), "1000.aaaa.bbbb");
  EXPECT_EQ(reply.refresh_token.Reveal(), "1000.cccc.dddd");
  EXPECT_EQ(reply.lifetime, absl::Seconds(3600));
  EXPECT_THAT(reply.scopes, ElementsAre("ZOHOPEOPLE.attendance.CREATE", "ZOHOPEOPLE.forms.ALL"));
  EXPECT_EQ(reply.api_domain, "https://www.zohoapis.com");
  EXPECT_EQ(reply.error, "");
  EXPECT_EQ(reply.advice, "");
  EXPECT_EQ(reply.http_status, 200);
}

TEST(TokenReplyTest, RefreshOmitsWhatIsOptional) {
  for (const std::string_view body :
       {R"({"access_token":"1000.a.b","expires_in":3600,"token_type":"Bearer"})",
        R"({"access_token":"1000.a.b","expires_in":3600,"refresh_token":null,"scope":null,
            "api_domain":null,"error":null,"status":null})",
        R"({"access_token":"1000.a.b","expires_in":3600,"refresh_token":"","scope":"","error":""})",
        R"({"access_token":"1000.a.b","expires_in":3600,"refresh_token":["x"],"scope":{},
            "api_domain":7,"status":"success"})"}) {
    const TokenReply reply = ClassifyTokenReply(200, body);
    EXPECT_EQ(reply.kind, ReplyKind::kSuccess) << body;
    EXPECT_TRUE(reply.refresh_token.empty());
    EXPECT_THAT(reply.scopes, IsEmpty());
    EXPECT_EQ(reply.api_domain, "");
  }
}

TEST(TokenReplyTest, ByteOrderMarkAndWhiteSpaceDoNotMatter) {
  EXPECT_EQ(ClassifyTokenReply(200, "\xef\xbb\xbf{\"access_token\":\"1000.a\"}\r\n").kind,
            ReplyKind::kSuccess);
  EXPECT_EQ(ClassifyTokenReply(200, "\n\n  {\"access_token\":\"1000.a\"}  ").kind,
            ReplyKind::kSuccess);
}

TEST(TokenReplyTest, UnusableRefreshTokenAndApiDomainCountAsNone) {
  const TokenReply reply = ClassifyTokenReply(
      200, R"({"access_token":"1000.a","refresh_token":"1000.b\nx","api_domain":"javascript:x"})");
  EXPECT_EQ(reply.kind, ReplyKind::kSuccess);
  EXPECT_TRUE(reply.refresh_token.empty());
  EXPECT_EQ(reply.api_domain, "");
}

TEST(TokenReplyTest, ScopesThatAreNoScopesAreLeftOut) {
  const TokenReply reply =
      ClassifyTokenReply(200, R"({"access_token":"1000.a","scope":"A.b.READ \u0000 ä,C.d.ALL"})");
  EXPECT_THAT(reply.scopes, ElementsAre("A.b.READ", "C.d.ALL"));
}

struct LifetimeCase {
  std::string_view fields;
  absl::Duration lifetime;
};

TEST(TokenReplyTest, Lifetime) {
  const LifetimeCase cases[] = {
      {R"("expires_in":3600)", absl::Seconds(3600)},
      {R"("expires_in":"3600")", absl::Seconds(3600)},
      {R"("expires_in":1)", absl::Seconds(1)},
      {R"("expires_in":3599.5)", absl::Milliseconds(3599500)},
      // Up to a day it is seconds, above milliseconds.
      {R"("expires_in":86400)", absl::Hours(24)},
      {R"("expires_in":86401)", absl::Milliseconds(86401)},
      {R"("expires_in":3600000)", absl::Hours(1)},
      {R"("expires_in":"3600000")", absl::Hours(1)},
      {R"("expires_in":3600000,"expires_in_sec":3600)", absl::Hours(1)},
      {R"("expires_in":1800000,"expires_in_sec":"1800")", absl::Minutes(30)},
      {R"("expires_in":60000,"expires_in_sec":60)", absl::Seconds(60)},
      // Beside a useless expires_in_sec, expires_in is in milliseconds all the same.
      {R"("expires_in":60000,"expires_in_sec":0)", absl::Seconds(60)},
      {R"("expires_in":60000,"expires_in_sec":"soon")", absl::Seconds(60)},
      {R"("expires_in":3600,"expires_in_sec":null)", absl::Seconds(3600)},
      {R"("expires_in_sec":7200)", absl::Hours(2)},
      // The guide's hour where there is nothing to go by: never nothing.
      {R"("token_type":"Bearer")", absl::Hours(1)},
      {R"("expires_in":null)", absl::Hours(1)},
      {R"("expires_in":0)", absl::Hours(1)},
      {R"("expires_in":-3600)", absl::Hours(1)},
      {R"("expires_in":0.001)", absl::Hours(1)},
      {R"("expires_in":5e-324)", absl::Hours(1)},
      {R"("expires_in":500,"expires_in_sec":0)", absl::Hours(1)},
      {R"("expires_in":"")", absl::Hours(1)},
      {R"("expires_in":"an hour")", absl::Hours(1)},
      {R"("expires_in":"nan")", absl::Hours(1)},
      {R"("expires_in":"inf")", absl::Hours(1)},
      {R"("expires_in":true)", absl::Hours(1)},
      {R"("expires_in":[3600])", absl::Hours(1)},
      {R"("expires_in":{"expires_in":60})", absl::Hours(1)},
      // A day at most, however large the number.
      {R"("expires_in":9223372036854775807)", absl::Hours(24)},
      {R"("expires_in":18446744073709551615)", absl::Hours(24)},
      {R"("expires_in":123456789012345678901234567890)", absl::Hours(24)},
      {R"("expires_in":1e300)", absl::Hours(24)},
      {R"("expires_in_sec":1e18)", absl::Hours(24)},
  };
  for (const LifetimeCase& c : cases) {
    const TokenReply reply =
        ClassifyTokenReply(200, "{\"access_token\":\"1000.a.b\"," + std::string(c.fields) + "}");
    EXPECT_EQ(reply.kind, ReplyKind::kSuccess) << c.fields;
    EXPECT_EQ(reply.lifetime, c.lifetime) << c.fields;
  }
}

// --- Scopes
// ---------------------------------------------------------------------------------------

TEST(ScopesTest, Parse) {
  EXPECT_THAT(ParseScopes(""), IsEmpty());
  EXPECT_THAT(ParseScopes(" ,\t\r\n, "), IsEmpty());
  EXPECT_THAT(ParseScopes("b.B.READ,a.A.ALL, c.C.ALL\nd.D.ALL"),
              ElementsAre("a.A.ALL", "b.B.READ", "c.C.ALL", "d.D.ALL"));
  EXPECT_THAT(ParseScopes("ZohoPeople.forms.ALL ZOHOPEOPLE.FORMS.all"),
              ElementsAre("ZohoPeople.forms.ALL"));
}

TEST(ScopesTest, Covers) {
  EXPECT_TRUE(ScopeCovers("ZOHOPEOPLE.forms.READ", "zohopeople.FORMS.read"));
  for (const char* operation : {"CREATE", "READ", "UPDATE", "DELETE", "read", "ALL"}) {
    EXPECT_TRUE(ScopeCovers("ZOHOPEOPLE.forms.all", std::string("ZohoPeople.forms.") + operation))
        << operation;
  }
  EXPECT_FALSE(ScopeCovers("ZOHOPEOPLE.forms.READ", "ZOHOPEOPLE.forms.ALL"));
  EXPECT_FALSE(ScopeCovers("ZOHOPEOPLE.forms.READ", "ZOHOPEOPLE.forms.CREATE"));
  EXPECT_FALSE(ScopeCovers("ZOHOPEOPLE.forms.ALL", "ZOHOPEOPLE.leave.READ"));
  EXPECT_FALSE(ScopeCovers("ZOHOPEOPLE.forms.ALL", "ZOHOPEOPLE.forms.APPROVE"));
  EXPECT_FALSE(ScopeCovers("ZOHOPEOPLE.ALL", "ZOHOPEOPLE.forms.READ"));
  EXPECT_FALSE(ScopeCovers("ZOHOPEOPLE.ALL", "ZOHOPEOPLE.READ"));
  EXPECT_FALSE(ScopeCovers("", "ZOHOPEOPLE.forms.READ"));
}

TEST(ScopesTest, Missing) {
  const std::vector<std::string> granted = {"ZOHOPEOPLE.forms.ALL", "ZOHOPEOPLE.leave.READ"};
  EXPECT_THAT(MissingScopes(granted, {"ZOHOPEOPLE.leave.read", "ZOHOPEOPLE.forms.CREATE"}),
              IsEmpty());
  EXPECT_THAT(MissingScopes(granted, {"ZOHOPEOPLE.leave.ALL", "ZOHOPEOPLE.forms.READ", "X.y.READ"}),
              ElementsAre("ZOHOPEOPLE.leave.ALL", "X.y.READ"));
  EXPECT_THAT(MissingScopes({}, {}), IsEmpty());
}

}  // namespace
}  // namespace tokenbroker
