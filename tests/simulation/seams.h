#ifndef TOKEN_BROKER_TESTS_SIMULATION_SEAMS_H_
#define TOKEN_BROKER_TESTS_SIMULATION_SEAMS_H_

#include <functional>

#include "absl/time/time.h"
#include "common/clock.h"
#include "tests/simulation/context.h"

namespace tokenbroker::simulation {

// One process of the broker as the simulated machine sees it: what all of its seams have in common.
struct Seams {
  Context* context = nullptr;
  int process = 0;
  Gate* gate = nullptr;
  int64_t drift = 0;  // of its clock, in millionths
  Nanos ahead = 0;    // its clock, when the schedule began
  bool stopping = false;
  std::function<void()> crash;  // at once; not from one of its strands

  bool dead() const { return gate->dead; }

  // A point at which something else may happen before the process goes on: other strands, a freeze,
  // the end. Blocks, so it is for strands only. False: the process is dead.
  bool Pass() const {
    if (dead()) return false;
    if (context->Happens(context->profile.freeze_at_seam, Fault::kFreeze)) FreezeForAWhile();
    if (context->Happens(context->profile.crash_at_seam, Fault::kCrash)) {
      context->trace.Add("crashes", process);
      context->scheduler.Post(nullptr, 0, crash);
      context->scheduler.Block(kNever);
    }
    return !dead();
  }

  // Up to twice the longest lease. Now and then until just after the end of one.
  void FreezeForAWhile() const { FreezeForAWhile(context->chance().Below(100)); }
  // Until just after the end of the lease that is not sent yet.
  void FreezePastLease() const { FreezeForAWhile(99); }

  // Of the process's own clock, in the world's time.
  Nanos ToWorld(absl::Duration duration) const {
    if (duration >= absl::Hours(24 * 365)) return kNever;
    const int64_t own = absl::ToInt64Nanoseconds(duration);
    return own - own / (1'000'000 + drift) * drift + 1;
  }
  MonotonicTime Monotonic() const {
    const Nanos now = context->now();
    return absl::Nanoseconds(1'000 * kSecond + ahead + now + now / 1'000'000 * drift);
  }
  Clock clock() const {
    return {.wall = [this] { return Epoch() + Monotonic(); },
            .monotonic = [this] { return Monotonic(); }};
  }

 private:
  void FreezeForAWhile(int64_t kind) const {
    if (gate->frozen || dead()) return;
    const Nanos sent = absl::ToInt64Nanoseconds(context->limits.sent_lease);
    const Nanos held = absl::ToInt64Nanoseconds(context->limits.pre_send_lease);
    Chance& chance = context->chance();
    Nanos duration = chance.Spread(100, 2 * sent / kMilli) * kMilli;
    if (kind < 20) duration = sent + chance.Between(-500, 2'000) * kMilli;
    if (kind >= 80) duration = held + chance.Between(-500, 2'000) * kMilli;
    context->trace.Add("frozen", process, duration / kMilli);
    context->scheduler.Freeze(*gate);
    context->scheduler.Post(nullptr, duration, [c = context, g = gate, p = process] {
      if (!g->frozen) return;
      c->trace.Add("goes on", p);
      c->scheduler.Thaw(*g);
    });
  }
};

}  // namespace tokenbroker::simulation

#endif  // TOKEN_BROKER_TESTS_SIMULATION_SEAMS_H_
