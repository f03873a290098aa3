#ifndef TOKEN_BROKER_STORAGE_REDIS_DEADLINE_H_
#define TOKEN_BROKER_STORAGE_REDIS_DEADLINE_H_

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "absl/time/time.h"
#include "common/clock.h"

namespace tokenbroker::redis {

// What Clock::System().monotonic says, for what compares a server's answers with it.
inline MonotonicTime MonotonicNow() {
  return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

// A point on the machine's monotonic clock by which something has to be done. Absolute, so that it
// can be handed down through any number of partial reads and writes without growing.
class Deadline {
 public:
  static Deadline In(absl::Duration from_now) {
    return Deadline(std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(from_now));
  }

  bool Passed() const { return std::chrono::steady_clock::now() >= at_; }
  // Zero once it has passed.
  absl::Duration Left() const {
    const auto left = at_ - std::chrono::steady_clock::now();
    return std::max(absl::ZeroDuration(), absl::FromChrono(left));
  }
  // For poll(2): rounded up, so that a wait does not end just before the deadline and spin.
  int PollMilliseconds() const {
    const int64_t left = absl::ToInt64Milliseconds(absl::Ceil(Left(), absl::Milliseconds(1)));
    return static_cast<int>(std::min<int64_t>(left, 24 * 3600 * 1000));
  }

 private:
  explicit Deadline(std::chrono::steady_clock::time_point at) : at_(at) {}
  std::chrono::steady_clock::time_point at_;
};

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_DEADLINE_H_
