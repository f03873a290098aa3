#ifndef TOKEN_BROKER_STORAGE_PROTOCOL_H_
#define TOKEN_BROKER_STORAGE_PROTOCOL_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "storage/grant_record.h"
#include "storage/protocol_limits.h"
#include "storage/token_store.h"

// The refresh protocol as pure functions: each takes the stored record, changes it in place and
// says what happened. A backend loads the record, applies one of them, and stores the record if
// `changed`, all in one transaction; the Redis scripts are the same rules in Lua. `now` is the
// store's clock; every function rounds it down to milliseconds and leaves it in `record.store_now`.
//
//   GrantRecord record = …;                             // inside BEGIN IMMEDIATE
//   Applied<FailResult> applied = ApplyFail(limits, record, request, now);
//   if (applied.changed) …                              // write the record
//   if (applied.publish) …                              // after COMMIT: a ChangeEvent
//
// Results carry no copy of the record: the caller has it and moves it into the result.
namespace tokenbroker {

template <typename Result>
struct Applied {
  Result result;
  bool changed = false;  // the record is to be stored
  bool publish = false;  // listeners are to be told
};

// These make records: nullopt means there is none. Register always leaves one, and so does
// CountSend; Acquire does for registrations.
Applied<AcquireResult> ApplyAcquire(const ProtocolLimits& limits,
                                    std::optional<GrantRecord>& record,
                                    const AcquireRequest& request, absl::Time now);
Applied<CountSendResult> ApplyCountSend(const ProtocolLimits& limits,
                                        std::optional<GrantRecord>& record,
                                        const CountSendRequest& request, absl::Time now);
Applied<RegisterResult> ApplyRegister(std::optional<GrantRecord>& record,
                                      const RegisterRequest& request, absl::Time now);

// To the others a missing record is the backend's to answer: kNotFound, kLost, kStale.
Applied<MarkSentOutcome> ApplyMarkSent(const ProtocolLimits& limits, GrantRecord& record,
                                       const MarkSentRequest& request, absl::Time now);
Applied<CommitResult> ApplyCommit(GrantRecord& record, const CommitRequest& request,
                                  absl::Time now);
Applied<FailResult> ApplyFail(const ProtocolLimits& limits, GrantRecord& record,
                              const FailRequest& request, absl::Time now);
Applied<RevokeResult> ApplyRevoke(GrantRecord& record, const RevokeRequest& request,
                                  absl::Time now);
// `changed` is the result.
bool ApplyForgetTokens(GrantRecord& record, int64_t generation);

// Whether anybody but a registration may see it.
bool IsGrant(const std::optional<GrantRecord>& record);

// What registering over a record that cannot be read goes on from: its generation and epoch, so
// that everything in flight is superseded, its journal of sends, without those of the future, its
// throttle, and when it was created. A generation or epoch that cannot be right becomes `now` in
// milliseconds, which no count of refreshes reaches. `damaged`: what could be read.
GrantRecord SalvageRecord(const GrantKey& key, const GrantRecord& damaged, absl::Time now);

// A lease that still binds others.
bool LeaseIsLive(const ProtocolLimits& limits, const GrantRecord& record, absl::Time now);

// How long until every budget window has room for one more send; zero: it has now.
absl::Duration BudgetWait(const ProtocolLimits& limits, const GrantRecord& record, Purpose purpose,
                          absl::Time now);

// How long nothing is sent after a failure, whether of the grant's own or because Zoho throttles;
// zero: it may be. Times too far away to be one of ours, of a damaged record or a clock that
// jumped, bind nobody.
absl::Duration CooldownWait(const ProtocolLimits& limits, const GrantRecord& record,
                            absl::Time now);
// How long Zoho goes on throttling; zero: it does not.
absl::Duration ThrottleWait(const ProtocolLimits& limits, const GrantRecord& record,
                            absl::Time now);

// What the record keeps of an error's text: at most 200 bytes, never half of a UTF-8 character.
std::string KeptError(std::string_view error);

// Down to the millisecond, the resolution of all stored times.
absl::Time ToMilliseconds(absl::Time time);

// From 1970 to 9999, as google.protobuf.Timestamp: what is outside, no broker has written.
bool IsStorableTime(absl::Time time);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_PROTOCOL_H_
