// What a TokenIssuer does when nobody waits: refreshing ahead, keeping warm, draining.
#include <algorithm>
#include <optional>
#include <utility>

#include "common/errors.h"
#include "server/issuing/token_issuer.h"

namespace tokenbroker {
namespace {

constexpr std::string_view kSweepLane = "sweep";
constexpr absl::Duration kDrainPoll = absl::Milliseconds(10);
constexpr absl::Duration kFlightRetry = absl::Seconds(5);
// Pace of the walk through the store for grants to keep warm: 1 M grants in 200 s.
constexpr int kSweepPage = 1000;
constexpr absl::Duration kSweepPause = absl::Milliseconds(200);
// After the last page, and when the store cannot be read.
constexpr absl::Duration kSweepRest = absl::Seconds(60);
constexpr absl::Duration kSweepRetry = absl::Seconds(5);

}  // namespace

absl::Duration TokenIssuer::RefreshAheadAt(const GrantRecord& record) const {
  // FNV-1a: unlike absl::Hash the same in every process.
  uint64_t hash = 14695981039346656037u;
  for (const char c : EncodeGrantKey(record.key)) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  }
  const double fraction = static_cast<double>(hash >> 11) / static_cast<double>(1ull << 53);
  const absl::Duration ahead = options_.refresh_ahead + options_.refresh_ahead_jitter * fraction;
  // A token that lives shorter than that would be due as soon as it was minted, and so would the
  // next one.
  return std::min(ahead, (record.access_expiry - record.updated) / 2);
}

void TokenIssuer::RefreshAhead(const GrantKey& key, int64_t version, MonotonicTime used_since) {
  if (cache_.CheckDue(key, version, used_since) != TokenCache::Due::kUsed ||
      StartBackground(key, version) || draining_) {
    return;
  }
  // The flight under way may fail, or only read the record.
  RefreshAheadIn(kFlightRetry, key, version, /*used_since=*/-absl::InfiniteDuration());
}

void TokenIssuer::RefreshAheadIn(absl::Duration delay, const GrantKey& key, int64_t version,
                                 MonotonicTime used_since) {
  const Executor::Timer timer = executor_->RunAfter(
      delay, [this, key, version, used_since] { RefreshAhead(key, version, used_since); });
  cache_.KeepTimer(key, version, ScopedTimer(executor_, timer));
}

void TokenIssuer::RefreshInBackground(const GrantKey& key) { StartBackground(key, 0); }

bool TokenIssuer::StartBackground(const GrantKey& key, int64_t version) {
  const std::shared_ptr<Flight> flight = flights_.StartBackground(key, version);
  if (flight == nullptr) return false;
  Start(flight);
  return true;
}

void TokenIssuer::StartKeepingWarm() {
  executor_->Run(kSweepLane, [this] { SweepKeepWarm(""); });
}

void TokenIssuer::SweepKeepWarm(const std::string& after) {
  if (draining_) return;
  const absl::StatusOr<GrantPage> page = store_->ListPage("", after, kSweepPage);
  absl::Duration pause = kSweepRetry;
  std::string next = after;
  if (page.ok()) {
    for (const GrantRecord& record : page->records) {
      const std::optional<absl::Time> end = record.AccessEnd();
      if (record.info.keep_warm && record.state == GrantState::kActive &&
          (!end || *end - record.store_now <= RefreshAheadAt(record))) {
        StartBackground(record.key, record.generation);
      }
    }
    next = page->next;
    pause = next.empty() ? kSweepRest : kSweepPause;
  }
  executor_->RunAfter(
      pause, [this, next] { executor_->Run(kSweepLane, [this, next] { SweepKeepWarm(next); }); });
}

void TokenIssuer::StopWaiting() {
  draining_ = true;
  flights_.Close();
  // Who is between two flights is refused by the second one.
  for (const auto& [key, waiter] : flights_.TakeAll()) {
    AnswerStale(key, waiter, ShuttingDownError());
  }
}

bool TokenIssuer::Drain(absl::Duration timeout) {
  draining_ = true;
  flights_.Close();
  const MonotonicTime until = clock_.monotonic() + timeout;
  while (flights_.size() > 0) {
    if (clock_.monotonic() >= until || executor_->stopping()) {
      StopWaiting();
      return false;
    }
    executor_->Pause(kDrainPoll);
  }
  return true;
}

}  // namespace tokenbroker
