// Requests that left and whose reply did not come whole: never repeated, never taken for an answer.

#include <chrono>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/clients/zoho/curl_fixture.h"
#include "tests/clients/zoho/scripted_peer.h"

namespace tokenbroker {
namespace {

using Delivery = TokenResponse::Delivery;
using End = ScriptedPeer::End;

struct LostReply {
  std::string name;
  ScriptedPeer::Script script;
  std::vector<std::string> last_errors;  // one of them: libcurl's releases differ
};

void PrintTo(const LostReply& c, std::ostream* out) { *out << c.name; }

class KeptConnectionTest : public CurlAccountsServerTest {};

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
TEST_F(KeptConnectionTest, AConnectionIsNeverUsedTwice) {
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

}  // namespace
}  // namespace tokenbroker
