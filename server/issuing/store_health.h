#ifndef TOKEN_BROKER_SERVER_ISSUING_STORE_HEALTH_H_
#define TOKEN_BROKER_SERVER_ISSUING_STORE_HEALTH_H_

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"
#include "common/clock.h"

namespace tokenbroker {

// Whether the store answers. While it does not, one load at a time tries it again; everybody else
// is served from memory or refused at once, instead of queueing up behind loads that take their
// whole timeout to fail. Thread-safe, without a lock.
class StoreHealth {
 public:
  // How often a store that is down is tried again. Of the order of a failing load's own time (three
  // tries of 250 ms).
  static constexpr absl::Duration kRetry = absl::Milliseconds(500);

  // For the hot path: known to be down, and not yet time to try it again.
  bool KnownDown(MonotonicTime now) const {
    const int64_t next_try = next_try_.load(std::memory_order_relaxed);
    return next_try != kUp && absl::ToInt64Nanoseconds(now) < next_try;
  }
  // Before a load: true for everybody while the store is up, and for one at a time while it is
  // down.
  bool MayTry(MonotonicTime now) {
    int64_t next_try = next_try_.load(std::memory_order_relaxed);
    if (next_try == kUp) return true;
    if (absl::ToInt64Nanoseconds(now) < next_try) return false;
    return next_try_.compare_exchange_strong(next_try, absl::ToInt64Nanoseconds(now + kRetry));
  }
  void RecordUp() {
    if (next_try_.load(std::memory_order_relaxed) != kUp) next_try_.store(kUp);
  }
  void RecordDown(MonotonicTime now) { next_try_.store(absl::ToInt64Nanoseconds(now + kRetry)); }

 private:
  static constexpr int64_t kUp = INT64_MIN;
  std::atomic<int64_t> next_try_{kUp};
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_ISSUING_STORE_HEALTH_H_
