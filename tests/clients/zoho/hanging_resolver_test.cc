// A name server that does not answer must not hold a lane's thread beyond the connect timeout:
// libcurl by default joins its resolver's thread, however long that takes.

#include <netdb.h>

#include "absl/time/time.h"
#include "clients/zoho/curl_accounts_server.h"
#include "common/errors.h"
#include "common/mutex.h"
#include "gtest/gtest.h"

namespace {

using ::tokenbroker::CondVar;
using ::tokenbroker::Mutex;
using ::tokenbroker::MutexLock;

// What the test and the resolver's thread share; never destroyed, as that thread is nobody's.
struct Resolver {
  Mutex mutex;
  CondVar changed;
  bool entered ABSL_GUARDED_BY(mutex) = false;
  bool may_return ABSL_GUARDED_BY(mutex) = false;
  bool returned ABSL_GUARDED_BY(mutex) = false;
};
Resolver& TheResolver() {
  static auto& resolver = *new Resolver();
  return resolver;
}

// Waits for `flag`, but not for ever: a test that fails should end. 20 s is far over the timeout of
// the request.
void WaitFor(Resolver& resolver, const bool& flag) ABSL_EXCLUSIVE_LOCKS_REQUIRED(resolver.mutex) {
  for (int i = 0; i < 200 && !flag; ++i) {
    resolver.changed.WaitFor(resolver.mutex, absl::Milliseconds(100));
  }
}

}  // namespace

// Takes the place of the C library's in this program, libcurl included.
extern "C" int getaddrinfo(const char*, const char*, const addrinfo*, addrinfo**) {
  Resolver& resolver = TheResolver();
  MutexLock lock(resolver.mutex);
  resolver.entered = true;
  resolver.changed.NotifyAll();
  WaitFor(resolver, resolver.may_return);
  resolver.returned = true;
  resolver.changed.NotifyAll();
  return EAI_AGAIN;
}

namespace tokenbroker {
namespace {

TEST(HangingResolverTest, DoesNotOutliveTheConnectTimeout) {
  const auto server = CurlAccountsServer::Create({}).value();
  TokenRequest request;
  request.dc = {"us", "https://accounts.example", "https://www.example", "people.example"};
  request.client_id = "1000.APP";
  request.connect_timeout = absl::Milliseconds(200);
  const TokenResponse response = server->RequestToken(request, [] { return absl::OkStatus(); });

  Resolver& resolver = TheResolver();
  MutexLock lock(resolver.mutex);
  EXPECT_TRUE(resolver.entered);
  EXPECT_FALSE(resolver.returned);
  EXPECT_EQ(response.delivery, TokenResponse::Delivery::kNotSent);
  EXPECT_EQ(GetErrorDetail(response.status)->metadata["last_error"], "connect_timeout");
  resolver.may_return = true;
  resolver.changed.NotifyAll();
  WaitFor(resolver, resolver.returned);
}

}  // namespace
}  // namespace tokenbroker
