#include "storage/redis/server_clock.h"

#include <algorithm>
#include <utility>

namespace tokenbroker::redis {
namespace {

// Of which the server's time is a multiple, rounded down.
constexpr absl::Duration kResolution = absl::Milliseconds(1);
// Clocks that are put right slowly, by at most 500 ppm on each side (adjtimex), do not jump,
// however long ago the last answer was.
constexpr double kSlewing = 0.001;

absl::Duration SinceEpoch(absl::Time time) { return time - absl::UnixEpoch(); }

}  // namespace

ServerClock::ServerClock(Options options, absl::Time wall, MonotonicTime now)
    : options_(std::move(options)), wall_(SinceEpoch(wall) - now) {
  older_.begin = newer_.begin = now;
}

absl::Duration ServerClock::Allowed(const Span& span, MonotonicTime now) const {
  return options_.drift + kSlewing * std::max(now - span.begin, absl::ZeroDuration());
}

absl::Duration ServerClock::OffBy(const Span& span, absl::Duration least, absl::Duration most,
                                  MonotonicTime now) const {
  const absl::Duration allowed = Allowed(span, now);
  if (least > span.most + allowed) return least - span.most;
  if (most < span.least - allowed) return most - span.least;
  return absl::ZeroDuration();
}

void ServerClock::Observe(absl::Time time, MonotonicTime begin, MonotonicTime end) {
  const absl::Duration least = SinceEpoch(time) - end;
  const absl::Duration most = SinceEpoch(time) + kResolution - begin;
  Jump jump;
  jump.quiet = options_.quiet;
  {
    MutexLock lock(mutex_);
    if (begin < jump_asked_at_) return;
    if (wall_) {
      jump.at_first_sight = true;
      if (least > *wall_ + kWallTolerance) jump.by = least - *wall_;
      if (most < *wall_ - kWallTolerance) jump.by = most - *wall_;
      wall_.reset();
    } else {
      jump.by = OffBy(newer_, least, most, end);
      if (jump.by == absl::ZeroDuration()) jump.by = OffBy(older_, least, most, end);
    }
    if (jump.by != absl::ZeroDuration()) {
      jump_asked_at_ = begin;
      quiet_end_ = std::max(quiet_end_, end + options_.quiet);
      older_ = newer_ = Span{.begin = end};
    }
    if (end - newer_.begin >= options_.quiet) {
      older_ = newer_;
      newer_ = Span{.begin = end};
    }
    newer_.least = std::max(newer_.least, least);
    newer_.most = std::min(newer_.most, most);
  }
  if (jump.by != absl::ZeroDuration() && options_.on_jump) options_.on_jump(jump);
}

ServerClock::Range ServerClock::Expect(MonotonicTime begin, absl::Duration within) const {
  const MonotonicTime end = begin + within;
  MutexLock lock(mutex_);
  Range range{absl::InfinitePast(), absl::InfiniteFuture()};
  for (const Span& span : {older_, newer_}) {
    const absl::Duration allowed = Allowed(span, end);
    range.earliest =
        std::max(range.earliest, absl::UnixEpoch() + begin + span.least - allowed - kResolution);
    range.latest = std::min(range.latest, absl::UnixEpoch() + end + span.most + allowed);
  }
  return range;
}

absl::Duration ServerClock::QuietLeft(MonotonicTime now) const {
  MutexLock lock(mutex_);
  return std::max(quiet_end_ - now, absl::ZeroDuration());
}

}  // namespace tokenbroker::redis
