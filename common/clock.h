#ifndef TOKEN_BROKER_COMMON_CLOCK_H_
#define TOKEN_BROKER_COMMON_CLOCK_H_

#include <chrono>
#include <functional>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace tokenbroker {

// A point on the monotonic clock, as the time since an arbitrary start of this process. Deadlines
// and lifetimes are kept on it, so that an operator who sets the machine's clock breaks nothing.
using MonotonicTime = absl::Duration;

// Where time comes from. Injected everywhere, so that tests and the simulation own it.
struct Clock {
  // For what people and callers read: `expire_time`, logs.
  std::function<absl::Time()> wall;
  // For everything that waits or expires.
  std::function<MonotonicTime()> monotonic;

  static Clock System() {
    return Clock{
        [] { return absl::Now(); },
        [] { return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch()); }};
  }
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_COMMON_CLOCK_H_
