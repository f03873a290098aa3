#ifndef TOKEN_BROKER_TESTS_SIMULATION_SCHEDULE_H_
#define TOKEN_BROKER_TESTS_SIMULATION_SCHEDULE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/simulation/profile.h"

namespace tokenbroker::simulation {

// What came of a schedule.
struct Outcome {
  uint64_t seed = 0;
  std::string broken;  // "G1" to "G7", "answers", "liveness"; "": everything held
  std::string how;
  std::vector<std::string> tail;  // of the trace, if something broke
  uint64_t hash = 0;              // of the whole trace
  int64_t steps = 0;
  int64_t sends = 0;    // requests of which a byte left for Zoho
  int64_t excused = 0;  // pairs of them that G2's exception allowed
  int64_t calls = 0;
  FaultCounts faults = {};
};

struct RunOptions {
  Defect defect = Defect::kNone;
  bool print = false;  // the trace, while it happens
};

// Runs the schedule of this seed: the same one in every process.
Outcome RunSchedule(uint64_t seed, const RunOptions& options = {});

}  // namespace tokenbroker::simulation

#endif  // TOKEN_BROKER_TESTS_SIMULATION_SCHEDULE_H_
