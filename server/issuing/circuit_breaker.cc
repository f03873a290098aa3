#include "server/issuing/circuit_breaker.h"

namespace tokenbroker {
namespace {

// How soon those turned away by a probe under way should look again.
constexpr absl::Duration kProbeTime = absl::Seconds(1);

}  // namespace

CircuitBreakers::Admission CircuitBreakers::Admit(std::string_view dc, MonotonicTime now) {
  Admission admission;
  bool first_probe = false;
  {
    MutexLock lock(mutex_);
    auto found = breakers_.find(dc);
    if (found == breakers_.end()) found = breakers_.emplace(std::string(dc), Breaker{}).first;
    Breaker& breaker = found->second;
    if (breaker.state == State::kClosed) return admission;
    if (now < breaker.open_until) return {.wait = breaker.open_until - now};
    if (breaker.probe != 0) return {.wait = kProbeTime};
    admission.probe = breaker.probe = ++last_probe_;
    first_probe = breaker.state == State::kOpen;
    breaker.state = State::kHalfOpen;
  }
  if (first_probe) Tell(dc, "half_open");
  return admission;
}

void CircuitBreakers::Record(std::string_view dc, const Admission& admission, bool usable_answer,
                             MonotonicTime now) {
  bool closed = false;
  bool opened = false;
  {
    MutexLock lock(mutex_);
    Breaker& breaker = breakers_.find(dc)->second;
    const bool probe = admission.probe != 0 && admission.probe == breaker.probe;
    if (usable_answer) {
      closed = breaker.state != State::kClosed;
      breaker = Breaker{};
    } else if (probe || (breaker.state == State::kClosed &&
                         ++breaker.failures_in_row >= options_.failures)) {
      opened = true;
      breaker.state = State::kOpen;
      breaker.probe = 0;
      breaker.open_until = now + options_.open_for;
    }
  }
  if (closed) Tell(dc, "closed");
  if (opened) Tell(dc, "open");
}

void CircuitBreakers::Abandon(std::string_view dc, const Admission& admission) {
  MutexLock lock(mutex_);
  Breaker& breaker = breakers_.find(dc)->second;
  if (admission.probe != 0 && admission.probe == breaker.probe) breaker.probe = 0;
}

}  // namespace tokenbroker
