#include "server/unreadable_watch.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"

namespace tokenbroker {
namespace {

// Of a key that is none of ours.
constexpr size_t kMaxKeyBytes = 512;

}  // namespace

UnreadableWatch::UnreadableWatch(EventLog* log, Clock clock)
    : log_(log), clock_(std::move(clock)) {}

void UnreadableWatch::Note(const UnreadableRecord& record) {
  const MonotonicTime now = clock_.monotonic();
  {
    MutexLock lock(mutex_);
    auto found = met_.find(record.encoded);
    if (found == met_.end()) {
      if (met_.size() >= kMaxRecords) Forget(now);
      if (met_.size() >= kMaxRecords) return;
      met_.emplace(record.encoded, Met{now, now});
    } else {
      found->second.last = now;
      if (now - found->second.logged < kLogged) return;
      found->second.logged = now;
    }
  }
  if (record.key) {
    log_->Event(LogLevel::kWarning, "record_unreadable",
                {{"org_id", record.key->org_id},
                 {"environment", EnvironmentName(record.key->environment)},
                 {"oauth_client", record.key->oauth_client}});
  } else {
    const absl::string_view key(record.encoded.data(),
                                std::min(record.encoded.size(), kMaxKeyBytes));
    log_->Event(LogLevel::kWarning, "record_unreadable", {{"key", absl::CHexEscape(key)}});
  }
}

size_t UnreadableWatch::count() {
  MutexLock lock(mutex_);
  const MonotonicTime now = clock_.monotonic();
  Forget(now);
  return static_cast<size_t>(std::count_if(met_.begin(), met_.end(), [&](const auto& entry) {
    return now - entry.second.last < kCounted;
  }));
}

void UnreadableWatch::Forget(MonotonicTime now) {
  std::erase_if(met_, [&](const auto& entry) {
    return now - entry.second.last >= kCounted && now - entry.second.logged >= kLogged;
  });
}

}  // namespace tokenbroker
