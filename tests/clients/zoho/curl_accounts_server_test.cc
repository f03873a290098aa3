// What leaves the process and what is concluded from what comes back, over real sockets.

#include "clients/zoho/curl_accounts_server.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/clients/zoho/curl_fixture.h"
#include "tests/clients/zoho/form_body.h"
#include "tests/clients/zoho/scripted_peer.h"

namespace tokenbroker {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Delivery = TokenResponse::Delivery;
using End = ScriptedPeer::End;
using Form = std::map<std::string, std::string>;

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

TEST_F(CurlAccountsServerTest, PasswordsInTheHomeFolderAreIgnored) {
  std::string home = (std::filesystem::temp_directory_path() / "home-XXXXXX").string();
  ASSERT_NE(mkdtemp(home.data()), nullptr);
  std::ofstream(home + "/.netrc") << "machine 127.0.0.1 login user password CANARY\n";
  const char* const old_home = std::getenv("HOME");
  const std::string kept = old_home == nullptr ? "" : old_home;
  setenv("HOME", home.c_str(), 1);
  ScriptedPeer peer({{.reply = JsonReply("200 OK", kTokenBody)}});
  const TokenResponse response = Send(RefreshAt(peer.url()));
  setenv("HOME", kept.c_str(), 1);
  std::filesystem::remove_all(home);
  EXPECT_EQ(response.reply.kind, ReplyKind::kSuccess);
  EXPECT_THAT(HeadOf(peer.WaitForEnded(1)[0].bytes), Not(HasSubstr("Authorization")));
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

TEST_F(CurlAccountsServerTest, NonsenseOfKnownLengthIsAWholeReply) {
  ScriptedPeer peer({{.reply = Reply("200 OK", "text/plain", "OK")},
                     {.reply = Reply("200 OK", "application/json", "")}});
  const TokenResponse text = Send(RefreshAt(peer.url()));
  EXPECT_EQ(text.delivery, Delivery::kAnswered);
  EXPECT_EQ(text.reply.error, "not_json");
  const TokenResponse empty = Send(RefreshAt(peer.url()));
  EXPECT_EQ(empty.delivery, Delivery::kAnswered);
  EXPECT_EQ(empty.reply.error, "empty_reply");
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
