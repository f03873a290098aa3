// Tests of the test: with an error put in on purpose, the right promise is found broken soon.
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "tests/simulation/schedule.h"

namespace tokenbroker::simulation {
namespace {

struct Case {
  Defect defect;
  std::set<std::string> breaks;  // one of them; others may come with it
};

class Defects : public ::testing::TestWithParam<Case> {};

TEST_P(Defects, IsFound) {
  constexpr uint64_t kAtMost = 20'000;
  for (uint64_t seed = 1; seed <= kAtMost; ++seed) {
    const Outcome outcome = RunSchedule(seed, {.defect = GetParam().defect});
    if (GetParam().breaks.contains(outcome.broken)) return;
  }
  FAIL() << "not found by " << kAtMost << " seeds";
}

INSTANTIATE_TEST_SUITE_P(
    Each, Defects,
    ::testing::Values(
        Case{Defect::kEpochFencedCommit, {"G4"}}, Case{Defect::kUncheckedAck, {"G2", "G3", "G4"}},
        Case{Defect::kReusedConnection, {"G7"}}, Case{Defect::kLeaseUnchecked, {"G2"}},
        Case{Defect::kSecondPost, {"G6"}}, Case{Defect::kCommitGivenUp, {"G4"}},
        Case{Defect::kCommitUnchecked, {"G3"}}, Case{Defect::kFailUnchecked, {"G5"}},
        Case{Defect::kNoQuarantine, {"G2"}}, Case{Defect::kVerdictUnchecked, {"G3", "G4"}},
        Case{Defect::kSendNotCounted, {"G6"}}, Case{Defect::kConsentUnchecked, {"G3"}}),
    [](const auto& info) { return std::string(DefectName(info.param.defect)); });

}  // namespace
}  // namespace tokenbroker::simulation
