// What leaves the process and what is concluded from what comes back, over real sockets.

#include "clients/zoho/curl_accounts_server.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/clients/zoho/form_body.h"
#include "tests/clients/zoho/scripted_peer.h"

namespace tokenbroker {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Delivery = TokenResponse::Delivery;
using End = ScriptedPeer::End;
using Form = std::map<std::string, std::string>;

// In every secret of these tests, so that one search proves that none got out.
constexpr char kCanary[] = "CANARY";

constexpr char kTokenBody[] =
    R"({"access_token":"1000.new.CANARY","api_domain":"https://www.zohoapis.com",)"
    R"("token_type":"Bearer","expires_in":3600})";

DataCenter DcAt(const std::string& accounts_server) {
  return {"us", accounts_server, "https://www.zohoapis.com", "people.zoho.com"};
}

TokenRequest RefreshAt(const std::string& accounts_server) {
  TokenRequest request;
  request.grant_type = TokenRequest::GrantType::kRefreshToken;
  request.dc = DcAt(accounts_server);
  request.client_id = "1000.APP";
  request.client_secret = Secret("CANARY-client-secret");
  request.refresh_token = Secret("1000.old.CANARY");
  return request;
}

std::string DeliveryName(Delivery delivery) {
  switch (delivery) {
    case Delivery::kNotSent:
      return "not sent";
    case Delivery::kAnswered:
      return "answered";
    case Delivery::kUnknown:
      return "unknown";
  }
  return "";
}

std::string LastError(const absl::Status& status) {
  const auto detail = GetErrorDetail(status);
  if (!detail || detail->metadata.count("last_error") == 0) return "";
  return detail->metadata.at("last_error");
}

class CurlAccountsServerTest : public ::testing::Test {
 protected:
  CurlAccountsServerTest() : CurlAccountsServerTest(Options()) {}
  explicit CurlAccountsServerTest(CurlAccountsServer::Options options)
      : server_(CurlAccountsServer::Create(std::move(options)).value()) {}

  static CurlAccountsServer::Options Options() {
    CurlAccountsServer::Options options;
    options.allow_plaintext_loopback = true;
    return options;
  }

  TokenResponse Send(const TokenRequest& request) {
    return Send(request, [] { return absl::OkStatus(); });
  }
  // Counts the checks, and looks for secrets in what is told about the outcome.
  TokenResponse Send(const TokenRequest& request, BeforeSend check) {
    TokenResponse response = server_->RequestToken(request, [&] {
      ++checks_;
      return check();
    });
    EXPECT_THAT(response.status.ToString(), Not(HasSubstr(kCanary)));
    EXPECT_THAT(
        absl::StrCat(response.reply.error, response.reply.advice, response.reply.api_domain),
        Not(HasSubstr(kCanary)));
    EXPECT_EQ(response.status.ok(), response.delivery == Delivery::kAnswered);
    return response;
  }

  // Sends a refresh that must fail, and checks how: with one of `last_errors`.
  void ExpectFailure(const TokenRequest& request, Delivery delivery,
                     const std::vector<std::string>& last_errors) {
    const TokenResponse response = Send(request);
    EXPECT_EQ(DeliveryName(response.delivery), DeliveryName(delivery));
    EXPECT_EQ(response.status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(ErrorReason(response.status), "ZOHO_UNAVAILABLE");
    EXPECT_THAT(last_errors, Contains(LastError(response.status)));
  }

  std::unique_ptr<CurlAccountsServer> server_;
  int checks_ = 0;
};

// --- What is sent
// ---------------------------------------------------------------------------------

TEST_F(CurlAccountsServerTest, RefreshRequest) {
  ScriptedPeer peer({{.reply = JsonReply("200 OK", kTokenBody)}});
  const TokenResponse response = Send(RefreshAt(peer.url()));
  ASSERT_EQ(response.delivery, Delivery::kAnswered);
  EXPECT_EQ(response.reply.kind, ReplyKind::kSuccess);
  EXPECT_EQ(response.reply.access_token.Reveal(), "1000.new.CANARY");
  EXPECT_EQ(response.reply.lifetime, absl::Seconds(3600));
  EXPECT_EQ(response.reply.api_domain, "https://www.zohoapis.com");
  EXPECT_EQ(checks_, 1);

  const auto received = peer.WaitForEnded(1);
  ASSERT_EQ(received.size(), 1u);
  EXPECT_EQ(received[0].requests, 1);
  EXPECT_EQ(FormOf(received[0].bytes), (Form{{"grant_type", "refresh_token"},
                                             {"client_id", "1000.APP"},
                                             {"client_secret", "CANARY-client-secret"},
                                             {"refresh_token", "1000.old.CANARY"}}));
  const std::string head = HeadOf(received[0].bytes);
  EXPECT_THAT(head, StartsWith("POST /oauth/v2/token HTTP/1.1\r\n"));
  EXPECT_THAT(head, HasSubstr("\r\nContent-Type: application/x-www-form-urlencoded\r\n"));
  EXPECT_THAT(head, HasSubstr("\r\nUser-Agent: token-broker\r\n"));
  EXPECT_THAT(head, Not(HasSubstr(kCanary)));
  for (const char* header : {"Expect", "Authorization", "Cookie", "Upgrade", "Proxy", "Referer"}) {
    EXPECT_THAT(head, Not(HasSubstr(absl::StrCat("\r\n", header)))) << header;
  }
}

TEST_F(CurlAccountsServerTest, CodeExchangeByRedirect) {
  ScriptedPeer peer({{.reply = JsonReply("200 OK", kTokenBody)}});
  TokenRequest request = RefreshAt(peer.url());
  request.grant_type = TokenRequest::GrantType::kAuthorizationCode;
  request.code = Secret("1000.code.CANARY");
  request.redirect_uri = "https://app.example/callback?x=1&y=2";
  request.code_verifier = Secret("CANARY-verifier~._-");
  EXPECT_EQ(Send(request).reply.kind, ReplyKind::kSuccess);
  EXPECT_EQ(FormOf(peer.WaitForEnded(1)[0].bytes),
            (Form{{"grant_type", "authorization_code"},
                  {"client_id", "1000.APP"},
                  {"client_secret", "CANARY-client-secret"},
                  {"code", "1000.code.CANARY"},
                  {"redirect_uri", "https://app.example/callback?x=1&y=2"},
                  {"code_verifier", "CANARY-verifier~._-"}}));
}

TEST_F(CurlAccountsServerTest, CodeExchangeOfASelfClientHasNoRedirectUri) {
  ScriptedPeer peer({{.reply = JsonReply("200 OK", kTokenBody)}});
  TokenRequest request = RefreshAt(peer.url());
  request.grant_type = TokenRequest::GrantType::kAuthorizationCode;
  request.code = Secret("1000.code.CANARY");
  EXPECT_EQ(Send(request).reply.kind, ReplyKind::kSuccess);
  EXPECT_EQ(FormOf(peer.WaitForEnded(1)[0].bytes), (Form{{"grant_type", "authorization_code"},
                                                         {"client_id", "1000.APP"},
                                                         {"client_secret", "CANARY-client-secret"},
                                                         {"code", "1000.code.CANARY"}}));
}

TEST_F(CurlAccountsServerTest, ClientCredentials) {
  ScriptedPeer peer({{.reply = JsonReply("200 OK", kTokenBody)}});
  TokenRequest request = RefreshAt(peer.url());
  request.grant_type = TokenRequest::GrantType::kClientCredentials;
  request.scope = "ZOHOPEOPLE.forms.READ,ZOHOPEOPLE.leave.READ";
  request.soid = "ZohoPeople.12345";
  EXPECT_EQ(Send(request).reply.kind, ReplyKind::kSuccess);
  EXPECT_EQ(FormOf(peer.WaitForEnded(1)[0].bytes),
            (Form{{"grant_type", "client_credentials"},
                  {"client_id", "1000.APP"},
                  {"client_secret", "CANARY-client-secret"},
                  {"scope", "ZOHOPEOPLE.forms.READ,ZOHOPEOPLE.leave.READ"},
                  {"soid", "ZohoPeople.12345"}}));
}

TEST_F(CurlAccountsServerTest, EveryByteSurvivesTheForm) {
  ScriptedPeer peer({{.reply = JsonReply("200 OK", kTokenBody)}});
  std::string every_byte;
  for (int byte = 0; byte < 256; ++byte) every_byte.push_back(static_cast<char>(byte));
  TokenRequest request = RefreshAt(peer.url());
  request.client_secret = Secret(every_byte);
  request.refresh_token = Secret("a&client_id=b=c+d%26\r\n\r\nPOST /x");
  EXPECT_EQ(Send(request).reply.kind, ReplyKind::kSuccess);
  Form form = FormOf(peer.WaitForEnded(1)[0].bytes);
  EXPECT_EQ(form["client_secret"], every_byte);
  EXPECT_EQ(form["refresh_token"], "a&client_id=b=c+d%26\r\n\r\nPOST /x");
  EXPECT_EQ(form.size(), 4u);
}

TEST_F(CurlAccountsServerTest, ProxiesOfTheEnvironmentAreIgnored) {
  ScriptedPeer trap({{.end = End::kStay}});
  ScriptedPeer peer({{.reply = JsonReply("200 OK", kTokenBody)}});
  const char* names[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
  for (const char* name : names) setenv(name, trap.url().c_str(), 1);
  const TokenResponse response = Send(RefreshAt(peer.url()));
  for (const char* name : names) unsetenv(name);
  EXPECT_EQ(response.reply.kind, ReplyKind::kSuccess);
  EXPECT_EQ(peer.received().size(), 1u);
  EXPECT_EQ(trap.received().size(), 0u);
}

// --- The check before sending
// ---------------------------------------------------------------------

TEST_F(CurlAccountsServerTest, CheckComesAfterTheConnectionAndBeforeTheFirstByte) {
  ScriptedPeer peer({{.reply = JsonReply("200 OK", kTokenBody)}});
  const TokenResponse response = Send(RefreshAt(peer.url()), [&] {
    const auto received = peer.WaitForAccepted(1);
    EXPECT_EQ(received.size(), 1u);
    EXPECT_EQ(received[0].bytes, "");
    return absl::OkStatus();
  });
  EXPECT_EQ(response.reply.kind, ReplyKind::kSuccess);
  EXPECT_EQ(checks_, 1);
}

TEST_F(CurlAccountsServerTest, RefusalSendsNothingAndIsHandedOnUnchanged) {
  ScriptedPeer peer({{.reply = JsonReply("200 OK", kTokenBody)}});
  const absl::Status refusal = StoreNotAcknowledgedError();
  const TokenResponse response = Send(RefreshAt(peer.url()), [&] { return refusal; });
  EXPECT_EQ(response.delivery, Delivery::kNotSent);
  EXPECT_EQ(response.status, refusal);  // payload included
  EXPECT_EQ(checks_, 1);
  const auto received = peer.WaitForEnded(1);
  ASSERT_EQ(received.size(), 1u);
  EXPECT_TRUE(received[0].ended);
  EXPECT_EQ(received[0].bytes, "");
}

TEST_F(CurlAccountsServerTest, CheckThatTakesTheWholeResponseTimeSendsNothing) {
  ScriptedPeer peer({{.reply = JsonReply("200 OK", kTokenBody)}});
  TokenRequest request = RefreshAt(peer.url());
  request.response_timeout = absl::Milliseconds(5);
  const TokenResponse response = Send(request, [] {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(6);
    while (std::chrono::steady_clock::now() < end) std::this_thread::yield();
    return absl::OkStatus();
  });
  EXPECT_EQ(response.delivery, Delivery::kNotSent);
  EXPECT_EQ(LastError(response.status), "check_too_slow");
  EXPECT_EQ(peer.WaitForEnded(1)[0].bytes, "");
}

// --- Not sent
// -------------------------------------------------------------------------------------

TEST_F(CurlAccountsServerTest, ConnectionRefused) {
  RefusingPort nobody;
  ExpectFailure(RefreshAt(nobody.url()), Delivery::kNotSent, {"connect_failed"});
  EXPECT_EQ(checks_, 0);
}

TEST_F(CurlAccountsServerTest, TlsNeverComes) {
  ScriptedPeer peer({{.end = End::kStay}});
  TokenRequest request = RefreshAt(absl::StrCat("https://127.0.0.1:", peer.port()));
  request.connect_timeout = absl::Milliseconds(100);
  ExpectFailure(request, Delivery::kNotSent, {"connect_timeout"});
  EXPECT_EQ(checks_, 0);
  EXPECT_THAT(peer.WaitForEnded(1)[0].bytes, Not(HasSubstr(kCanary)));
}

TEST_F(CurlAccountsServerTest, PeerDoesNotSpeakTls) {
  ScriptedPeer peer({{.read_request = false, .reply = "220 mail.example ESMTP\r\n"}});
  TokenRequest request = RefreshAt(absl::StrCat("https://127.0.0.1:", peer.port()));
  ExpectFailure(request, Delivery::kNotSent, {"tls_failed"});
  EXPECT_EQ(checks_, 0);
}

TEST_F(CurlAccountsServerTest, PlaintextBeyondLoopbackIsRefused) {
  for (const char* url : {"http://192.0.2.1", "http://accounts.zoho.com", "http://0.0.0.0:1",
                          "http://localhost.evil.example"}) {
    ExpectFailure(RefreshAt(url), Delivery::kNotSent, {"plaintext_refused"});
  }
  EXPECT_EQ(checks_, 0);
}

TEST_F(CurlAccountsServerTest, PlaintextIsRefusedUnlessAllowed) {
  ScriptedPeer peer({{.reply = JsonReply("200 OK", kTokenBody)}});
  server_ = CurlAccountsServer::Create({}).value();
  ExpectFailure(RefreshAt(peer.url()), Delivery::kNotSent, {"plaintext_refused"});
  EXPECT_EQ(peer.received().size(), 0u);
  EXPECT_EQ(checks_, 0);
}

TEST_F(CurlAccountsServerTest, OtherUrlsAreRefused) {
  for (const char* url : {"", "ftp://127.0.0.1", "file:///etc/passwd", "127.0.0.1:80",
                          "http://127.0.0.1:80@evil.example", "https://evil.example\r\nX: 1"}) {
    ExpectFailure(RefreshAt(url), Delivery::kNotSent, {"bad_url"});
  }
  EXPECT_EQ(checks_, 0);
}

// --- Sent, and no whole reply
// ---------------------------------------------------------------------

struct LostReply {
  std::string name;
  ScriptedPeer::Script script;
  std::vector<std::string> last_errors;  // one of them: libcurl's releases differ
};

void PrintTo(const LostReply& c, std::ostream* out) { *out << c.name; }

class LostReplyTest : public CurlAccountsServerTest,
                      public ::testing::WithParamInterface<LostReply> {};

TEST_P(LostReplyTest, IsUnknownAndNotRepeated) {
  ScriptedPeer peer({GetParam().script});
  TokenRequest request = RefreshAt(peer.url());
  request.response_timeout = absl::Milliseconds(500);
  const auto start = std::chrono::steady_clock::now();
  ExpectFailure(request, Delivery::kUnknown, GetParam().last_errors);
  // The slowest script would take minutes.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  EXPECT_EQ(checks_, 1);
  const auto received = peer.WaitForEnded(1);
  ASSERT_EQ(received.size(), 1u);
  EXPECT_EQ(received[0].requests, 1);
}

const std::vector<std::string> kCutOffHead = {"reply_cut_off", "closed_without_reply",
                                              "receive_failed"};

constexpr char kHead[] = "HTTP/1.1 200 OK\r\n";

INSTANTIATE_TEST_SUITE_P(
    All, LostReplyTest,
    ::testing::Values(
        LostReply{"Closed", {}, {"closed_without_reply"}},
        LostReply{"Reset", {.end = End::kReset}, {"receive_failed"}},
        LostReply{"Silence", {.end = End::kStay}, {"response_timeout"}},
        LostReply{"HeadCutOff", {.reply = "HTTP/1.1 200 OK\r\nContent-Le"}, kCutOffHead},
        LostReply{"HeadOfAnErrorCutOff", {.reply = "HTTP/1.1 500 Oops\r\nContent-Le"}, kCutOffHead},
        LostReply{"StatusLineCutOff", {.reply = "HTTP/1.1 40"}, kCutOffHead},
        LostReply{"OnlyInterimReply", {.reply = "HTTP/1.1 100 Continue\r\n\r\n"}, kCutOffHead},
        LostReply{"BodyCutOff",
                  {.reply = absl::StrCat(kHead, "Content-Length: 1000\r\n\r\n{\"access_")},
                  {"reply_cut_off"}},
        LostReply{"BodyReset",
                  {.reply = absl::StrCat(kHead, "Content-Length: 1000\r\n\r\n{\"access_"),
                   .end = End::kReset},
                  {"receive_failed"}},
        LostReply{"ChunkCutOff",
                  {.reply = absl::StrCat(kHead, "Transfer-Encoding: chunked\r\n\r\n",
                                         "9\r\n{\"access_\r\n")},
                  {"reply_cut_off"}},
        LostReply{"CutOffWithoutLength",
                  {.reply = absl::StrCat(kHead, "Connection: close\r\n\r\n{\"access_")},
                  {"reply_cut_off"}},
        LostReply{"NothingWithoutLength",
                  {.reply = absl::StrCat(kHead, "Connection: close\r\n\r\n")},
                  {"reply_cut_off"}},
        LostReply{"NotHttp", {.reply = "220 mail.example ESMTP\r\n\r\n"}, {"not_http"}},
        LostReply{"BodyTooLarge",
                  {.reply = JsonReply("200 OK", std::string(64 * 1024 + 1, ' '))},
                  {"reply_too_large"}},
        LostReply{
            "EndlessBody",
            {.reply = absl::StrCat(kHead, "Connection: close\r\n\r\n", std::string(8 << 20, ' '))},
            {"reply_too_large"}},
        LostReply{"EndlessHead",
                  {.reply = absl::StrCat(kHead, "X: ", std::string(60000, 'x'),
                                         "\r\nY: ", std::string(60000, 'y'), "\r\n\r\n{}")},
                  {"reply_too_large"}},
        LostReply{"DrippingHead",
                  {.reply = absl::StrCat(kHead, "X: ", std::string(10000, 'x')),
                   .drip_bytes = 1,
                   .drip_interval = absl::Milliseconds(20)},
                  {"response_timeout"}},
        LostReply{"DrippingBody",
                  {.reply = JsonReply("200 OK", std::string(10000, ' ')),
                   .drip_bytes = 90,
                   .drip_interval = absl::Milliseconds(20)},
                  {"response_timeout"}},
        LostReply{"DrippingInterimReplies",
                  {.reply =
                       [] {
                         std::string many;
                         for (int i = 0; i < 500; ++i) many += "HTTP/1.1 100 Continue\r\n\r\n";
                         return many;
                       }(),
                   .drip_bytes = 25,
                   .drip_interval = absl::Milliseconds(20)},
                  {"response_timeout"}}),
    [](const auto& info) { return info.param.name; });

// libcurl by itself repeats a POST on a new connection when a kept one turns out dead.
TEST_F(CurlAccountsServerTest, AConnectionIsNeverUsedTwice) {
  ScriptedPeer peer({{.reply = JsonReply("200 OK", kTokenBody), .end = End::kStay}, {}});
  EXPECT_EQ(Send(RefreshAt(peer.url())).reply.kind, ReplyKind::kSuccess);
  ExpectFailure(RefreshAt(peer.url()), Delivery::kUnknown, {"closed_without_reply"});
  const auto received = peer.WaitForEnded(2);
  ASSERT_EQ(received.size(), 2u);
  EXPECT_TRUE(received[0].ended);
  EXPECT_EQ(received[0].requests, 1);
  EXPECT_EQ(received[1].requests, 1);
  EXPECT_EQ(checks_, 2);
}

// --- Answered
// -------------------------------------------------------------------------------------

TEST_F(CurlAccountsServerTest, RedirectIsNotFollowed) {
  for (const char* status :
       {"301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"}) {
    ScriptedPeer trap({{.reply = JsonReply("200 OK", kTokenBody)}});
    ScriptedPeer peer({{.reply = absl::StrCat("HTTP/1.1 ", status, "\r\nLocation: ", trap.url(),
                                              "/oauth/v2/token\r\nContent-Length: 0\r\n\r\n")}});
    const TokenResponse response = Send(RefreshAt(peer.url()));
    EXPECT_EQ(response.delivery, Delivery::kAnswered);
    EXPECT_EQ(response.reply.kind, ReplyKind::kTransient);
    EXPECT_EQ(response.reply.error, absl::StrCat("http_", std::string(status).substr(0, 3)));
    EXPECT_EQ(peer.WaitForEnded(1)[0].requests, 1);
    EXPECT_EQ(trap.received().size(), 0u);
  }
}

TEST_F(CurlAccountsServerTest, NoReplyMakesItSendAgain) {
  for (const char* head :
       {"417 Expectation Failed", "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"",
        "401 Unauthorized\r\nWWW-Authenticate: Negotiate", "408 Request Timeout",
        "421 Misdirected Request", "425 Too Early", "503 Unavailable\r\nRetry-After: 0",
        "407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\""}) {
    ScriptedPeer peer({{.reply = absl::StrCat("HTTP/1.1 ", head, "\r\nContent-Length: 0\r\n\r\n"),
                        .end = End::kStay}});
    const TokenResponse response = Send(RefreshAt(peer.url()));
    EXPECT_EQ(response.delivery, Delivery::kAnswered) << head;
    EXPECT_EQ(response.reply.error, absl::StrCat("http_", std::string(head).substr(0, 3)));
    const auto received = peer.WaitForEnded(1);
    ASSERT_EQ(received.size(), 1u);
    EXPECT_EQ(received[0].requests, 1) << head;
  }
}

TEST_F(CurlAccountsServerTest, LargestReply) {
  std::string body = kTokenBody;
  body.resize(64 * 1024, ' ');
  ScriptedPeer peer({{.reply = JsonReply("200 OK", body)}});
  EXPECT_EQ(Send(RefreshAt(peer.url())).reply.kind, ReplyKind::kSuccess);
}

TEST_F(CurlAccountsServerTest, WholeReplyWithoutLength) {
  ScriptedPeer peer({{.reply = absl::StrCat("HTTP/1.0 200 OK\r\n\r\n", kTokenBody)}});
  EXPECT_EQ(Send(RefreshAt(peer.url())).reply.kind, ReplyKind::kSuccess);
}

TEST_F(CurlAccountsServerTest, SlowButWholeReply) {
  ScriptedPeer peer({{.reply = JsonReply("200 OK", kTokenBody),
                      .drip_bytes = 40,
                      .drip_interval = absl::Milliseconds(1)}});
  EXPECT_EQ(Send(RefreshAt(peer.url())).reply.kind, ReplyKind::kSuccess);
}

TEST_F(CurlAccountsServerTest, InterimReplyThenChunks) {
  ScriptedPeer peer({{.reply = absl::StrCat(
                          "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: "
                          "chunked\r\n\r\n1b\r\n{\"access_token\":\"1000.x.y\"}\r\n0\r\n\r\n")}});
  const TokenResponse response = Send(RefreshAt(peer.url()));
  EXPECT_EQ(response.reply.kind, ReplyKind::kSuccess) << response.reply.error << response.status;
  EXPECT_EQ(response.reply.access_token.Reveal(), "1000.x.y");
}

TEST_F(CurlAccountsServerTest, ErrorsComeWithTheirAdvice) {
  ScriptedPeer peer(
      {{.reply = JsonReply("200 OK", R"({"error":"invalid_client"})")},
       {.reply = JsonReply("400 Bad Request", R"({"error":"访问被拒绝","status":"failure"})")}});
  const TokenResponse rejected = Send(RefreshAt(peer.url()));
  EXPECT_EQ(rejected.delivery, Delivery::kAnswered);
  EXPECT_EQ(rejected.reply.kind, ReplyKind::kClientRejected);
  EXPECT_THAT(rejected.reply.advice, HasSubstr("wrong DC"));
  EXPECT_EQ(Send(RefreshAt(peer.url())).reply.kind, ReplyKind::kThrottled);
}

TEST_F(CurlAccountsServerTest, ApiDomainOfAnotherDcIsNotBelieved) {
  ScriptedPeer peer(
      {{.reply =
            JsonReply("200 OK", R"({"access_token":"x","api_domain":"https://evil.example"})")},
       {.reply = JsonReply(
            "200 OK", R"({"access_token":"x","api_domain":"https://sandbox.zohoapis.com"})")}});
  EXPECT_EQ(Send(RefreshAt(peer.url())).reply.api_domain, "");
  EXPECT_EQ(Send(RefreshAt(peer.url())).reply.api_domain, "https://sandbox.zohoapis.com");
}

TEST_F(CurlAccountsServerTest, ManyThreads) {
  constexpr int kThreads = 8;
  constexpr int kEach = 10;
  ScriptedPeer peer({{.reply = JsonReply("200 OK", kTokenBody)}});
  std::atomic<int> succeeded{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < kEach; ++j) {
        const TokenResponse response =
            server_->RequestToken(RefreshAt(peer.url()), [] { return absl::OkStatus(); });
        if (response.reply.kind == ReplyKind::kSuccess) ++succeeded;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(succeeded, kThreads * kEach);
  EXPECT_EQ(peer.received().size(), static_cast<size_t>(kThreads * kEach));
}

// --- Revocation
// -----------------------------------------------------------------------------------

TEST_F(CurlAccountsServerTest, RevokeSendsTheTokenInTheBody) {
  ScriptedPeer peer({{.reply = JsonReply("200 OK", R"({"status":"success"})")}});
  EXPECT_TRUE(
      server_->RevokeToken(DcAt(peer.url()), Secret("1000.CANARY.x"), absl::Seconds(5)).ok());
  const auto received = peer.WaitForEnded(1);
  EXPECT_THAT(received[0].bytes, StartsWith("POST /oauth/v2/token/revoke HTTP/1.1\r\n"));
  EXPECT_THAT(HeadOf(received[0].bytes), Not(HasSubstr(kCanary)));
  EXPECT_EQ(FormOf(received[0].bytes), (Form{{"token", "1000.CANARY.x"}}));
}

TEST_F(CurlAccountsServerTest, RevokeOutcomes) {
  const auto revoke = [&](const std::string& reply) {
    ScriptedPeer peer({{.reply = reply}});
    const absl::Status status =
        server_->RevokeToken(DcAt(peer.url()), Secret("1000.CANARY.x"), absl::Seconds(5));
    EXPECT_THAT(status.ToString(), Not(HasSubstr(kCanary)));
    EXPECT_EQ(peer.WaitForEnded(1)[0].requests, 1);
    if (!status.ok()) {
      EXPECT_EQ(ErrorReason(status), "ZOHO_UNAVAILABLE");
    }
    return status;
  };
  EXPECT_TRUE(revoke(JsonReply("400 Bad Request", R"({"error":"invalid_token"})")).ok());
  EXPECT_EQ(LastError(revoke(
                JsonReply("400 Bad Request", R"({"error":"Access Denied","status":"failure"})"))),
            "throttled");
  EXPECT_EQ(LastError(revoke(Reply("503 Unavailable", "text/html", "<html>"))), "http_503");
  EXPECT_EQ(LastError(revoke("")), "closed_without_reply");
}

TEST_F(CurlAccountsServerTest, RevokeIsBounded) {
  ScriptedPeer peer({{.end = End::kStay}});
  EXPECT_EQ(LastError(server_->RevokeToken(DcAt(peer.url()), Secret("x"), absl::Milliseconds(100))),
            "response_timeout");
  RefusingPort nobody;
  EXPECT_EQ(LastError(server_->RevokeToken(DcAt(nobody.url()), Secret("x"), absl::Seconds(5))),
            "connect_failed");
}

// --- Construction
// ---------------------------------------------------------------------------------

TEST(CurlAccountsServerCreateTest, CaFileMustHoldACertificate) {
  for (const char* path : {"/nonexistent/ca.pem", "/dev/null", "/"}) {
    CurlAccountsServer::Options options;
    options.ca_file = path;
    const auto server = CurlAccountsServer::Create(options);
    EXPECT_EQ(server.status().code(), absl::StatusCode::kInvalidArgument) << path;
  }
}

}  // namespace
}  // namespace tokenbroker
