#ifndef TOKEN_BROKER_STORAGE_TOKEN_STORE_H_
#define TOKEN_BROKER_STORAGE_TOKEN_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "common/secret.h"
#include "storage/grant_record.h"

// The store's contract: one record per grant, and one atomic operation per change of it. Every
// backend gives the same answers; tests/storage/token_store_contract.h holds them to it.
//
// An attempt (`attempt_id`) is one try of one replica at one change. Repeating an operation with
// the same attempt id, because its answer was lost, gives the answer again and changes nothing
// more.
//
// All operations are thread-safe, block for a bounded time (Redis: 3 tries of 250 ms; SQLite: its
// busy timeout), and besides the errors they name return
//   UNAVAILABLE STORE_UNAVAILABLE   the operation may or may not have been carried out
//   DATA_LOSS RECORD_UNREADABLE     the record cannot be decoded or unsealed; nothing was changed
namespace tokenbroker {

// --- acquire: who may refresh
// -----------------------------------------------------------------------

enum class Purpose : uint8_t {
  kCaller,      // somebody waits for the token
  kBackground,  // refresh ahead; never spends the last send of a budget window
  // A credential is proven before it is registered: also where the grant is revoked, needs consent,
  // or is not there yet (then a reserved record is made), and whatever its generation.
  kRegistration,
};

struct AcquireRequest {
  GrantKey key;
  std::string attempt_id;
  // The generation that was not good enough. A record beyond it is an answer, not a reason to send.
  // Not looked at for kRegistration.
  int64_t seen_generation = 0;
  Purpose purpose = Purpose::kCaller;
};

struct AcquireResult {
  enum class Outcome : uint8_t {
    kGranted,   // the lease is ours: phase kHeld, `pre_send_lease` long. `record` has the tokens
    kFresh,     // generation > seen_generation: `record` is the newer one
    kBusy,      // another attempt holds the lease for `wait` more
    kCooldown,  // not before `wait`; `record.last_failure` says why
    kBudget,    // the budget allows the next send in `wait`
    kNeedsConsent,  // the grant is dead until somebody consents again
    kRevoked,
    kNotFound,  // these three and kFresh: never for kRegistration
  };
  Outcome outcome = Outcome::kNotFound;
  // Of the lease, kGranted only; `MarkSent` and `Fail` want it back.
  int64_t epoch = 0;
  // kGranted: an earlier attempt was sent and its fate is not known, so the refresh token may have
  // been rotated away; the first `invalid_code` is to be doubted (FailureKind::kDoubtedInvalid).
  bool previous_ambiguous = false;
  absl::Duration wait;
  GrantRecord record;  // all outcomes but kNotFound
};

// --- mark_sent: the last check before the first byte
// ------------------------------------------------

struct MarkSentRequest {
  GrantKey key;
  std::string attempt_id;
  int64_t epoch = 0;
};

enum class MarkSentOutcome : uint8_t {
  kMarked,  // journalled, counted, phase kSent, `sent_lease` long, acknowledged by replicas: send
  kLost,    // the lease is no longer ours: do not send
  kAlreadySent,  // this attempt was marked before: never send twice
};

// --- count_send: a send that cannot wait for a lease
// ------------------------------------------------

// An authorization code lives for a minute, and yields a refresh token of its own: its exchange
// disturbs nobody's, but Zoho counts it.
struct CountSendRequest {
  GrantKey key;
  std::string attempt_id;  // one per send
};

struct CountSendResult {
  enum class Outcome : uint8_t {
    kCounted,    // journalled, acknowledged by replicas: send. It stays counted if it is not sent
    kThrottled,  // Zoho throttles, for `wait` more: do not send
    kBudget,     // the budget allows the next send in `wait`
  };
  Outcome outcome = Outcome::kBudget;
  absl::Duration wait;
};

// --- commit
// -----------------------------------------------------------------------------------------

// What the token endpoint gave.
struct MintedTokens {
  Secret access_token;
  absl::Duration lifetime;          // left at the moment of the call
  Secret refresh_token;             // empty: keep the stored one
  std::vector<std::string> scopes;  // empty: keep the stored ones
  std::string api_domain;           // "": keep the stored one
};

struct CommitRequest {
  GrantKey key;
  std::string attempt_id;
  int64_t generation = 0;  // that the refresh started from
  MintedTokens tokens;
};

struct CommitResult {
  enum class Outcome : uint8_t {
    kCommitted,   // generation + 1 is stored and published
    kDuplicate,   // this attempt had been committed already
    kSuperseded,  // the record has moved on; these tokens were not stored, an own lease is cleared
    kRevoked,     // the grant was revoked: the caller revokes these tokens upstream
    kNotFound,
  };
  Outcome outcome = Outcome::kNotFound;
  GrantRecord record;  // as it is now; all outcomes but kNotFound
};

// --- fail
// -------------------------------------------------------------------------------------------

struct FailRequest {
  GrantKey key;
  std::string attempt_id;
  // 0: of a send that CountSend counted. Without a lease only kThrottled is recorded, which says
  // nothing of a credential; owner and generation are not compared.
  int64_t epoch = 0;
  int64_t generation = 0;
  FailureKind kind = FailureKind::kTransient;  // not kNone
  std::string error;                           // for people; at most 200 bytes are kept
};

struct FailResult {
  enum class Outcome : uint8_t {
    kRecorded,  // lease cleared, failure and cooldown stored, published
    kStale,     // owner, epoch or generation has moved on: nothing was changed
  };
  Outcome outcome = Outcome::kStale;
  absl::Duration wait;  // kRecorded: of the cooldown that now holds
};

// --- register, revoke
// ---------------------------------------------------------------------------------

struct RegisterRequest {
  GrantKey key;
  std::string attempt_id;  // or the caller's request id
  GrantInfo info;
  Secret refresh_token;                // empty for client credentials
  std::optional<MintedTokens> tokens;  // of the code's exchange; its refresh_token is not looked at
  // Found before the credential was spent: the grant is replaced only while it still has it.
  // nullopt: whichever it has.
  std::optional<Consent> replaces;
};

struct RegisterResult {
  enum class Outcome : uint8_t {
    kCreated,
    kReplaced,
    kDuplicate,   // this attempt had been stored already
    kSuperseded,  // somebody else registered or revoked it since `replaces`; nothing was changed
  };
  Outcome outcome = Outcome::kCreated;
  GrantRecord record;  // as it is now
};

struct RevokeRequest {
  GrantKey key;
  // Consent::registered_by as it was found before: a call that the network delivers late does not
  // end the consent that came after it. nullopt: whichever the grant has.
  std::optional<std::string> registered_by;
};

struct RevokeResult {
  enum class Outcome : uint8_t {
    kRevoked,
    kAlreadyRevoked,
    kSuperseded,  // somebody else has registered it since; nothing was changed
    kNotFound,
  };
  Outcome outcome = Outcome::kNotFound;
  // With the tokens, so that the caller can revoke them upstream; they stay in the record until
  // `ForgetTokens`.
  GrantRecord record;
};

// --- list, watch
// ----------------------------------------------------------------------------------------

// A record that is there and cannot be decoded.
struct UnreadableRecord {
  std::optional<GrantKey> key;  // nullopt: no broker writes such a key
  std::string encoded;          // the key as it is stored; like EncodeGrantKey's where `key` is set
};

struct GrantPage {
  std::vector<GrantRecord> records;  // in key order, without tokens
  // What lies among them and had to be left out, in key order.
  std::vector<UnreadableRecord> unreadable;
  // Pass as `after` for the next page. "": this was the last one.
  std::string next;
};

// A record changed: committed, failed, registered or revoked, here or in another replica. Reserved
// records change without one.
struct ChangeEvent {
  GrantKey key;
  int64_t generation = 0;  // after the change
  GrantState state = GrantState::kActive;
};

// To all but Acquire (kRegistration), CountSend, MarkSent, Fail and Register a reserved record is
// none: Load and Revoke say NOT_FOUND, ListPage leaves it out.
class TokenStore {
 public:
  using ChangeListener = std::function<void(const ChangeEvent&)>;

  virtual ~TokenStore() = default;

  // NOT_FOUND ORG_NOT_FOUND.
  virtual absl::StatusOr<GrantRecord> Load(const GrantKey& key) = 0;

  // Decides in this order: not found, revoked, fresh, needs consent (none of them for
  // kRegistration), busy (unless the lease is this attempt's: granted again), cooldown, budget,
  // granted.
  virtual absl::StatusOr<AcquireResult> Acquire(const AcquireRequest& request) = 0;

  // UNAVAILABLE STORE_NOT_ACKNOWLEDGED: marked, but too few replicas have it; do not send, call
  // Fail(kNotSent).
  virtual absl::StatusOr<MarkSentOutcome> MarkSent(const MarkSentRequest& request) = 0;

  // Counts a send that has no lease, and makes a reserved record where there is none. A lease that
  // is held and not sent yet counts as a send, too: together they stay in the budget.
  // STORE_NOT_ACKNOWLEDGED: counted, but too few replicas have it; do not send.
  virtual absl::StatusOr<CountSendResult> CountSend(const CountSendRequest& request) = 0;

  // Does not look at the lease: a late success is valuable. Also brings a grant in kNeedsConsent
  // back, if its generation still is the one the refresh started from.
  virtual absl::StatusOr<CommitResult> Commit(const CommitRequest& request) = 0;

  // Changes something only if owner, epoch and generation all match (a stale failure never marks a
  // live grant dead). kNotSent after MarkSent takes the send out of the journal again.
  virtual absl::StatusOr<FailResult> Fail(const FailRequest& request) = 0;

  // Creates or replaces the grant; supersedes everything in flight (generation + 1, epoch + 1,
  // lease and cooldown cleared; the journal of sends and a throttle are kept). Decides in this
  // order: duplicate, created where there is no grant, superseded, replaced. A record that cannot
  // be read is replaced too, whichever attempt had registered it: see SalvageRecord in protocol.h
  // for what is kept of it.
  virtual absl::StatusOr<RegisterResult> Register(const RegisterRequest& request) = 0;

  // Marks the grant revoked; supersedes everything in flight. Keeps what Register keeps.
  virtual absl::StatusOr<RevokeResult> Revoke(const RevokeRequest& request) = 0;
  // Drops the tokens of a revoked record that still has this generation; otherwise does nothing.
  virtual absl::Status ForgetTokens(const GrantKey& key, int64_t generation) = 0;

  // Up to `limit` (1 to 1000) records, the unreadable ones among them, whose encoded key starts
  // with `prefix` and comes after `after` ("": from the first), both in the encoding of ids.h.
  // Reading a page costs no more in a large store than in a small one. A key registered or revoked
  // between pages disturbs no other. One record that cannot be decoded hides no other; tokens are
  // not read, so whether they can be unsealed does not matter here.
  virtual absl::StatusOr<GrantPage> ListPage(std::string_view prefix, std::string_view after,
                                             int limit) = 0;

  // Blocks until the record's generation is above `generation`, no live lease is on it, or
  // `timeout` has gone by. Looks at the record first, then waits for its change event; polls it
  // every 100 ms, growing to 500 ms, ±25 %, for events that got lost. May return early: callers
  // look again.
  virtual void WaitForChange(const GrantKey& key, int64_t generation, absl::Duration timeout) = 0;

  // `listener` is called, on some thread of the store or of the caller, after every change, at
  // times twice; it must be quick and must not call the store. It has heard of a registration or
  // revocation by this store before that returns: whoever asks the same process next is answered
  // by it. One listener; set it before the first operation; pass nullptr to stop (no call is under
  // way afterwards).
  virtual void SetChangeListener(ChangeListener listener) = 0;
  // Names the subscription to changes made by other replicas: 0 while there is none and changes may
  // be missed; otherwise a number that is new with every subscription. What was read under a
  // session is current while the session lasts, or its change event has been delivered. SQLite:
  // always 1. Cheap: read on every call.
  virtual int64_t subscription_session() const = 0;

  // Which part of the store reading `key` depends on, as far as parts fail one by one: the number
  // of a primary in a cluster. A key without an OAuth client: of listing. Numbers may change at any
  // time; 0 where there is one part, and where it is not known. Cheap, waits for no server.
  virtual uint64_t FailureDomain(const GrantKey& key) const = 0;

  // OK: a write would be stored now. Checked before an authorization code is spent.
  virtual absl::Status CheckWritable() = 0;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_TOKEN_STORE_H_
