#ifndef TOKEN_BROKER_TESTS_SIMULATION_JUDGE_H_
#define TOKEN_BROKER_TESTS_SIMULATION_JUDGE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "storage/grant_record.h"
#include "storage/protocol_limits.h"
#include "storage/token_store.h"
#include "tests/simulation/profile.h"
#include "tests/simulation/scheduler.h"
#include "tests/simulation/trace.h"

namespace tokenbroker::simulation {

// One consent at Zoho: a refresh token, or a line of them where they are rotated.
struct Consent {
  int grant = 0;
  bool revoked = false;
  std::vector<int> refresh_tokens;  // of the judge's table, oldest first
  std::vector<int> counted;         // sends that the budget is for
  std::vector<int> under_way;
};

struct RefreshToken {
  int consent = 0;
  Nanos honoured_until = INT64_MAX;
};

struct AccessToken {
  int consent = 0;
  Nanos minted_at = 0;
  Nanos expires_at = 0;
  bool with_refresh_token = false;  // it came with a new one
  bool settled = false;             // stored, or somebody may let go of it
};

// A check before a send that passed: the script ran and left a note in the record.
struct Mark {
  int grant = 0;
  std::string attempt_id;
  int64_t generation = 0;
  Nanos at = 0;
  int sends = 0;
};

// A request of which a byte has left.
struct Send {
  int consent = 0;
  int mark = -1;  // -1: none was made
  int refresh_token = -1;
  Nanos at = 0;
  Nanos frozen = 0;  // of the time between the check and the first byte
};

// What really happened, kept apart from what the code under test believes; and the promises of
// docs/guarantees.md, each in a function of its own, called wherever something may break it. The
// first promise that is broken ends the schedule.
class Judge {
 public:
  Judge(const Profile* profile, const ProtocolLimits* limits, Scheduler* scheduler, Trace* trace)
      : profile_(profile), limits_(limits), scheduler_(scheduler), trace_(trace) {}

  // The tables. Tokens are called "at-<n>" and "rt-<n>", codes "code-<n>", after them.
  int AddConsent(int grant);
  int AddRefreshToken(int consent);
  int AddAccessToken(int consent);
  Consent& consent(int i) { return consents_[static_cast<size_t>(i)]; }
  const Send& send(int i) const { return sends_[static_cast<size_t>(i)]; }
  RefreshToken& refresh_token(int i) { return refresh_tokens_[static_cast<size_t>(i)]; }
  AccessToken& access_token(int i) { return access_tokens_[static_cast<size_t>(i)]; }
  static int NumberOf(const Secret& token);  // -1: none of ours
  bool IsHonoured(int refresh_token) const;
  int GrantUnderWay() const;  // one with a request under way; -1: there is none
  int64_t sends() const { return static_cast<int64_t>(sends_.size()); }
  int64_t excused() const { return excused_; }  // G2's exception

  // --- What happens, in the order of a request's life.

  // A script let an attempt send. The number of the mark.
  int OnMarked(int grant, const MarkSentRequest& request, const GrantRecord& record);
  // The same for one without a lease. Repeated, it is the same.
  int OnCounted(int grant, const std::string& attempt_id);
  const Mark& mark(int i) const { return marks_[static_cast<size_t>(i)]; }
  // The first byte leaves; the number of the send. `refresh_token` -1: a code's.
  int OnFirstByte(const Strand& strand, int process, int consent, int refresh_token);
  // Answered, or the connection is closed.
  void OnOver(int send);
  // A process has got a token.
  void OnMinted(Strand& strand, int process, int access_token);
  // The store's answer about it has come, with as many acknowledgements as it takes. `generation`
  // is the one that the token was made from.
  enum class Verdict : uint8_t { kStored, kSuperseded, kRevoked, kNotFound };
  void OnSettled(int process, const Secret& access_token, Verdict verdict, int64_t generation,
                 const GrantRecord* record);
  // Blocking code has ended; `living`: its process was neither dead nor about to end.
  void OnEnd(const Strand& strand, int process, bool living);

  // --- The store.

  // A script has changed a record.
  void OnCommitStored(int process, const GrantRecord& before, const GrantRecord& after,
                      const CommitRequest& request);
  void OnFailStored(int process, int grant, const GrantRecord& before, const GrantRecord& after,
                    const FailRequest& request, bool on_primary);
  void OnRegistered(int grant, const GrantRecord& before, const GrantRecord& after,
                    const RegisterRequest& request);
  // `begun`: when the store was asked to.
  void OnRevoked(int grant, const GrantRecord& before, const GrantRecord& after, Nanos begun);
  // A process was told that this is stored.
  void OnTold(int process, int grant, std::string_view promise, int64_t generation,
              std::string_view attempt_id);
  struct Told {
    std::string_view promise;  // that would be broken if it were undone
    int64_t generation = 0;
    std::string attempt_id;  // "": a revocation, or seen only
  };
  const std::vector<Told>& told(int grant) const { return told_[static_cast<size_t>(grant)]; }
  // Another primary, which may not know of a failure.
  void ForgetThrottles();

  // --- Callers.

  void OnAnswer(int process, int grant, const GrantKey& asked, int64_t rejected_version,
                const GrantKey& got, const Secret& access_token, int64_t version);

  // The promise that was broken, "" if none was, and how.
  const std::string& broken() const { return broken_; }
  const std::string& how() const { return how_; }
  void Break(std::string_view promise, std::string how);

  void SetGrants(int grants) {
    told_.resize(static_cast<size_t>(grants));
    counted_.resize(static_cast<size_t>(grants));
    replaced_.resize(static_cast<size_t>(grants));
    throttled_.assign(static_cast<size_t>(grants), -1);
  }

 private:
  // docs/guarantees.md, "G1. One refresh per generation".
  void CheckOneRefreshPerGeneration(const Mark& mark);
  // "G2. One request under way", with its exception: a process that was frozen between its last
  // check and the first byte.
  void CheckOneRequestUnderWay(const Send& send);
  bool IsExcused(const Send& send) const;
  // "G4. No token is dropped".
  void CheckNoTokenIsDropped(int access_token, int process);
  // "G3. The store never goes back".
  void CheckResultIsCurrent(int process, const GrantRecord& before, const GrantRecord& after,
                            const CommitRequest& request);
  void OnReplaced(int grant, const GrantRecord& before, const GrantRecord& after);
  // When the grant got the consent that it has; the earliest time, should a failover have made it
  // necessary to store it again.
  Nanos ConsentStored(int grant, const GrantRecord& record) const;
  // "G5. A late failure kills nothing".
  void CheckDeadIsDead(int process, const GrantRecord& before);
  // "G6. Zoho's limits": counted before it is sent; the limit; nothing while throttled.
  void CheckSendIsCounted(const Send& send, int process);
  void CheckZohosLimits(int grant);
  void CheckNotThrottled(const Send& send, int grant);

  Nanos now() const { return scheduler_->now(); }
  // What times in the record may be wrong by when another server has taken over.
  Nanos Tolerance() const { return 2 * profile_->skew + kSecond; }

  const Profile* const profile_;
  const ProtocolLimits* const limits_;
  Scheduler* const scheduler_;
  Trace* const trace_;
  std::vector<Consent> consents_;
  std::vector<RefreshToken> refresh_tokens_;
  std::vector<AccessToken> access_tokens_;
  std::vector<Mark> marks_;
  std::vector<Send> sends_;
  std::vector<std::vector<Told>> told_;
  std::vector<std::vector<int>> counted_;  // by grant: its sends
  // By grant: when it was registered or revoked, and what its consent was then.
  struct Replaced {
    tokenbroker::Consent consent;
    Nanos at = 0;
  };
  std::vector<std::vector<Replaced>> replaced_;
  std::vector<Nanos> throttled_;  // by grant: since when; -1: it is not
  int64_t excused_ = 0;
  std::string broken_;
  std::string how_;
};

}  // namespace tokenbroker::simulation

#endif  // TOKEN_BROKER_TESTS_SIMULATION_JUDGE_H_
