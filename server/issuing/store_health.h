#ifndef TOKEN_BROKER_SERVER_ISSUING_STORE_HEALTH_H_
#define TOKEN_BROKER_SERVER_ISSUING_STORE_HEALTH_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"
#include "common/clock.h"

namespace tokenbroker {

// Whether the store answers, by failure domain (TokenStore::FailureDomain). While one does not, one
// load at a time tries it again; everybody else who wants something of it is served from memory or
// refused at once, instead of queueing up behind loads that take their whole timeout to fail.
// Thread-safe, without a lock.
class StoreHealth {
 public:
  // How often a domain that is down is tried again. Of the order of a failing load's own time
  // (three tries of 250 ms).
  static constexpr absl::Duration kRetry = absl::Milliseconds(500);
  // More domains than these share a state with another.
  static constexpr size_t kDomains = 256;

  // For the hot path: no domain is KnownDown.
  bool NoneDown(MonotonicTime now) const {
    return absl::ToInt64Nanoseconds(now) >= last_try_.load(std::memory_order_relaxed);
  }
  // Known to be down, and not yet time to try it again.
  bool KnownDown(uint64_t domain, MonotonicTime now) const {
    const int64_t next_try = NextTry(domain).load(std::memory_order_relaxed);
    return next_try != kUp && absl::ToInt64Nanoseconds(now) < next_try;
  }
  // Before a load: true for everybody while the domain is up, and for one at a time while it is
  // down.
  bool MayTry(uint64_t domain, MonotonicTime now) {
    int64_t next_try = NextTry(domain).load(std::memory_order_relaxed);
    if (next_try == kUp) return true;
    if (absl::ToInt64Nanoseconds(now) < next_try) return false;
    const int64_t again = absl::ToInt64Nanoseconds(now + kRetry);
    if (!NextTry(domain).compare_exchange_strong(next_try, again)) return false;
    last_try_.store(again);
    return true;
  }
  void RecordUp(uint64_t domain) {
    if (NextTry(domain).load(std::memory_order_relaxed) != kUp) NextTry(domain).store(kUp);
  }
  void RecordDown(uint64_t domain, MonotonicTime now) {
    const int64_t again = absl::ToInt64Nanoseconds(now + kRetry);
    NextTry(domain).store(again);
    last_try_.store(again);
  }

 private:
  static constexpr int64_t kUp = INT64_MIN;

  struct Domain {
    std::atomic<int64_t> next_try{kUp};
  };

  const std::atomic<int64_t>& NextTry(uint64_t domain) const {
    return domains_[domain % kDomains].next_try;
  }
  std::atomic<int64_t>& NextTry(uint64_t domain) { return domains_[domain % kDomains].next_try; }

  std::array<Domain, kDomains> domains_;
  // The latest of them, give or take what threads that store it at the same time differ by.
  std::atomic<int64_t> last_try_{kUp};
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_ISSUING_STORE_HEALTH_H_
