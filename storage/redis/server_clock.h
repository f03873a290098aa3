#ifndef TOKEN_BROKER_STORAGE_REDIS_SERVER_CLOCK_H_
#define TOKEN_BROKER_STORAGE_REDIS_SERVER_CLOCK_H_

#include <functional>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/mutex.h"

namespace tokenbroker::redis {

// How one server's wall clock, by which leases are counted, goes beside this machine's monotonic
// one. A clock that is set while a lease is held makes the lease end early, or look void: whoever
// notices lets nothing be sent until every request that may be under way is over. Thread-safe.
//
// What is compared is the difference of the two clocks. An answer tells it to within its round
// trip, so slow answers prove little and never too much. All answers of the last one to two
// `quiet` have to agree to within `drift`; changes from before that bind no living lease.
class ServerClock {
 public:
  // Further apart than this at first sight, this machine's wall clock and the server's are not both
  // right. Below it, clocks that nobody keeps in step begin no quiet time, and a token whose age is
  // wrong by so much is still good: those with less than 60 s left are not handed out.
  static constexpr absl::Duration kWallTolerance = absl::Seconds(5);

  struct Jump {
    absl::Duration by;            // at least; negative: back
    bool at_first_sight = false;  // against this machine's wall clock, for want of a history
    absl::Duration quiet;         // for so long from now on
  };
  struct Options {
    absl::Duration drift;  // protocol.clock_drift
    absl::Duration quiet;  // protocol.sent_lease
    // Null, or called on the thread that noticed, without locks.
    std::function<void(const Jump&)> on_jump;
  };

  // Of a server that was not met before; at `now` this machine's wall clock says `wall`.
  ServerClock(Options options, absl::Time wall, MonotonicTime now);

  // The server said `time`, rounded down to milliseconds, after `begin` and before `end`. After a
  // jump the quiet time begins, and the new difference is what is expected from then on. What was
  // asked before a jump was noticed does not count.
  void Observe(absl::Time time, MonotonicTime begin, MonotonicTime end) ABSL_LOCKS_EXCLUDED(mutex_);

  // What the clock can show at any time from `begin` until `within` later, without having jumped.
  struct Range {
    absl::Time earliest;
    absl::Time latest;
  };
  Range Expect(MonotonicTime begin, absl::Duration within) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Until nothing is held back any more; zero: nothing is.
  absl::Duration QuietLeft(MonotonicTime now) const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // What the answers of some time have proven: server time less monotonic time is, or was, at least
  // `least` and at most `most`. Where it changed, `least` may be above `most`.
  struct Span {
    MonotonicTime begin;
    absl::Duration least = -absl::InfiniteDuration();
    absl::Duration most = absl::InfiniteDuration();
  };

  // How much `span` and a difference at `now` may contradict each other.
  absl::Duration Allowed(const Span& span, MonotonicTime now) const;
  // By how much a difference between `least` and `most` at `now` is off; zero: it is not.
  absl::Duration OffBy(const Span& span, absl::Duration least, absl::Duration most,
                       MonotonicTime now) const;

  const Options options_;
  mutable Mutex mutex_;
  std::optional<absl::Duration> wall_ ABSL_GUARDED_BY(mutex_);  // until the first answer
  Span older_ ABSL_GUARDED_BY(mutex_);
  Span newer_ ABSL_GUARDED_BY(mutex_);
  MonotonicTime jump_asked_at_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();
  MonotonicTime quiet_end_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();
};

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_SERVER_CLOCK_H_
