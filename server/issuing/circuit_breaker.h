#ifndef TOKEN_BROKER_SERVER_ISSUING_CIRCUIT_BREAKER_H_
#define TOKEN_BROKER_SERVER_ISSUING_CIRCUIT_BREAKER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/mutex.h"

namespace tokenbroker {

// One breaker per DC: after `failures` refreshes in a row without a usable answer nothing is sent
// to that DC for `open_for`; then one refresh at a time tries, and the first that gets an answer
// closes the breaker. Answers about one grant (throttled, dead, rejected) prove that the DC works.
// Thread-safe.
class CircuitBreakers {
 public:
  struct Options {
    int failures = 20;
    absl::Duration open_for = absl::Seconds(10);
  };
  // "closed", "open" or "half_open", at every change of a DC.
  using StateListener = std::function<void(std::string_view dc, std::string_view state)>;

  // Leave to send, or not. One that was let through is given back, with Record or Abandon.
  struct Admission {
    absl::Duration wait;  // zero: go ahead; otherwise how long not to send
    uint64_t probe = 0;   // not zero: this is the one that tries a DC whose breaker is open
  };

  CircuitBreakers(Options options, StateListener listener)
      : options_(options), listener_(std::move(listener)) {}

  Admission Admit(std::string_view dc, MonotonicTime now);
  // How an admitted refresh went. A failure of one that set off before the breaker opened says
  // nothing new.
  void Record(std::string_view dc, const Admission& admission, bool usable_answer,
              MonotonicTime now);
  // An admitted refresh sent nothing: it says nothing about the DC.
  void Abandon(std::string_view dc, const Admission& admission);

 private:
  enum class State : uint8_t { kClosed, kOpen, kHalfOpen };
  struct Breaker {
    State state = State::kClosed;
    int failures_in_row = 0;
    uint64_t probe = 0;  // the one under way
    MonotonicTime open_until;
  };

  void Tell(std::string_view dc, std::string_view state) const {
    if (listener_) listener_(dc, state);
  }

  const Options options_;
  const StateListener listener_;
  Mutex mutex_;
  uint64_t last_probe_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, Breaker, std::less<>> breakers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_ISSUING_CIRCUIT_BREAKER_H_
