#include "server/ops/log.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <ctime>
#include <utility>

#include "common/utf8.h"

namespace tokenbroker {
namespace {

constexpr size_t kMaxTextBytes = 4096;
// How long the writer lets lines gather: a system call per batch instead of one per line.
constexpr absl::Duration kGatherTime = absl::Milliseconds(20);

void AppendEscape(unsigned char c, std::string* line) {
  switch (c) {
    case '"':
      line->append("\\\"");
      return;
    case '\\':
      line->append("\\\\");
      return;
    case '\n':
      line->append("\\n");
      return;
    case '\r':
      line->append("\\r");
      return;
    case '\t':
      line->append("\\t");
      return;
    default:
      constexpr char kHex[] = "0123456789abcdef";
      line->append("\\u00");
      line->push_back(kHex[c >> 4]);
      line->push_back(kHex[c & 15]);
  }
}

// As a JSON string.
void AppendText(std::string_view text, std::string* line) {
  const bool cut = text.size() > kMaxTextBytes;
  if (cut) text = text.substr(0, kMaxTextBytes);
  line->push_back('"');
  size_t plain = 0;  // begin of the run that needs no escapes
  size_t i = 0;
  while (i < text.size()) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c < 0x7F && c != '"' && c != '\\') {
      ++i;
      continue;
    }
    const size_t length = Utf8CharacterLength(text.substr(i));
    if (length > 1) {
      i += length;
      continue;
    }
    line->append(text, plain, i - plain);
    if (length == 0) {
      line->append(kUtf8Replacement);
    } else {
      AppendEscape(c, line);
    }
    plain = ++i;
  }
  line->append(text, plain, text.size() - plain);
  if (cut) line->append("…");
  line->push_back('"');
}

template <typename Number>
void AppendNumber(Number value, std::string* line) {
  char digits[32];
  const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), value);
  line->append(digits, end);
}

void AppendTwoDigits(int value, char* out) {
  out[0] = static_cast<char>('0' + value / 10);
  out[1] = static_cast<char>('0' + value % 10);
}

// "2026-01-31T23:59:59.123Z". The seconds are formatted once per thread and second.
void AppendTime(absl::Time time, std::string* line) {
  struct Cached {
    int64_t second = INT64_MIN;
    char text[20];
  };
  static thread_local Cached cached;
  const int64_t ms = absl::ToUnixMillis(time);
  const int64_t second = ms >= 0 ? ms / 1000 : (ms - 999) / 1000;
  if (second != cached.second) {
    const auto seconds = static_cast<time_t>(second);
    std::tm utc{};
    gmtime_r(&seconds, &utc);
    AppendTwoDigits((utc.tm_year + 1900) / 100 % 100, cached.text);
    AppendTwoDigits((utc.tm_year + 1900) % 100, cached.text + 2);
    cached.text[4] = '-';
    AppendTwoDigits(utc.tm_mon + 1, cached.text + 5);
    cached.text[7] = '-';
    AppendTwoDigits(utc.tm_mday, cached.text + 8);
    cached.text[10] = 'T';
    AppendTwoDigits(utc.tm_hour, cached.text + 11);
    cached.text[13] = ':';
    AppendTwoDigits(utc.tm_min, cached.text + 14);
    cached.text[16] = ':';
    AppendTwoDigits(utc.tm_sec, cached.text + 17);
    cached.second = second;
  }
  const auto fraction = static_cast<int>(ms - second * 1000);
  const char tail[] = {'.', static_cast<char>('0' + fraction / 100),
                       static_cast<char>('0' + fraction / 10 % 10),
                       static_cast<char>('0' + fraction % 10), 'Z'};
  line->append(cached.text, 19);
  line->append(tail, sizeof(tail));
}

}  // namespace

void LogField::AppendTo(std::string* line) const {
  AppendText(name_, line);
  line->push_back(':');
  switch (kind_) {
    case Kind::kText:
      AppendText(text_, line);
      return;
    case Kind::kBool:
      line->append(int_ != 0 ? "true" : "false");
      return;
    case Kind::kInt:
      AppendNumber(int_, line);
      return;
    case Kind::kUnsigned:
      AppendNumber(unsigned_, line);
      return;
    case Kind::kDouble:
      if (std::isfinite(double_)) {
        AppendNumber(double_, line);
      } else {
        line->append("null");
      }
      return;
  }
}

EventLog::EventLog(Options options)
    : options_(std::move(options)),
      max_shard_bytes_(options_.max_buffered_bytes / kShards),
      level_(options_.level),
      writer_([this] { WriteLoop(); }) {}

EventLog::~EventLog() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  writer_.join();
}

void EventLog::AppendHead(LogLevel level, std::string_view event, std::string* line) const {
  line->append("{\"time\":\"");
  AppendTime(options_.now(), line);
  line->append("\",\"level\":\"").append(LogLevelName(level)).append("\",\"event\":");
  AppendText(event, line);
}

void EventLog::Event(LogLevel level, std::string_view event,
                     std::initializer_list<LogField> fields) {
  if (!IsEnabled(level)) return;
  // Both live as long as the thread: no allocation per line, and no lock that all threads share.
  static std::atomic<size_t> threads{0};
  static thread_local const size_t shard_of_thread = threads.fetch_add(1) % kShards;
  static thread_local std::string line;
  line.clear();
  AppendHead(level, event, &line);
  for (const LogField& field : fields) {
    line.push_back(',');
    field.AppendTo(&line);
  }
  line.append("}\n");
  {
    Shard& shard = shards_[shard_of_thread];
    MutexLock lock(shard.mutex);
    if (shard.lines.size() + line.size() > max_shard_bytes_) {
      dropped_.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    shard.lines.append(line);
  }
  Wake();
}

void EventLog::Wake() {
  // Reading first keeps the flag's cache line shared while the writer is awake anyway.
  if (awake_.load(std::memory_order_relaxed) || awake_.exchange(true)) return;
  MutexLock lock(mutex_);
  woken_ = true;
  changed_.NotifyAll();
}

void EventLog::Flush() {
  MutexLock lock(mutex_);
  const int64_t wanted = ++flushes_wanted_;
  changed_.NotifyAll();
  while (flushes_done_ < wanted) changed_.Wait(mutex_);
}

void EventLog::WriteLoop() {
  bool stopping = false;
  while (!stopping) {
    int64_t flushes = 0;
    {
      MutexLock lock(mutex_);
      while (!woken_ && !stopping_ && flushes_wanted_ == flushes_done_) changed_.Wait(mutex_);
      // Once woken, let lines gather, unless somebody waits for them.
      const absl::Time until = absl::Now() + kGatherTime;
      while (!stopping_ && flushes_wanted_ == flushes_done_) {
        const absl::Duration rest = until - absl::Now();
        if (rest <= absl::ZeroDuration() || !changed_.WaitFor(mutex_, rest)) break;
      }
      woken_ = false;
      stopping = stopping_;
      flushes = flushes_wanted_;
    }
    Drain();
    MutexLock lock(mutex_);
    flushes_done_ = flushes;
    changed_.NotifyAll();
  }
}

void EventLog::Drain() {
  // Before the shards are read: a line that comes after wakes the writer again.
  awake_.store(false);
  batch_.clear();
  for (Shard& shard : shards_) {
    if (batch_.empty()) {
      MutexLock lock(shard.mutex);
      batch_.swap(shard.lines);
    } else {
      MutexLock lock(shard.mutex);
      batch_.append(shard.lines);
      shard.lines.clear();
    }
  }
  if (const int64_t dropped = this->dropped(); dropped != dropped_reported_) {
    AppendHead(LogLevel::kWarning, "log lines dropped", &batch_);
    batch_.push_back(',');
    LogField("count", dropped - dropped_reported_).AppendTo(&batch_);
    batch_.append("}\n");
    dropped_reported_ = dropped;
  }
  if (!batch_.empty()) options_.sink(batch_);
}

void EventLog::WriteToStandardError(std::string_view lines) {
  while (!lines.empty()) {
    const ssize_t written = write(STDERR_FILENO, lines.data(), lines.size());
    if (written > 0) {
      lines.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {
      // Somebody made it non-blocking; a reader that is slow is not one that is gone.
      pollfd writable{STDERR_FILENO, POLLOUT, 0};
      poll(&writable, 1, -1);
    } else if (errno != EINTR) {
      // Nobody reads: there is nowhere left to say so.
      return;
    }
  }
}

}  // namespace tokenbroker
