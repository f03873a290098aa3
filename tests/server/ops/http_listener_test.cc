#include "server/ops/http_listener.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "common/mutex.h"

namespace tokenbroker {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A TCP connection to the listener, without an HTTP library between.
class Connection {
 public:
  explicit Connection(int port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Connection() { close(fd_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  bool connected() const { return connected_; }

  void Send(const std::string& text) {
    size_t sent = 0;
    while (sent < text.size()) {
      const ssize_t n = send(fd_, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += static_cast<size_t>(n);
    }
  }

  // Everything until the other side closes, or ten seconds pass without a byte.
  std::string ReadAll() {
    std::string text;
    char buffer[4096];
    pollfd readable{fd_, POLLIN, 0};
    while (poll(&readable, 1, 10'000) == 1) {
      const ssize_t n = recv(fd_, buffer, sizeof(buffer), 0);
      if (n <= 0) return text;
      text.append(buffer, static_cast<size_t>(n));
    }
    ADD_FAILURE() << "the connection stays open";
    return text;
  }

 private:
  const int fd_;
  bool connected_ = false;
};

std::string Exchange(int port, const std::string& request) {
  Connection connection(port);
  EXPECT_TRUE(connection.connected());
  connection.Send(request);
  return connection.ReadAll();
}

std::string Get(int port, const std::string& path) {
  return Exchange(port, "GET " + path + " HTTP/1.1\r\nHost: test\r\n\r\n");
}

class HttpListenerTest : public testing::Test {
 protected:
  std::unique_ptr<HttpListener> Start(std::map<std::string, HttpPage> pages) {
    auto listener = HttpListener::Create(
        {.listen = "127.0.0.1:0", .read_timeout = absl::Milliseconds(300), .metrics = &metrics_},
        std::move(pages));
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
                return HttpResponse{.status = 400,
                                    .content_type = "text/html; charset=utf-8",
                                    .body = "<p>no</p>",
                                    .headers = {{"X-Extra", "1"}, {"Referrer-Policy", "origin"}}};
              }}});
  const std::string reply = Get(
      listener->port(),
      "/oauth/callback?code=1000.a%2Bb&accounts-server=https%3A%2F%2Faccounts.zoho.eu&code=2&x");
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(reply, HasSubstr("Content-Type: text/html; charset=utf-8\r\n"));
  EXPECT_THAT(reply, HasSubstr("X-Extra: 1\r\n"));
  EXPECT_THAT(reply, HasSubstr("<p>no</p>"));
  // The page's own header replaces the listener's.
  EXPECT_THAT(reply, HasSubstr("Referrer-Policy: origin\r\n"));
  EXPECT_THAT(reply, Not(HasSubstr("no-referrer")));
  EXPECT_EQ(seen.parameters.count("code"), 2u);
  EXPECT_EQ(seen.parameters.find("code")->second, "1000.a+b");
  EXPECT_EQ(seen.parameters.find("accounts-server")->second, "https://accounts.zoho.eu");
  EXPECT_EQ(seen.parameters.count("x"), 1u);
}

// Of two Content-Types a browser or proxy takes whichever it likes.
TEST_F(HttpListenerTest, PagesOwnContentTypeIsTheOnlyOne) {
  const auto page = [](const HttpRequest&) {
    return HttpResponse{.body = "<p>yes</p>", .headers = {{"Content-Type", "text/html"}}};
  };
  const auto listener = Start({{"/oauth/callback", page}});
  const std::string reply = Get(listener->port(), "/oauth/callback");
  EXPECT_THAT(reply, HasSubstr("Content-Type: text/html\r\n"));
  EXPECT_EQ(reply.find("Content-Type:"), reply.rfind("Content-Type:")) << reply;
}

TEST_F(HttpListenerTest, EveryResponseForbidsCachingAndReferrers) {
  const auto listener = Start({{"/livez", LivePage()}});
  const std::string long_path = "/" + std::string(20'000, 'x');
  for (const std::string& request :
       std::vector<std::string>{"GET /livez HTTP/1.1\r\n\r\n", "GET /nowhere HTTP/1.1\r\n\r\n",
                                "POST /livez HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
                                "GET " + long_path + " HTTP/1.1\r\n\r\n", "nonsense\r\n\r\n"}) {
    const std::string reply = Exchange(listener->port(), request);
    SCOPED_TRACE(request.substr(0, 40));
    EXPECT_THAT(reply, HasSubstr("Cache-Control: no-store\r\n"));
    EXPECT_THAT(reply, HasSubstr("Referrer-Policy: no-referrer\r\n"));
    EXPECT_THAT(reply, HasSubstr("X-Content-Type-Options: nosniff\r\n"));
    EXPECT_THAT(reply, HasSubstr("Content-Security-Policy: default-src 'none'"));
    EXPECT_THAT(reply, HasSubstr("X-Frame-Options: DENY\r\n"));
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

TEST_F(HttpListenerTest, LimitsRequestLinesAndHeaders) {
  const auto listener = Start({{"/livez", LivePage()}});
  EXPECT_THAT(Get(listener->port(), "/livez?a=" + std::string(10'000, 'x')),
              StartsWith("HTTP/1.1 414 "));
  const std::string reply = Exchange(
      listener->port(), "GET /livez HTTP/1.1\r\nX: " + std::string(10'000, 'x') + "\r\n\r\n");
  EXPECT_THAT(reply, Not(HasSubstr("HTTP/1.1 200")));
}

TEST_F(HttpListenerTest, SilentClientsAreDropped) {
  const auto listener = Start({{"/livez", LivePage()}});
  Connection silent(listener->port());
  silent.Send("GET /livez HT");
  EXPECT_THAT(silent.ReadAll(), Not(HasSubstr("200")));
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

}  // namespace
}  // namespace tokenbroker
