// The last line against a request that leaves twice: a libcurl that repeats POSTs by itself, in
// spite of all options. Here it is told to follow redirects behind the client's back.

#include <dlfcn.h>

#include <atomic>
#include <cstdarg>
#include <cstdlib>

#include "gtest/gtest.h"
#include "tests/clients/zoho/curl_fixture.h"
#include "tests/clients/zoho/scripted_peer.h"

namespace {

std::atomic<int> redirects_allowed{0};

}  // namespace

// Takes the place of libcurl's in this program. Its values are whole registers: a long, a pointer
// or a curl_off_t. 52 is CURLOPT_FOLLOWLOCATION, whose number never changes.
extern "C" int curl_easy_setopt(void* handle, int option, ...) {
  using SetOption = int (*)(void*, int, ...);
  static const auto original = reinterpret_cast<SetOption>(dlsym(RTLD_NEXT, "curl_easy_setopt"));
  if (original == nullptr) std::abort();
  va_list arguments;
  va_start(arguments, option);
  void* const value = va_arg(arguments, void*);
  va_end(arguments);
  if (option != 52) return original(handle, option, value);
  ++redirects_allowed;
  return original(handle, option, 1L);
}

namespace tokenbroker {
namespace {

using Delivery = TokenResponse::Delivery;

class RepeatingLibcurlTest : public CurlAccountsServerTest {};

TEST_F(RepeatingLibcurlTest, IsStoppedBeforeTheSecondRequestLeaves) {
  ScriptedPeer peer({{.reply = "HTTP/1.1 307 Temporary Redirect\r\n"
                               "Location: /oauth/v2/token\r\nContent-Length: 0\r\n\r\n"},
                     {.reply = JsonReply("200 OK", kTokenBody)}});
  ExpectFailure(RefreshAt(peer.url()), Delivery::kUnknown, {"repetition_refused"});
  EXPECT_EQ(redirects_allowed, 1);
  EXPECT_EQ(checks_, 1) << "the second one is refused without asking";
  const auto received = peer.WaitForEnded(2);
  ASSERT_EQ(received.size(), 2u) << "libcurl did not try, so nothing was proven";
  EXPECT_EQ(received[0].requests, 1);
  EXPECT_EQ(received[1].bytes, "");
}

}  // namespace
}  // namespace tokenbroker
