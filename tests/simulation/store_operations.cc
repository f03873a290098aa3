// The operations of a SimulatedStore: what each asks the server to do, and what its answer means.
#include <algorithm>
#include <optional>
#include <utility>

#include "common/errors.h"
#include "common/status_macros.h"
#include "storage/protocol.h"
#include "tests/simulation/store_client.h"

namespace tokenbroker::simulation {
namespace {

template <typename Outcome>
uint64_t Bit(Outcome outcome) {
  return uint64_t{1} << static_cast<int>(outcome);
}

bool IsGrant(const std::shared_ptr<const GrantRecord>& record) {
  return record != nullptr && record->state != GrantState::kReserved;
}

GrantRecord RecordOf(const Reply& reply, const GrantKey& key) {
  GrantRecord record = *reply.record;
  // As with Redis, whose answers hold a record's fields without its key.
  record.key = key;
  record.store_now = reply.server_time;
  return record;
}

}  // namespace

Reply SimulatedStore::Begin(Operation operation, const Server& server, int grant) const {
  Reply reply;
  reply.operation = operation;
  reply.server_time = ToMilliseconds(server.Clock(now()));
  if (grant >= 0) reply.record = server.records[static_cast<size_t>(grant)].record;
  return reply;
}

void SimulatedStore::Store(Server& server, int grant, Reply& reply, GrantRecord record,
                           bool publish) {
  auto stored = std::make_shared<const GrantRecord>(std::move(record));
  Version version = server.records[static_cast<size_t>(grant)];
  version.record = stored;
  servers_->Write(server, grant, std::move(version));
  if (publish) servers_->Publish(server, grant, *stored);
  reply.record = std::move(stored);
}

SimulatedStore::Call SimulatedStore::LoadCall(int grant) const {
  Call call;
  call.operation = kLoad;
  call.reads = true;
  call.script = [this, grant](Server& server, Nanos) { return Begin(kLoad, server, grant); };
  return call;
}

absl::StatusOr<GrantRecord> SimulatedStore::Load(const GrantKey& key) {
  TB_ASSIGN_OR_RETURN(const Answered answered, Run(LoadCall(context_->GrantOf(key))));
  if (!IsGrant(answered.reply.record)) return OrgNotFoundError();
  return RecordOf(answered.reply, key);
}

absl::StatusOr<AcquireResult> SimulatedStore::Acquire(const AcquireRequest& request) {
  using Outcome = AcquireResult::Outcome;
  const int grant = context_->GrantOf(request.key);
  Call call;
  call.operation = kAcquire;
  call.fenced = true;
  call.script = [this, grant, request](Server& server, Nanos quarantine) {
    Reply reply = Begin(kAcquire, server, grant);
    const ProtocolLimits& limits = context_->limits;
    std::optional<GrantRecord> record;
    if (reply.record != nullptr) record = *reply.record;
    const bool decides = request.purpose == Purpose::kRegistration ||
                         (IsGrant(record) && record->state == GrantState::kActive &&
                          record->generation <= request.seen_generation);
    if (quarantine > 0 && decides) {
      // There may be a lease that this primary has never heard of.
      reply.outcome = static_cast<int>(Outcome::kBusy);
      reply.wait = absl::Nanoseconds(quarantine);
      if (record && LeaseIsLive(limits, *record, reply.server_time)) {
        reply.wait = std::max(reply.wait, record->lease_end - reply.server_time);
      }
      return reply;
    }
    const Applied<AcquireResult> applied = ApplyAcquire(limits, record, request, reply.server_time);
    reply.outcome = static_cast<int>(applied.result.outcome);
    reply.wait = applied.result.wait;
    reply.ambiguous = applied.result.previous_ambiguous;
    if (applied.changed) {
      server.records[static_cast<size_t>(grant)].mark_call = 0;
      Store(server, grant, reply, *std::move(record), applied.publish);
    }
    return reply;
  };
  TB_ASSIGN_OR_RETURN(const Answered answered, Run(call));
  AcquireResult result;
  result.outcome = static_cast<Outcome>(answered.reply.outcome);
  context_->trace.Add("acquire", seams_->process, grant, answered.reply.outcome,
                      answered.reply.record == nullptr ? 0 : answered.reply.record->generation);
  result.wait = answered.reply.wait;
  if (answered.reply.record == nullptr) return result;
  result.record = RecordOf(answered.reply, request.key);
  if (result.outcome == Outcome::kGranted) {
    result.epoch = result.record.epoch;
    result.previous_ambiguous = answered.reply.ambiguous;
  }
  return result;
}

MarkSentOutcome SimulatedStore::Mark(Server& server, int grant, Reply& reply,
                                     const MarkSentRequest& request, uint64_t call,
                                     Nanos quarantine) {
  if (reply.record == nullptr) return MarkSentOutcome::kLost;
  const ProtocolLimits& limits = context_->limits;
  GrantRecord record = *reply.record;
  Version& version = server.records[static_cast<size_t>(grant)];
  bool changed = false;
  if (context_->defect == Defect::kLeaseUnchecked) {
    record.sends.push_back(reply.server_time);
    record.phase = LeasePhase::kSent;
    record.lease_end = reply.server_time + limits.sent_lease;
    changed = true;
  } else {
    // The lease is from before; somebody else may have had a later one.
    if (quarantine > 0) return MarkSentOutcome::kLost;
    if (record.phase == LeasePhase::kSent && record.lease_owner == request.attempt_id &&
        record.epoch == request.epoch && version.mark_call == call) {
      // The same call once more, because the answer to its first try was lost.
      if (!LeaseIsLive(limits, record, reply.server_time)) return MarkSentOutcome::kLost;
      reply.mark = version.mark;
      return MarkSentOutcome::kMarked;
    }
    const Applied<MarkSentOutcome> applied =
        ApplyMarkSent(limits, record, request, reply.server_time);
    if (applied.result != MarkSentOutcome::kMarked) return applied.result;
    changed = applied.changed;
    if (context_->defect == Defect::kSendNotCounted) record.sends.pop_back();
  }
  if (changed) {
    version.mark_call = call;
    reply.mark = version.mark = context_->judge.OnMarked(grant, request, record);
    Store(server, grant, reply, std::move(record), false);
  }
  return MarkSentOutcome::kMarked;
}

absl::StatusOr<MarkSentOutcome> SimulatedStore::MarkSent(const MarkSentRequest& request) {
  if (context_->Happens(context_->profile.freeze_before_mark, Fault::kFreezeBeforeMark)) {
    if (context_->chance().Percent(50)) {
      seams_->FreezePastLease();
    } else {
      seams_->FreezeForAWhile();
    }
  }
  const int grant = context_->GrantOf(request.key);
  const uint64_t id = context_->chance().Next() | 1;
  Call call;
  call.operation = kMarkSent;
  call.fenced = true;
  call.acknowledged = Bit(MarkSentOutcome::kMarked);
  call.script = [this, grant, request, id](Server& server, Nanos quarantine) {
    Reply reply = Begin(kMarkSent, server, grant);
    reply.outcome = static_cast<int>(Mark(server, grant, reply, request, id, quarantine));
    return reply;
  };
  TB_ASSIGN_OR_RETURN(const Answered answered, Run(call));
  const auto outcome = static_cast<MarkSentOutcome>(answered.reply.outcome);
  context_->trace.Add("mark_sent", seams_->process, grant, answered.reply.outcome,
                      answered.reply.mark);
  if (outcome == MarkSentOutcome::kMarked) {
    // The holder's own last look at the time follows at once.
    context_->scheduler.current()->mark = answered.reply.mark;
    context_->scheduler.current()->checked_at = now();
  }
  return outcome;
}

absl::StatusOr<CountSendResult> SimulatedStore::CountSend(const CountSendRequest& request) {
  using Outcome = CountSendResult::Outcome;
  const int grant = context_->GrantOf(request.key);
  Call call;
  call.operation = kCountSend;
  call.fenced = true;
  call.acknowledged = Bit(Outcome::kCounted);
  call.script = [this, grant, request](Server& server, Nanos) {
    Reply reply = Begin(kCountSend, server, grant);
    std::optional<GrantRecord> record;
    if (reply.record != nullptr) record = *reply.record;
    const Applied<CountSendResult> applied =
        ApplyCountSend(context_->limits, record, request, reply.server_time);
    reply.outcome = static_cast<int>(applied.result.outcome);
    reply.wait = applied.result.wait;
    if (applied.result.outcome == Outcome::kCounted) {
      reply.mark = context_->judge.OnCounted(grant, request.attempt_id);
    }
    if (applied.changed) Store(server, grant, reply, *std::move(record), applied.publish);
    return reply;
  };
  TB_ASSIGN_OR_RETURN(const Answered answered, Run(call));
  CountSendResult result;
  result.outcome = static_cast<Outcome>(answered.reply.outcome);
  result.wait = answered.reply.wait;
  context_->trace.Add("count_send", seams_->process, grant, answered.reply.outcome,
                      answered.reply.mark);
  if (result.outcome == Outcome::kCounted) {
    context_->scheduler.current()->mark = answered.reply.mark;
    context_->scheduler.current()->checked_at = now();
  }
  return result;
}

absl::StatusOr<CommitResult> SimulatedStore::Commit(const CommitRequest& request) {
  using Outcome = CommitResult::Outcome;
  const int grant = context_->GrantOf(request.key);
  Call call;
  call.operation = kCommit;
  call.acknowledged = Bit(Outcome::kCommitted) | Bit(Outcome::kDuplicate);
  if (context_->defect != Defect::kVerdictUnchecked) {
    call.acknowledged |= Bit(Outcome::kSuperseded) | Bit(Outcome::kRevoked);
  }
  call.script = [this, grant, request, process = seams_->process](Server& server, Nanos) {
    Reply reply = Begin(kCommit, server, grant);
    reply.outcome = static_cast<int>(Outcome::kNotFound);
    if (!IsGrant(reply.record)) return reply;
    const std::shared_ptr<const GrantRecord> before = reply.record;
    GrantRecord record = *before;
    CommitRequest applied_request = request;
    if (context_->defect == Defect::kEpochFencedCommit &&
        record.last_commit_attempt != request.attempt_id &&
        (record.lease_owner != request.attempt_id ||
         !LeaseIsLive(context_->limits, record, reply.server_time))) {
      reply.outcome = static_cast<int>(Outcome::kSuperseded);
      return reply;
    }
    if (context_->defect == Defect::kCommitUnchecked) {
      applied_request.generation = record.generation;
    }
    const Applied<CommitResult> applied = ApplyCommit(record, applied_request, reply.server_time);
    reply.outcome = static_cast<int>(applied.result.outcome);
    if (applied.result.outcome == Outcome::kCommitted) {
      context_->judge.OnCommitStored(process, *before, record, request);
    }
    if (applied.changed) Store(server, grant, reply, std::move(record), applied.publish);
    return reply;
  };
  const absl::StatusOr<Answered> answered = Run(call);
  context_->trace.Add(
      "commit", seams_->process, grant, answered.ok() ? answered->reply.outcome : -1,
      answered.ok() && answered->reply.record != nullptr ? answered->reply.record->generation : 0);
  if (!answered.ok()) {
    if (context_->defect != Defect::kCommitGivenUp) return answered.status();
    CommitResult given_up;
    given_up.outcome = Outcome::kSuperseded;
    given_up.record.key = request.key;
    given_up.record.generation = request.generation;
    return given_up;
  }
  CommitResult result;
  result.outcome = static_cast<Outcome>(answered->reply.outcome);
  if (answered->reply.record != nullptr) result.record = RecordOf(answered->reply, request.key);
  const int64_t generation = result.record.generation;
  using Verdict = Judge::Verdict;
  Verdict verdict = Verdict::kStored;
  switch (result.outcome) {
    case Outcome::kCommitted:
      Told(*answered, grant, "G3", generation, request.attempt_id);
      break;
    case Outcome::kDuplicate:
      Told(*answered, grant, "G3", generation, "");
      break;
    case Outcome::kSuperseded:
      verdict = Verdict::kSuperseded;
      Told(*answered, grant, "G4", generation, "");
      break;
    case Outcome::kRevoked:
      verdict = Verdict::kRevoked;
      Told(*answered, grant, "G4", generation, "");
      break;
    case Outcome::kNotFound:
      verdict = Verdict::kNotFound;
      break;
  }
  context_->judge.OnSettled(seams_->process, request.tokens.access_token, verdict,
                            request.generation, &result.record);
  return result;
}

absl::StatusOr<FailResult> SimulatedStore::Fail(const FailRequest& request) {
  using Outcome = FailResult::Outcome;
  const int grant = context_->GrantOf(request.key);
  Call call;
  call.operation = kFail;
  call.script = [this, grant, request, process = seams_->process](Server& server, Nanos) {
    Reply reply = Begin(kFail, server, grant);
    reply.outcome = static_cast<int>(Outcome::kStale);
    if (reply.record == nullptr) return reply;
    const std::shared_ptr<const GrantRecord> before = reply.record;
    GrantRecord record = *before;
    FailRequest applied_request = request;
    if (context_->defect == Defect::kFailUnchecked && record.state == GrantState::kActive) {
      applied_request.epoch = record.epoch;
      applied_request.generation = record.generation;
      record.lease_owner = request.attempt_id;
      if (record.phase == LeasePhase::kNone) record.phase = LeasePhase::kHeld;
    }
    const Applied<FailResult> applied =
        ApplyFail(context_->limits, record, applied_request, reply.server_time);
    reply.outcome = static_cast<int>(applied.result.outcome);
    reply.wait = applied.result.wait;
    if (applied.changed) {
      context_->judge.OnFailStored(process, grant, *before, record, request,
                                   &server == servers_->primary());
      Store(server, grant, reply, std::move(record), applied.publish);
    }
    return reply;
  };
  TB_ASSIGN_OR_RETURN(const Answered answered, Run(call));
  context_->trace.Add("fail", seams_->process, grant, answered.reply.outcome,
                      static_cast<int64_t>(request.kind));
  FailResult result;
  result.outcome = static_cast<Outcome>(answered.reply.outcome);
  result.wait = answered.reply.wait;
  return result;
}

absl::StatusOr<RegisterResult> SimulatedStore::Register(const RegisterRequest& request) {
  using Outcome = RegisterResult::Outcome;
  const int grant = context_->GrantOf(request.key);
  Call index;
  index.operation = kSet;
  index.script = [this](Server& server, Nanos) { return Begin(kSet, server, -1); };
  TB_RETURN_IF_ERROR(Run(index).status());

  Call call;
  call.operation = kRegister;
  call.acknowledged = Bit(Outcome::kCreated) | Bit(Outcome::kReplaced) | Bit(Outcome::kDuplicate) |
                      Bit(Outcome::kSuperseded);
  call.script = [this, grant, request](Server& server, Nanos) {
    Reply reply = Begin(kRegister, server, grant);
    const std::shared_ptr<const GrantRecord> before = reply.record;
    std::optional<GrantRecord> record;
    if (before != nullptr) record = *before;
    RegisterRequest registration = request;
    if (context_->defect == Defect::kConsentUnchecked) registration.replaces = std::nullopt;
    const Applied<RegisterResult> applied = ApplyRegister(record, registration, reply.server_time);
    reply.outcome = static_cast<int>(applied.result.outcome);
    if (applied.changed) {
      context_->judge.OnRegistered(grant, before == nullptr ? GrantRecord() : *before, *record,
                                   request);
      Store(server, grant, reply, *std::move(record), applied.publish);
    }
    return reply;
  };
  TB_ASSIGN_OR_RETURN(const Answered answered, Run(call));
  RegisterResult result;
  result.outcome = static_cast<Outcome>(answered.reply.outcome);
  result.record = RecordOf(answered.reply, request.key);
  const bool superseded = result.outcome == Outcome::kSuperseded;
  Told(answered, grant, "G3", result.record.generation,
       superseded || result.outcome == Outcome::kDuplicate ? "" : request.attempt_id);
  if (request.tokens) {
    context_->judge.OnSettled(seams_->process, request.tokens->access_token,
                              superseded ? Judge::Verdict::kSuperseded : Judge::Verdict::kStored, 0,
                              &result.record);
  }
  return result;
}

absl::StatusOr<RevokeResult> SimulatedStore::Revoke(const RevokeRequest& request) {
  using Outcome = RevokeResult::Outcome;
  const int grant = context_->GrantOf(request.key);
  Call call;
  call.operation = kRevoke;
  call.acknowledged = Bit(Outcome::kRevoked) | Bit(Outcome::kAlreadyRevoked);
  call.script = [this, grant, request, begun = now()](Server& server, Nanos) {
    Reply reply = Begin(kRevoke, server, grant);
    reply.outcome = static_cast<int>(Outcome::kNotFound);
    if (!IsGrant(reply.record)) return reply;
    const std::shared_ptr<const GrantRecord> before = reply.record;
    GrantRecord record = *before;
    RevokeRequest revocation = request;
    if (context_->defect == Defect::kConsentUnchecked) revocation.registered_by = std::nullopt;
    const Applied<RevokeResult> applied = ApplyRevoke(record, revocation, reply.server_time);
    reply.outcome = static_cast<int>(applied.result.outcome);
    if (applied.changed) {
      context_->judge.OnRevoked(grant, *before, record, begun);
      Store(server, grant, reply, std::move(record), applied.publish);
    }
    return reply;
  };
  TB_ASSIGN_OR_RETURN(const Answered answered, Run(call));
  RevokeResult result;
  result.outcome = static_cast<Outcome>(answered.reply.outcome);
  if (result.outcome == Outcome::kNotFound) return result;
  result.record = RecordOf(answered.reply, request.key);
  if (result.outcome == Outcome::kSuperseded) return result;
  Told(answered, grant, "G3", result.record.generation, "");
  return result;
}

absl::Status SimulatedStore::ForgetTokens(const GrantKey& key, int64_t generation) {
  const int grant = context_->GrantOf(key);
  Call call;
  call.operation = kForgetTokens;
  call.script = [this, grant, generation](Server& server, Nanos) {
    Reply reply = Begin(kForgetTokens, server, grant);
    if (reply.record == nullptr) return reply;
    GrantRecord record = *reply.record;
    if (ApplyForgetTokens(record, generation)) {
      Store(server, grant, reply, std::move(record), false);
    }
    return reply;
  };
  return Run(call).status();
}

absl::StatusOr<GrantPage> SimulatedStore::ListPage(std::string_view prefix, std::string_view after,
                                                   int /*limit*/) {
  Call call;
  call.operation = kListPage;
  call.reads = true;
  call.script = [this](Server& server, Nanos) {
    Reply reply = Begin(kListPage, server, -1);
    for (const Version& version : server.records) {
      if (IsGrant(version.record)) reply.page.push_back(version.record);
    }
    return reply;
  };
  TB_ASSIGN_OR_RETURN(const Answered answered, Run(call));
  GrantPage page;
  for (const auto& record : answered.reply.page) {
    const std::string encoded = EncodeGrantKey(record->key);
    if (!encoded.starts_with(prefix) || (!after.empty() && encoded <= after)) continue;
    page.records.push_back(*record);
    page.records.back().refresh_token = Secret();
    page.records.back().access_token = Secret();
    page.records.back().store_now = answered.reply.server_time;
  }
  std::sort(page.records.begin(), page.records.end(), [](const auto& a, const auto& b) {
    return EncodeGrantKey(a.key) < EncodeGrantKey(b.key);
  });
  return page;
}

absl::Status SimulatedStore::CheckWritable() {
  Call call;
  call.operation = kSet;
  call.acknowledged = 1;
  call.script = [this](Server& server, Nanos) { return Begin(kSet, server, -1); };
  return Run(call).status();
}

}  // namespace tokenbroker::simulation
