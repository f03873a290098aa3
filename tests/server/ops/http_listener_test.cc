#include "server/ops/http_listener.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "common/mutex.h"
#include "tests/server/ops/connection.h"

namespace tokenbroker {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

// The lines between a response's first one and its body, without Allow.
std::vector<std::string> HeadersOf(const std::string& response) {
  std::vector<std::string> headers;
  size_t begin = response.find("\r\n");
  while (begin != std::string::npos) {
    begin += 2;
    const size_t end = response.find("\r\n", begin);
    if (end == std::string::npos || end == begin) break;
    headers.push_back(response.substr(begin, end - begin));
    if (headers.back().starts_with("Allow: ")) headers.pop_back();
    begin = end;
  }
  return headers;
}

// The listener's socket among those of this process.
int ListeningSocket(int port) {
  for (int fd = 0; fd < 1024; ++fd) {
    int listening = 0;
    socklen_t size = sizeof(listening);
    sockaddr_in address{};
    socklen_t address_size = sizeof(address);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening == 1 &&
        getsockname(fd, reinterpret_cast<sockaddr*>(&address), &address_size) == 0 &&
        ntohs(address.sin_port) == port) {
      return fd;
    }
  }
  return -1;
}

class HttpListenerTest : public testing::Test {
 protected:
  std::unique_ptr<HttpListener> Start(std::map<std::string, HttpPage> pages,
                                      HttpListener::Options options = {}) {
    options.listen = "127.0.0.1:0";
    options.metrics = &metrics_;
    auto listener = HttpListener::Create(std::move(options), std::move(pages));
    EXPECT_EQ(listener.status(), absl::OkStatus());
    return *std::move(listener);
  }

  Metrics metrics_{"1"};
};

TEST_F(HttpListenerTest, ServesProbesAndMetrics) {
  bool ready = false;
  const auto check = [&] { return Readiness{ready, R"({"store":"down"})"}; };
  const auto listener = Start({
      {"/livez", LivePage()},
      {"/readyz", ReadyPage(check, &metrics_)},
      {"/metrics", MetricsPage(&metrics_)},
  });
  const std::string live = Get(listener->port(), "/livez");
  EXPECT_THAT(live, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(live, HasSubstr("\r\n\r\nok\n"));
  const std::string not_ready = Get(listener->port(), "/readyz");
  EXPECT_THAT(not_ready, StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(not_ready, HasSubstr("Content-Type: application/json\r\n"));
  EXPECT_THAT(not_ready, HasSubstr("\r\n\r\n{\"store\":\"down\"}\n"));
  EXPECT_THAT(Get(listener->port(), "/metrics"), HasSubstr("tokenbroker_ready 0\n"));
  ready = true;
  EXPECT_THAT(Get(listener->port(), "/readyz"), StartsWith("HTTP/1.1 200 "));
  const std::string metrics = Get(listener->port(), "/metrics");
  EXPECT_THAT(metrics, HasSubstr("Content-Type: text/plain; version=0.0.4"));
  EXPECT_THAT(metrics, HasSubstr("tokenbroker_ready 1\n"));
  EXPECT_THAT(metrics,
              HasSubstr("tokenbroker_http_requests_total{path=\"/readyz\",status=\"503\"} 1\n"));
}

TEST_F(HttpListenerTest, PagesGetDecodedParameters) {
  HttpRequest seen;
  const auto listener =
      Start({{"/oauth/callback", [&](const HttpRequest& request) {
                seen = request;
                return HttpResponse{
                    .status = 400, .content_type = "text/html; charset=utf-8", .body = "<p>no</p>"};
              }}});
  const std::string reply = Get(listener->port(),
                                "/oauth/callback?code=1000.a%2Bb&accounts-server="
                                "https%3A%2F%2Faccounts.zoho.eu&code=2&x&&100%=%zz+%e2%82%AC&");
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(reply, HasSubstr("Content-Type: text/html; charset=utf-8\r\n"));
  EXPECT_THAT(reply, HasSubstr("<p>no</p>"));
  EXPECT_EQ(seen.parameters.count("code"), 2u);
  EXPECT_EQ(seen.parameters.find("code")->second, "1000.a+b");
  EXPECT_EQ(seen.parameters.find("accounts-server")->second, "https://accounts.zoho.eu");
  EXPECT_EQ(seen.parameters.find("x")->second, "");
  EXPECT_EQ(seen.parameters.find("100%")->second, "%zz €");
  EXPECT_EQ(seen.parameters.size(), 5u);
}

// One list for all: a page that brings its own could weaken it.
TEST_F(HttpListenerTest, AllResponsesHaveTheSameHeaders) {
  const auto listener = Start({
      {"/livez", LivePage()},
      {"/bad", [](const HttpRequest&) -> HttpResponse { throw std::runtime_error("canary"); }},
      {"/oauth/callback",
       [](const HttpRequest&, const HttpAnswer& answer) {
         answer({.content_type = "text/html; charset=utf-8", .body = "<p>yes</p>"});
       }},
  });
  const std::string long_path = "/" + std::string(20'000, 'x');
  for (const std::string& request : std::vector<std::string>{
           "GET /livez HTTP/1.1\r\n\r\n", "GET /livez HTTP/1.0\r\n\r\n",
           "HEAD /livez HTTP/1.1\r\n\r\n", "GET /nowhere HTTP/1.1\r\n\r\n",
           "GET /bad HTTP/1.1\r\n\r\n", "GET /oauth/callback?code=1 HTTP/1.1\r\n\r\n",
           "POST /livez HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
           "GET " + long_path + " HTTP/1.1\r\n\r\n", "nonsense\r\n\r\n"}) {
    SCOPED_TRACE(request.substr(0, 40));
    EXPECT_THAT(
        HeadersOf(Exchange(listener->port(), request)),
        UnorderedElementsAre(
            "Cache-Control: no-store", "Connection: close",
            "Content-Security-Policy: default-src 'none'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'",
            "Referrer-Policy: no-referrer", "X-Content-Type-Options: nosniff",
            "X-Frame-Options: DENY", StartsWith("Content-Length: "), StartsWith("Content-Type: ")));
  }
}

TEST_F(HttpListenerTest, HeadHasHeadersOnly) {
  const auto listener = Start({{"/livez", LivePage()}});
  const std::string reply = Exchange(listener->port(), "HEAD /livez HTTP/1.1\r\n\r\n");
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 200 "));
  EXPECT_TRUE(reply.ends_with("\r\n\r\n")) << reply;
}

TEST_F(HttpListenerTest, RefusesWhatItDoesNotServe) {
  const auto listener = Start({{"/livez", LivePage()}});
  EXPECT_THAT(Get(listener->port(), "/"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(Get(listener->port(), "/livez/"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(Get(listener->port(), "/../livez"), StartsWith("HTTP/1.1 404 "));
  const std::string post =
      Exchange(listener->port(), "POST /livez HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n");
  EXPECT_THAT(post, StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(post, HasSubstr("Allow: GET, HEAD\r\n"));
}

TEST_F(HttpListenerTest, ABodyIsNotTakenForTheNextRequest) {
  const auto listener = Start({{"/livez", LivePage()}});
  const std::string reply =
      Exchange(listener->port(),
               "POST /livez HTTP/1.1\r\nContent-Length: 40\r\n\r\nGET /livez HTTP/1.1\r\n\r\n");
  EXPECT_THAT(reply, Not(HasSubstr("HTTP/1.1 200")));
}

TEST_F(HttpListenerTest, ExceptionsOfPagesStayInside) {
  const auto listener = Start(
      {{"/bad", [](const HttpRequest&) -> HttpResponse { throw std::runtime_error("canary"); }}});
  const std::string reply = Get(listener->port(), "/bad");
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 500 "));
  EXPECT_THAT(reply, Not(HasSubstr("canary")));
}

TEST_F(HttpListenerTest, AnAddressHasOneListener) {
  const auto listener = Start({{"/livez", LivePage()}});
  const std::string address = "127.0.0.1:" + std::to_string(listener->port());
  const auto second = HttpListener::Create({.listen = address}, {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(address));
}

TEST_F(HttpListenerTest, RefusesBadAddresses) {
  for (const char* bad : {"", "localhost", ":1", "127.0.0.1:x", "127.0.0.1:65536"}) {
    EXPECT_EQ(HttpListener::Create({.listen = bad}, {}).status().code(),
              absl::StatusCode::kInvalidArgument)
        << bad;
  }
}

TEST_F(HttpListenerTest, StopClosesThePortAndWaitsForPages) {
  Mutex mutex;
  CondVar changed;
  bool entered = false;
  bool release = false;
  auto listener = Start({{"/slow", [&](const HttpRequest&) {
                            MutexLock lock(mutex);
                            entered = true;
                            changed.NotifyAll();
                            while (!release) changed.Wait(mutex);
                            return HttpResponse{.body = "done\n"};
                          }}});
  const int port = listener->port();
  std::string reply;
  std::thread client([&] { reply = Get(port, "/slow"); });
  {
    MutexLock lock(mutex);
    while (!entered) changed.Wait(mutex);
  }
  std::thread stopper([&] { listener->Stop(); });
  {
    MutexLock lock(mutex);
    release = true;
    changed.NotifyAll();
  }
  stopper.join();
  client.join();
  EXPECT_THAT(reply, HasSubstr("done"));
  EXPECT_FALSE(Connection(port).connected());
  listener->Stop();
}

TEST_F(HttpListenerTest, ItsOwnEndIsTold) {
  const auto listener = Start({{"/livez", LivePage()}});
  EXPECT_EQ(listener->status(), absl::OkStatus());
  // As if the network had been taken away from under it.
  ASSERT_EQ(shutdown(ListeningSocket(listener->port()), SHUT_RDWR), 0);
  while (listener->status().ok()) std::this_thread::yield();
  EXPECT_EQ(listener->status().code(), absl::StatusCode::kUnavailable);
  listener->Stop();
  EXPECT_FALSE(listener->status().ok());
}

TEST_F(HttpListenerTest, AStopIsNoEndOfItsOwn) {
  const auto listener = Start({{"/livez", LivePage()}});
  listener->Stop();
  EXPECT_EQ(listener->status(), absl::OkStatus());
}

}  // namespace
}  // namespace tokenbroker
