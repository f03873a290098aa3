#ifndef TOKEN_BROKER_TESTS_SIMULATION_CONTEXT_H_
#define TOKEN_BROKER_TESTS_SIMULATION_CONTEXT_H_

#include <vector>

#include "common/ids.h"
#include "server/issuing/refresher.h"
#include "storage/protocol_limits.h"
#include "tests/simulation/judge.h"
#include "tests/simulation/profile.h"
#include "tests/simulation/scheduler.h"
#include "tests/simulation/trace.h"

namespace tokenbroker::simulation {

// What all parts of one schedule share.
struct Context {
  Context(uint64_t seed, Defect wrong, bool print)
      : scheduler(seed),
        defect(wrong),
        profile(DrawFor(wrong, scheduler.chance())),
        trace(&scheduler, print),
        judge(&profile, &limits, &scheduler, &trace) {}

  static Profile DrawFor(Defect defect, Chance& chance) {
    Profile profile = Profile::Draw(chance);
    profile.Favour(defect);
    return profile;
  }
  Chance& chance() { return scheduler.chance(); }
  Nanos now() const { return scheduler.now(); }
  void Count(Fault fault) { ++faults[static_cast<size_t>(fault)]; }
  // Whether a fault of this probability happens now; counts it. Not once everything heals.
  bool Happens(int64_t millionths, Fault fault) {
    if (healed || !chance().Millionths(millionths)) return false;
    Count(fault);
    return true;
  }
  int GrantOf(const GrantKey& key) const {
    for (size_t i = 0; i < grants.size(); ++i) {
      if (grants[i] == key) return static_cast<int>(i);
    }
    return -1;
  }

  Scheduler scheduler;
  const Defect defect;
  const Profile profile;
  const ProtocolLimits limits;
  Trace trace;
  Judge judge;
  std::vector<GrantKey> grants;
  FaultCounts faults = {};
  bool healed = false;
};

// Of the machines' clocks when a schedule begins.
inline absl::Time Epoch() { return absl::FromUnixSeconds(1'767'225'600); }

}  // namespace tokenbroker::simulation

#endif  // TOKEN_BROKER_TESTS_SIMULATION_CONTEXT_H_
