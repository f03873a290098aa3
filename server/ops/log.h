#ifndef TOKEN_BROKER_SERVER_OPS_LOG_H_
#define TOKEN_BROKER_SERVER_OPS_LOG_H_

#include <array>
#include <atomic>
#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "common/secret.h"
#include "server/ops/log_level.h"

namespace tokenbroker {

// One named value of an event. Durations are written as milliseconds, so name them "…_ms". Texts
// may be any bytes: what is not UTF-8 becomes U+FFFD, and of long ones the first 4 KiB are kept. A
// view into its arguments: only for use in a call of EventLog::Event. There is no field of a
// Secret.
class LogField {
 public:
  LogField(std::string_view name, std::string_view value)
      : name_(name), kind_(Kind::kText), text_(value) {}
  LogField(std::string_view name, const char* value) : LogField(name, std::string_view(value)) {}
  LogField(std::string_view name, const std::string& value)
      : LogField(name, std::string_view(value)) {}
  LogField(std::string_view name, bool value) : name_(name), kind_(Kind::kBool), int_(value) {}
  LogField(std::string_view name, std::signed_integral auto value)
      : name_(name), kind_(Kind::kInt), int_(value) {}
  LogField(std::string_view name, std::unsigned_integral auto value)
      : name_(name), kind_(Kind::kUnsigned), unsigned_(value) {}
  // JSON has no infinity and no NaN: null.
  LogField(std::string_view name, double value)
      : name_(name), kind_(Kind::kDouble), double_(value) {}
  LogField(std::string_view name, absl::Duration value)
      : LogField(name, absl::ToDoubleMilliseconds(value)) {}
  LogField(std::string_view name, const Secret& value) = delete;

  // Appends `"name":value`.
  void AppendTo(std::string* line) const;

 private:
  enum class Kind : uint8_t { kText, kBool, kInt, kUnsigned, kDouble };

  std::string_view name_;
  Kind kind_;
  std::string_view text_;
  union {
    int64_t int_ = 0;
    uint64_t unsigned_;
    double double_;
  };
};

// The log: one JSON object per event and line, with "time" (RFC 3339, UTC, milliseconds), "level"
// and "event" first.
//
//   log.Event(LogLevel::kInfo, "refresh", {{"dc", "eu"}, {"sent", true}, {"latency_ms", latency}});
//
// An event costs its caller about a microsecond: the line is made on the caller's thread and copied
// to a buffer that a thread of the log writes out within some 20 ms. Events of one thread stay in
// order; those of different threads may be some milliseconds apart from it. If the sink is too
// slow, lines are dropped and counted, and the log says how many. Thread-safe.
class EventLog {
 public:
  // Gets whole lines. Called by one thread at a time; may block.
  using Sink = std::function<void(std::string_view lines)>;

  struct Options {
    LogLevel level = LogLevel::kInfo;
    Sink sink = WriteToStandardError;
    // Lines that wait beyond this are dropped. Half a minute of a busy broker's.
    size_t max_buffered_bytes = 16 * 1024 * 1024;
    std::function<absl::Time()> now = Clock::System().wall;
  };

  explicit EventLog(Options options);
  // Writes out what waits.
  ~EventLog();
  EventLog(const EventLog&) = delete;
  EventLog& operator=(const EventLog&) = delete;

  // Whether Event would write: for callers whose fields are expensive.
  bool IsEnabled(LogLevel level) const { return level >= level_.load(std::memory_order_relaxed); }
  void SetLevel(LogLevel level) { level_.store(level, std::memory_order_relaxed); }

  void Event(LogLevel level, std::string_view event, std::initializer_list<LogField> fields = {});

  // Returns once the sink has got everything that was logged before the call.
  void Flush();

  // Lines that were dropped since the start.
  int64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  // Threads are spread over shards, so that they do not meet at one lock.
  static constexpr size_t kShards = 8;
  struct alignas(64) Shard {
    Mutex mutex;
    std::string lines ABSL_GUARDED_BY(mutex);
  };

  static void WriteToStandardError(std::string_view lines);
  void AppendHead(LogLevel level, std::string_view event, std::string* line) const;
  void Wake();
  void WriteLoop();
  void Drain();

  const Options options_;
  const size_t max_shard_bytes_;
  std::atomic<LogLevel> level_;
  std::atomic<int64_t> dropped_{0};
  std::atomic<bool> awake_{false};  // the writer knows that there is something
  std::array<Shard, kShards> shards_;

  Mutex mutex_;
  CondVar changed_;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t flushes_wanted_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t flushes_done_ ABSL_GUARDED_BY(mutex_) = 0;

  // The writer's own.
  int64_t dropped_reported_ = 0;
  std::string batch_;
  std::thread writer_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_OPS_LOG_H_
