#ifndef TOKEN_BROKER_TESTS_SIMULATION_PROFILE_H_
#define TOKEN_BROKER_TESTS_SIMULATION_PROFILE_H_

#include <array>
#include <cstdint>
#include <string_view>

#include "tests/simulation/chance.h"
#include "tests/simulation/scheduler.h"

namespace tokenbroker::simulation {

// Errors that are put in on purpose, into the doubles around the code under test, to see that the
// invariants find them.
enum class Defect : uint8_t {
  kNone,
  kEpochFencedCommit,  // a result is stored only under the lease that it was made under
  kUncheckedAck,       // replicas are not waited for
  kReusedConnection,   // a connection goes on being used after a timeout
  kLeaseUnchecked,     // mark_sent does not look whose lease it is
  kSecondPost,         // the request is posted again when a connection dies
  kCommitGivenUp,      // a result is dropped when storing it failed once
  kCommitUnchecked,    // a commit does not compare the generation
  kFailUnchecked,      // nor a failure owner, epoch and generation
  kNoQuarantine,       // a new primary lets refresh at once
  kVerdictUnchecked,   // replicas are not waited for before SUPERSEDED is believed
  kSendNotCounted,     // mark_sent leaves no note of the send
  kConsentUnchecked,   // registrations and revocations do not look whose consent they end
};
inline constexpr int kDefects = 13;
std::string_view DefectName(Defect defect);

// What was done to a schedule.
enum class Fault : uint8_t {
  kFreeze,
  kFreezeBeforeMark,
  kFreezeBeforeFirstByte,
  kCrash,
  kRestart,  // graceful
  kStoreRequestLost,
  kStoreReplyLost,
  kStoreDelay,
  kStoreCut,  // of one process from the store
  kPrimaryKilled,
  kPrimaryPartitioned,
  kPrimaryRestarted,
  kReplicationStalled,
  kSubscriptionLost,
  kSubscriptionSilent,
  kEventDelayed,
  kConnectFailed,
  kResetBefore,
  kResetAfter,
  kNoAnswer,
  kServerError,
  kThrottled,
  kAnswerLate,
  kConsent,
  kImport,
  kRevoke,
  kForeignRevoke,  // at Zoho, past the broker
  kRejected,       // a caller says that its token was refused
  kCancelled,
  kCount,
};
inline constexpr int kFaults = static_cast<int>(Fault::kCount);
std::string_view FaultName(Fault fault);
using FaultCounts = std::array<int64_t, kFaults>;

// How rough a schedule is: drawn anew for every seed, so that some have all faults and some few.
// Probabilities are in millionths, of each occasion.
struct Profile {
  bool calm = false;  // no faults at all: G1
  int processes = 2;
  int grants = 1;
  int replicas = 1;  // of the store
  int actions = 0;
  bool rotates = false;
  Nanos leeway = 0;  // how long a rotated refresh token is still honoured
  Nanos token_lifetime = 3600 * kSecond;
  int64_t drift = 0;                // of the processes' clocks, at most, in millionths
  Nanos skew = 0;                   // of the store servers' clocks, at most
  Nanos zohos_time = 300 * kMilli;  // for an answer, at most, where nothing is wrong
  bool keep_warm = false;
  bool connections_killed = true;  // when a primary is reconfigured

  // Of store messages.
  int64_t request_lost = 0;
  int64_t reply_lost = 0;
  int64_t message_late = 0;
  int64_t event_late = 0;
  // At every seam of a process.
  int64_t freeze_at_seam = 0;
  int64_t crash_at_seam = 0;
  int64_t freeze_before_mark = 0;
  int64_t freeze_before_first_byte = 0;
  // Of requests to the accounts server.
  int64_t connect_fails = 0;
  int64_t answer_fails = 0;
  int64_t answer_late = 0;
  // Weights of what the operator of the schedule does; see schedule.cc.
  int weight_ask = 60;
  int weight_process = 0;
  int weight_store = 0;
  int weight_operator = 0;

  static Profile Draw(Chance& chance);
  // Makes what a defect needs to do harm frequent. Not with kNone.
  void Favour(Defect defect);
};

}  // namespace tokenbroker::simulation

#endif  // TOKEN_BROKER_TESTS_SIMULATION_PROFILE_H_
