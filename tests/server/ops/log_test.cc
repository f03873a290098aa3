#include "server/ops/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

namespace tokenbroker {
namespace {

using ::nlohmann::json;

// A secret cannot become a field: decided by the compiler.
static_assert(!std::is_constructible_v<LogField, std::string_view, Secret>);
static_assert(!std::is_constructible_v<LogField, std::string_view, const Secret&>);

// Collects lines; can be made to block.
class Lines {
 public:
  EventLog::Sink Sink() {
    return [this](std::string_view lines) {
      MutexLock lock(mutex_);
      while (blocked_) changed_.Wait(mutex_);
      text_.append(lines);
    };
  }
  void Block() { SetBlocked(true); }
  void Unblock() { SetBlocked(false); }

  std::string text() {
    MutexLock lock(mutex_);
    return text_;
  }
  std::vector<json> events() {
    std::vector<json> events;
    std::string text = this->text();
    size_t begin = 0;
    for (size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
      events.push_back(json::parse(text.substr(begin, end - begin)));
    }
    EXPECT_EQ(begin, text.size()) << "the last line is not whole";
    return events;
  }

 private:
  void SetBlocked(bool blocked) {
    MutexLock lock(mutex_);
    blocked_ = blocked;
    changed_.NotifyAll();
  }

  Mutex mutex_;
  CondVar changed_;
  bool blocked_ ABSL_GUARDED_BY(mutex_) = false;
  std::string text_ ABSL_GUARDED_BY(mutex_);
};

EventLog::Options WithSink(Lines& lines) {
  EventLog::Options options;
  options.sink = lines.Sink();
  options.now = [] { return absl::UnixEpoch() + absl::Milliseconds(1767225599007); };
  return options;
}

// The one line that an event with this field makes.
std::string LineOf(const LogField& field) {
  Lines lines;
  {
    EventLog log(WithSink(lines));
    log.Event(LogLevel::kInfo, "e", {field});
  }
  return lines.text();
}

// What stands after the head.
std::string FieldOf(const LogField& field) {
  const std::string head = R"({"time":"2025-12-31T23:59:59.007Z","level":"info","event":"e",)";
  const std::string line = LineOf(field);
  EXPECT_TRUE(line.starts_with(head)) << line;
  EXPECT_TRUE(line.ends_with("}\n")) << line;
  return line.substr(head.size(), line.size() - head.size() - 2);
}

TEST(LogFieldTest, WritesEveryType) {
  EXPECT_EQ(FieldOf({"a", "text"}), R"("a":"text")");
  EXPECT_EQ(FieldOf({"a", std::string("text")}), R"("a":"text")");
  EXPECT_EQ(FieldOf({"a", ""}), R"("a":"")");
  EXPECT_EQ(FieldOf({"a", true}), R"("a":true)");
  EXPECT_EQ(FieldOf({"a", false}), R"("a":false)");
  EXPECT_EQ(FieldOf({"a", -5}), R"("a":-5)");
  EXPECT_EQ(FieldOf({"a", INT64_MIN}), R"("a":-9223372036854775808)");
  EXPECT_EQ(FieldOf({"a", UINT64_MAX}), R"("a":18446744073709551615)");
  EXPECT_EQ(FieldOf({"a", 0.25}), R"("a":0.25)");
  EXPECT_EQ(FieldOf({"a", std::nan("")}), R"("a":null)");
  EXPECT_EQ(FieldOf({"a", -HUGE_VAL}), R"("a":null)");
  EXPECT_EQ(FieldOf({"a_ms", absl::Microseconds(1500)}), R"("a_ms":1.5)");
  EXPECT_EQ(FieldOf({"a_ms", absl::InfiniteDuration()}), R"("a_ms":null)");
}

TEST(LogFieldTest, EscapesWhatJsonCannotHold) {
  EXPECT_EQ(FieldOf({"a", "\"\\\n\r\t\x01\x7f/"}), "\"a\":\"\\\"\\\\\\n\\r\\t\\u0001\\u007f/\"");
  EXPECT_EQ(FieldOf({"a", std::string("x\0y", 3)}), R"("a":"x\u0000y")");
  EXPECT_EQ(FieldOf({"\"", "b"}), R"("\"":"b")");
  EXPECT_EQ(FieldOf({"a", "ü€😀"}), "\"a\":\"ü€😀\"");
}

TEST(LogFieldTest, ReplacesWhatIsNotUtf8) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(FieldOf({"a", "x\xffy"}), "\"a\":\"x" + bad + "y\"");
  EXPECT_EQ(FieldOf({"a", "\xc3"}), "\"a\":\"" + bad + "\"");                      // cut off
  EXPECT_EQ(FieldOf({"a", "\xc0\xaf"}), "\"a\":\"" + bad + bad + "\"");            // overlong
  EXPECT_EQ(FieldOf({"a", "\xe0\x80\xaf"}), "\"a\":\"" + bad + bad + bad + "\"");  // overlong
  EXPECT_EQ(FieldOf({"a", "\xed\xa0\x80"}), "\"a\":\"" + bad + bad + bad + "\"");  // surrogate
  EXPECT_EQ(FieldOf({"a", "\xf4\x90\x80\x80"}), "\"a\":\"" + bad + bad + bad + bad + "\"");
}

TEST(LogFieldTest, EveryByteStringBecomesValidJson) {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  for (int i = 0; i < 256; ++i) {
    all.push_back(static_cast<char>(i));
    all.push_back(static_cast<char>(255 - i));
  }
  for (size_t begin = 0; begin < all.size(); begin += 7) {
    const std::string line = LineOf({"a", all.substr(begin)});
    EXPECT_TRUE(json::accept(line)) << line;
  }
}

TEST(LogFieldTest, CutsLongTexts) {
  const std::string field = FieldOf({"a", std::string(5000, 'x')});
  EXPECT_EQ(field, "\"a\":\"" + std::string(4096, 'x') + "…\"");
}

TEST(EventLogTest, LevelsDecideWhatIsWritten) {
  Lines lines;
  EventLog log(WithSink(lines));
  EXPECT_FALSE(log.IsEnabled(LogLevel::kDebug));
  log.Event(LogLevel::kDebug, "one");
  log.Event(LogLevel::kInfo, "two");
  log.SetLevel(LogLevel::kError);
  log.Event(LogLevel::kWarning, "three");
  log.Event(LogLevel::kError, "four");
  log.Flush();
  const std::vector<json> events = lines.events();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0]["event"], "two");
  EXPECT_EQ(events[1]["event"], "four");
  EXPECT_EQ(events[1]["level"], "error");
}

TEST(EventLogTest, TimesAreUtcAtAnyDate) {
  const struct {
    int64_t ms;
    const char* text;
  } cases[] = {{0, "1970-01-01T00:00:00.000Z"},
               {-1, "1969-12-31T23:59:59.999Z"},
               {951782400123, "2000-02-29T00:00:00.123Z"},
               {4102444799999, "2099-12-31T23:59:59.999Z"}};
  for (const auto& c : cases) {
    Lines lines;
    EventLog::Options options = WithSink(lines);
    options.now = [&] { return absl::FromUnixMillis(c.ms); };
    EventLog log(std::move(options));
    log.Event(LogLevel::kInfo, "e");
    log.Flush();
    EXPECT_EQ(lines.events().at(0)["time"], c.text);
  }
}

TEST(EventLogTest, LosesNothingAndKeepsEachThreadsOrder) {
  constexpr int kThreads = 12;
  constexpr int kEvents = 500;
  Lines lines;
  {
    EventLog log(WithSink(lines));
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&log, t] {
        for (int i = 0; i < kEvents; ++i) {
          log.Event(LogLevel::kInfo, "e", {{"thread", t}, {"i", i}});
          if (i % 100 == 0) log.Flush();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  std::vector<int> next(kThreads, 0);
  for (const json& event : lines.events()) EXPECT_EQ(event["i"], next[event["thread"]]++);
  for (const int n : next) EXPECT_EQ(n, kEvents);
}

// Without Flush: the writer comes by itself.
TEST(EventLogTest, WritesWithoutBeingAsked) {
  Lines lines;
  EventLog log(WithSink(lines));
  for (int round = 0; round < 3; ++round) {
    log.Event(LogLevel::kInfo, "e");
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    while (lines.events().size() <= static_cast<size_t>(round) && absl::Now() < deadline) {
      std::this_thread::yield();
    }
    ASSERT_EQ(lines.events().size(), static_cast<size_t>(round) + 1);
  }
}

TEST(EventLogTest, ASlowSinkCostsLinesAndNotTheCallersTime) {
  Lines lines;
  EventLog::Options options = WithSink(lines);
  options.max_buffered_bytes = 8 * 1000;  // 1000 for this thread
  EventLog log(std::move(options));
  lines.Block();
  int64_t sent = 0;
  while (log.dropped() < 5) {
    log.Event(LogLevel::kInfo, "e", {{"i", sent++}});
    ASSERT_LT(sent, 10'000) << "nothing was dropped";
  }
  lines.Unblock();
  log.Flush();
  log.Event(LogLevel::kInfo, "after");
  log.Flush();
  int64_t kept = 0;
  int64_t said = 0;
  for (const json& event : lines.events()) {
    if (event["event"] == "e") ++kept;
    if (event["event"] == "log lines dropped") said += event["count"].get<int64_t>();
  }
  EXPECT_EQ(said, log.dropped());
  EXPECT_EQ(kept + said, sent);
  EXPECT_EQ(lines.events().back()["event"], "after");
}

TEST(EventLogTest, WritesToStandardErrorByDefault) {
  testing::internal::CaptureStderr();
  {
    EventLog log({});
    log.Event(LogLevel::kWarning, "hello");
  }
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(json::parse(text)["event"], "hello");
}

}  // namespace
}  // namespace tokenbroker
