#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "common/mutex.h"
#include "server/ops/http_listener.h"
#include "tests/server/ops/connection.h"

// What strangers can take of the listener.
namespace tokenbroker {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A page that is answered when the test wants it.
class LaterPage {
 public:
  HttpPage page() {
    return [this](const HttpRequest&, HttpAnswer answer) {
      MutexLock lock(mutex_);
      answers_.push_back(std::move(answer));
      came_.NotifyAll();
    };
  }
  std::vector<HttpAnswer> Await(size_t count) {
    MutexLock lock(mutex_);
    while (answers_.size() < count) came_.Wait(mutex_);
    return std::exchange(answers_, {});
  }

 private:
  Mutex mutex_;
  CondVar came_;
  std::vector<HttpAnswer> answers_ ABSL_GUARDED_BY(mutex_);
};

class HttpLimitsTest : public testing::Test {
 protected:
  // So that no test passes only because somebody is dropped for its slowness.
  const HttpListener::Options kPatient = {.read_timeout = absl::Seconds(60)};

  std::unique_ptr<HttpListener> Start(std::map<std::string, HttpPage> pages,
                                      HttpListener::Options options = {}) {
    options.listen = "127.0.0.1:0";
    auto listener = HttpListener::Create(std::move(options), std::move(pages));
    EXPECT_EQ(listener.status(), absl::OkStatus());
    return *std::move(listener);
  }
};

TEST_F(HttpLimitsTest, LimitsRequestLinesAndHeaders) {
  const auto listener = Start({{"/livez", LivePage()}});
  EXPECT_THAT(Get(listener->port(), "/livez?a=" + std::string(8'000, 'x')),
              StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(Get(listener->port(), "/livez?a=" + std::string(10'000, 'x')),
              StartsWith("HTTP/1.1 414 "));
  EXPECT_THAT(Get(listener->port(), "/livez?a=" + std::string(20'000, 'x')),
              StartsWith("HTTP/1.1 414 "));
  const std::string head = "GET /livez HTTP/1.1\r\nCookie: ";
  EXPECT_THAT(Exchange(listener->port(), head + std::string(10'000, 'x') + "\r\n\r\n"),
              StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(Exchange(listener->port(), head + std::string(20'000, 'x') + "\r\n\r\n"),
              StartsWith("HTTP/1.1 431 "));
}

// What is left unread would go on to fill memory.
TEST_F(HttpLimitsTest, HeadsThatDoNotEndAreCutOff) {
  const auto listener = Start({{"/livez", LivePage()}}, kPatient);
  const std::string head = "GET /livez HTTP/1.1\r\nX: ";
  // No newline, and no end of what the client sends either: answered and closed for its length.
  EXPECT_THAT(Exchange(listener->port(), head + std::string(64 << 10, 'x')),
              StartsWith("HTTP/1.1 431 "));
  // In the middle of it, so the answer may be lost with the connection.
  EXPECT_THAT(Exchange(listener->port(), head + std::string(1 << 20, 'x')), Not(HasSubstr("200")));
  std::string many = "GET /livez HTTP/1.1\r\n";
  for (int i = 0; i < 10'000; ++i) many += "a: b\r\n";
  EXPECT_THAT(Exchange(listener->port(), many + "\r\n"), StartsWith("HTTP/1.1 431 "));
  // The limit is for all of it, also where every piece comes by itself and is short.
  Connection patient(listener->port());
  patient.Send("GET /livez HTTP/1.1\r\n");
  for (int i = 0; i < 10'000 && !patient.HasAnswer(); ++i) patient.Send("a: b\r\n");
  EXPECT_THAT(patient.ReadAll(), StartsWith("HTTP/1.1 431 "));
}

TEST_F(HttpLimitsTest, SilentClientsAreDropped) {
  const auto listener = Start({{"/livez", LivePage()}}, {.read_timeout = absl::Milliseconds(300)});
  Connection silent(listener->port());
  silent.Send("GET /livez HT");
  EXPECT_THAT(silent.ReadAll(), Not(HasSubstr("200")));
}

// The time is for the whole request, not for its next byte.
TEST_F(HttpLimitsTest, DrippingClientsAreDropped) {
  const auto listener = Start({{"/livez", LivePage()}}, {.read_timeout = absl::Milliseconds(300)});
  Connection dripping(listener->port());
  dripping.Send("GET /livez HTTP/1.1\r\nX: ");
  while (!dripping.Ended(/*wait_ms=*/20)) dripping.Send("x");
}

TEST_F(HttpLimitsTest, DrippingAndIdleClientsHoldNobodyUp) {
  const auto listener = Start({{"/livez", LivePage()}}, kPatient);
  std::vector<std::unique_ptr<Connection>> dripping;
  for (int i = 0; i < 16; ++i) {
    dripping.push_back(std::make_unique<Connection>(listener->port()));
    dripping.back()->Send("GET /livez HTTP/1.1\r\nX");
  }
  for (int i = 0; i < 3; ++i) {
    for (const auto& connection : dripping) connection->Send("x");
    EXPECT_THAT(Get(listener->port(), "/livez"), StartsWith("HTTP/1.1 200 "));
  }
  for (const auto& connection : dripping) EXPECT_FALSE(connection->Ended(0));

  // More than there is room for: the oldest ones go.
  std::vector<std::unique_ptr<Connection>> idle;
  for (int i = 0; i < 300; ++i) {
    idle.push_back(std::make_unique<Connection>(listener->port()));
    EXPECT_TRUE(idle.back()->connected());
  }
  EXPECT_THAT(Get(listener->port(), "/livez"), StartsWith("HTTP/1.1 200 "));
  EXPECT_TRUE(dripping.front()->Ended(10'000));
  EXPECT_TRUE(idle.front()->Ended(10'000));
  EXPECT_FALSE(idle.back()->Ended(0));
}

// A consent waits for Zoho, for long where Zoho is down.
TEST_F(HttpLimitsTest, PagesUnderWayHoldNobodyUp) {
  LaterPage consent;
  HttpListener::Options options = kPatient;
  options.max_connections = 20;
  options.max_pages_later = 16;
  const auto listener =
      Start({{"/livez", LivePage()}, {"/oauth/callback", consent.page()}}, options);
  std::vector<std::unique_ptr<Connection>> browsers;
  for (int i = 0; i < 16; ++i) {
    browsers.push_back(std::make_unique<Connection>(listener->port()));
    browsers.back()->Send("GET /oauth/callback HTTP/1.1\r\n\r\n");
  }
  std::vector<HttpAnswer> answers = consent.Await(16);
  // Neither idle ones nor more of the same put them out.
  std::vector<std::unique_ptr<Connection>> idle;
  for (int i = 0; i < 20; ++i) idle.push_back(std::make_unique<Connection>(listener->port()));
  EXPECT_THAT(Get(listener->port(), "/livez"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(Get(listener->port(), "/oauth/callback"), StartsWith("HTTP/1.1 503 "));
  for (const HttpAnswer& answer : answers) {
    answer({.body = "connected\n"});
    answer({.body = "twice\n"});
  }
  for (const auto& browser : browsers) EXPECT_THAT(browser->ReadAll(), EndsWith("connected\n"));
  // There is room again.
  Connection browser(listener->port());
  browser.Send("GET /oauth/callback HTTP/1.1\r\n\r\n");
  consent.Await(1).front()({.body = "connected\n"});
  EXPECT_THAT(browser.ReadAll(), EndsWith("connected\n"));
}

TEST_F(HttpLimitsTest, AnswersMayComeTooLate) {
  LaterPage consent;
  auto listener =
      Start({{"/oauth/callback", consent.page()}}, {.write_timeout = absl::Milliseconds(50)});
  Connection browser(listener->port());
  browser.Send("GET /oauth/callback HTTP/1.1\r\n\r\n");
  const std::vector<HttpAnswer> answers = consent.Await(1);
  listener->Stop();
  EXPECT_EQ(browser.ReadAll(), "");
  answers.front()({.body = "connected\n"});
  listener = nullptr;
  answers.front()({.body = "connected\n"});
}

TEST_F(HttpLimitsTest, PagesThatAreNeverAnsweredEnd) {
  LaterPage consent;
  const auto listener = Start({{"/oauth/callback", consent.page()}},
                              {.page_timeout = absl::Milliseconds(50), .max_pages_later = 1});
  EXPECT_EQ(Get(listener->port(), "/oauth/callback"), "");
  EXPECT_EQ(Get(listener->port(), "/oauth/callback"), "");
}

}  // namespace
}  // namespace tokenbroker
