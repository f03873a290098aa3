#include "storage/redis/redis_token_store.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/errors.h"
#include "common/status_macros.h"
#include "storage/protocol.h"
#include "storage/redis/record_codec.h"
#include "storage/redis/redis_token_store_parts.h"
#include "storage/redis/topology.h"

namespace tokenbroker {
namespace {

using redis::Client;
using redis::Command;
using redis::Deadline;
using redis::Reply;
using redis::ReplyView;
using redis::ScriptArguments;
using redis::ScriptId;
using redis::ToMillis;

// Names of a script's outcomes, and what they mean here.
template <typename Outcome, size_t n>
absl::StatusOr<Outcome> ParseOutcome(
    ReplyView answer, const std::array<std::pair<std::string_view, Outcome>, n>& names) {
  for (const auto& [name, outcome] : names) {
    if (answer[0].text() == name) return outcome;
  }
  return InternalError("a Redis script gave an unknown outcome");
}

absl::Duration Number(ReplyView answer, size_t index) {
  if (index >= answer.size()) return absl::ZeroDuration();
  return absl::Milliseconds(answer[index].integer().value_or(0));
}

// The record in an answer {outcome, now, fields, …}; an answer without one leaves it as it is.
absl::Status ReadRecord(const GrantKey& key, ReplyView answer, GrantRecord& record) {
  if (answer.size() < 3) return absl::OkStatus();
  const absl::Time now = absl::FromUnixMillis(answer[1].integer().value_or(0));
  TB_ASSIGN_OR_RETURN(record, redis::DecodeRecordFields(key, answer[2], now));
  return absl::OkStatus();
}

std::string Windows(const ProtocolLimits& limits) {
  return absl::StrJoin(limits.budget, ",",
                       [](std::string* out, const ProtocolLimits::Window& window) {
                         absl::StrAppend(out, window.sends, ":", ToMillis(window.length));
                       });
}

std::string IndexKey(const RedisTokenStoreOptions& options) { return options.key_prefix + "index"; }

redis::Endpoint ToEndpoint(const RedisEndpoint& endpoint) { return {endpoint.host, endpoint.port}; }

std::vector<redis::Endpoint> ToEndpoints(const std::vector<RedisEndpoint>& endpoints) {
  std::vector<redis::Endpoint> result;
  for (const RedisEndpoint& endpoint : endpoints) result.push_back(ToEndpoint(endpoint));
  return result;
}

std::unique_ptr<redis::Topology> MakeTopology(const RedisTokenStoreOptions& options) {
  redis::TopologyOptions topology = {
      .login = {options.username, options.password, options.database, options.tls},
      .pool_size = options.pool_size,
      .connect_timeout = options.connect_timeout,
      .reign = {.key_prefix = options.key_prefix,
                // One slot of a cluster has it, and each shard has to know by itself.
                .index_key = options.cluster ? "" : IndexKey(options),
                .quarantine = options.quarantine,
                .clock = {.drift = options.limits.clock_drift,
                          .quiet = options.limits.sent_lease,
                          .on_jump = options.on_clock_jump},
                .username = options.username}};
  if (options.cluster) {
    return redis::MakeClusterTopology(std::move(topology), ToEndpoints(options.cluster->seeds));
  }
  if (options.sentinel) {
    const RedisSentinelOptions& sentinel = *options.sentinel;
    return redis::MakeSentinelTopology(
        std::move(topology),
        {.endpoints = ToEndpoints(sentinel.endpoints),
         .primary_name = sentinel.primary_name,
         .login = {sentinel.username, sentinel.password, /*database=*/0, options.tls}});
  }
  return redis::MakeFixedTopology(std::move(topology), {options.host, options.port});
}

// What the scripts are called with before their own arguments.
ScriptArguments CommonArguments(absl::Duration clock_offset, std::string_view channel,
                                const GrantKey& key) {
  ScriptArguments arguments;
  arguments.Add(ToMillis(clock_offset));
  arguments.Add(channel);
  arguments.AddOwned(EncodeGrantKey(key));
  return arguments;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RedisTokenStore>> RedisTokenStore::Create(Options options) {
  TB_RETURN_IF_ERROR(options.Validate());
  auto parts = std::make_unique<Parts>(
      Client::Options{
          .username = options.username,
          .command_timeout = options.command_timeout,
          .tries = options.tries,
          .replica_acks = options.replica_acks,
          .replica_ack_timeout = options.replica_ack_timeout,
          .scripts = options.test_scripts ? options.test_scripts() : redis::ScriptSet::Embedded()},
      MakeTopology(options));
  std::unique_ptr<RedisTokenStore> store(new RedisTokenStore(std::move(options), std::move(parts)));
  redis::Topology& topology = store->parts_->client.topology();
  TB_ASSIGN_OR_RETURN(
      store->parts_->subscriber,
      redis::ChangeSubscriber::Create(
          {.listen = [&topology](Deadline deadline) { return topology.Listen(deadline); },
           .still_hears =
               [&topology](const redis::Endpoint& endpoint, Deadline deadline) {
                 return topology.StillHears(endpoint, deadline);
               },
           .username = store->options_.username,
           .connect_timeout = store->options_.connect_timeout,
           .channel = store->channel_,
           .on_message = [self =
                              store.get()](std::string_view payload) { self->OnMessage(payload); },
           .on_subscribed = [self = store.get()] { self->parts_->waiters.NotifyAll(); }}));
  return store;
}

RedisTokenStore::RedisTokenStore(Options options, std::unique_ptr<Parts> parts)
    : options_(std::move(options)),
      channel_(absl::StrCat(options_.key_prefix, "changes:", options_.database)),
      index_key_(IndexKey(options_)),
      parts_(std::move(parts)) {}

RedisTokenStore::~RedisTokenStore() {
  parts_->subscriber.reset();  // its thread uses this object
}

absl::Duration RedisTokenStore::ClockOffset() const {
  return options_.test_clock_offset ? options_.test_clock_offset() : absl::ZeroDuration();
}

absl::StatusOr<AcquireResult> RedisTokenStore::Acquire(const AcquireRequest& request) {
  using Outcome = AcquireResult::Outcome;
  static constexpr std::array<std::pair<std::string_view, Outcome>, 9> kOutcomes = {{
      {"GRANTED", Outcome::kGranted},
      {"FRESH", Outcome::kFresh},
      {"BUSY", Outcome::kBusy},
      {"COOLDOWN", Outcome::kCooldown},
      {"BUDGET", Outcome::kBudget},
      {"NEEDS_CONSENT", Outcome::kNeedsConsent},
      {"REVOKED", Outcome::kRevoked},
      {"NOT_FOUND", Outcome::kNotFound},
      {"JUMPED", Outcome::kBusy},
  }};
  const ProtocolLimits& limits = options_.limits;
  const absl::Duration clock_offset = ClockOffset();
  ScriptArguments arguments = CommonArguments(clock_offset, channel_, request.key);
  arguments.Add(request.attempt_id);
  arguments.Add(request.seen_generation);
  arguments.Add(int64_t{request.purpose == Purpose::kBackground ? limits.background_reserve : 0});
  arguments.Add(ToMillis(limits.pre_send_lease));
  arguments.Add(ToMillis(limits.MaxLease()));
  arguments.Add(ToMillis(limits.MaxCooldown()));
  arguments.AddOwned(Windows(limits));
  if (request.purpose == Purpose::kRegistration) {
    arguments.Add(ToMillis(limits.ReservedLife()));
  } else {
    arguments.Add("");
  }
  absl::Duration held_back;
  TB_ASSIGN_OR_RETURN(
      const Reply reply,
      parts_->client.RunScript(
          ScriptId::kAcquire, redis::RecordKey(options_.key_prefix, request.key), arguments,
          {.acknowledged = {}, .fenced = true, .clock_offset = clock_offset}, &held_back));
  const ReplyView answer = reply.view();
  AcquireResult result;
  TB_ASSIGN_OR_RETURN(result.outcome, ParseOutcome(answer, kOutcomes));
  TB_RETURN_IF_ERROR(ReadRecord(request.key, answer, result.record));
  // What the clock says about other leases is not to be trusted; this one runs out by itself.
  if (result.outcome == Outcome::kGranted && held_back > absl::ZeroDuration()) {
    result.outcome = Outcome::kBusy;
  }
  if (result.outcome == Outcome::kBusy) {
    result.wait = std::max(Number(answer, 3), held_back);
  } else if (result.outcome == Outcome::kGranted) {
    result.epoch = result.record.epoch;
    result.previous_ambiguous = result.record.ambiguous;
  } else {
    result.wait = Number(answer, 3);
  }
  return result;
}

absl::StatusOr<MarkSentOutcome> RedisTokenStore::MarkSent(const MarkSentRequest& request) {
  static constexpr std::array<std::pair<std::string_view, MarkSentOutcome>, 4> kOutcomes = {{
      {"MARKED", MarkSentOutcome::kMarked},
      {"LOST", MarkSentOutcome::kLost},
      {"JUMPED", MarkSentOutcome::kLost},
      {"ALREADY_SENT", MarkSentOutcome::kAlreadySent},
  }};
  const ProtocolLimits& limits = options_.limits;
  const absl::Duration clock_offset = ClockOffset();
  ScriptArguments arguments = CommonArguments(clock_offset, channel_, request.key);
  arguments.Add(request.attempt_id);
  arguments.Add(request.epoch);
  // Tells a second try of this call, whose caller has not sent yet, from a second call.
  arguments.AddOwned(NewAttemptId());
  arguments.Add(ToMillis(limits.sent_lease));
  arguments.Add(ToMillis(limits.MaxLease()));
  arguments.AddOwned(Windows(limits));
  arguments.Add(ToMillis(limits.MaxCooldown()));
  absl::Duration held_back;
  TB_ASSIGN_OR_RETURN(
      const Reply reply,
      parts_->client.RunScript(
          ScriptId::kMarkSent, redis::RecordKey(options_.key_prefix, request.key), arguments,
          {.acknowledged = {"MARKED"}, .fenced = true, .clock_offset = clock_offset}, &held_back));
  // The clock jumped after the lease was given: it may have been given by what it showed.
  if (held_back > absl::ZeroDuration()) return MarkSentOutcome::kLost;
  return ParseOutcome(reply.view(), kOutcomes);
}

absl::StatusOr<CountSendResult> RedisTokenStore::CountSend(const CountSendRequest& request) {
  using Outcome = CountSendResult::Outcome;
  static constexpr std::array<std::pair<std::string_view, Outcome>, 3> kOutcomes = {{
      {"COUNTED", Outcome::kCounted},
      {"THROTTLED", Outcome::kThrottled},
      {"BUDGET", Outcome::kBudget},
  }};
  const ProtocolLimits& limits = options_.limits;
  const absl::Duration clock_offset = ClockOffset();
  ScriptArguments arguments = CommonArguments(clock_offset, channel_, request.key);
  arguments.Add(request.attempt_id);
  arguments.Add(ToMillis(limits.MaxLease()));
  arguments.Add(ToMillis(limits.MaxCooldown()));
  arguments.AddOwned(Windows(limits));
  arguments.Add(ToMillis(limits.ReservedLife()));
  TB_ASSIGN_OR_RETURN(
      const Reply reply,
      parts_->client.RunScript(
          ScriptId::kCountSend, redis::RecordKey(options_.key_prefix, request.key), arguments,
          {.acknowledged = {"COUNTED"}, .fenced = true, .clock_offset = clock_offset}));
  CountSendResult result;
  TB_ASSIGN_OR_RETURN(result.outcome, ParseOutcome(reply.view(), kOutcomes));
  result.wait = Number(reply.view(), 2);
  return result;
}

absl::StatusOr<CommitResult> RedisTokenStore::Commit(const CommitRequest& request) {
  using Outcome = CommitResult::Outcome;
  static constexpr std::array<std::pair<std::string_view, Outcome>, 5> kOutcomes = {{
      {"COMMITTED", Outcome::kCommitted},
      {"DUPLICATE", Outcome::kDuplicate},
      {"SUPERSEDED", Outcome::kSuperseded},
      {"REVOKED", Outcome::kRevoked},
      {"NOT_FOUND", Outcome::kNotFound},
  }};
  ScriptArguments arguments = CommonArguments(ClockOffset(), channel_, request.key);
  arguments.Add(request.attempt_id);
  arguments.Add(request.generation);
  arguments.Add(ToMillis(request.tokens.lifetime));
  arguments.Add(request.tokens.access_token.Reveal());
  arguments.Add(request.tokens.refresh_token.Reveal());
  arguments.AddOwned(redis::EncodeList(request.tokens.scopes));
  arguments.Add(request.tokens.api_domain);
  TB_ASSIGN_OR_RETURN(
      const Reply reply,
      parts_->client.RunScript(
          ScriptId::kCommit, redis::RecordKey(options_.key_prefix, request.key), arguments,
          // Nor is a token let go of for a change that a failover may undo.
          {.acknowledged = {"COMMITTED", "DUPLICATE", "SUPERSEDED", "REVOKED"}}));
  CommitResult result;
  TB_ASSIGN_OR_RETURN(result.outcome, ParseOutcome(reply.view(), kOutcomes));
  TB_RETURN_IF_ERROR(ReadRecord(request.key, reply.view(), result.record));
  return result;
}

absl::StatusOr<FailResult> RedisTokenStore::Fail(const FailRequest& request) {
  using Outcome = FailResult::Outcome;
  static constexpr std::array<std::pair<std::string_view, Outcome>, 2> kOutcomes = {{
      {"RECORDED", Outcome::kRecorded},
      {"STALE", Outcome::kStale},
  }};
  const ProtocolLimits& limits = options_.limits;
  ScriptArguments arguments = CommonArguments(ClockOffset(), channel_, request.key);
  arguments.Add(request.attempt_id);
  arguments.Add(request.epoch);
  arguments.Add(request.generation);
  arguments.Add(static_cast<int64_t>(request.kind));
  arguments.AddOwned(KeptError(request.error));
  arguments.Add(ToMillis(limits.throttle_cooldown));
  arguments.Add(ToMillis(limits.MaxCooldown()));
  arguments.AddOwned(absl::StrJoin(
      limits.failure_backoff, ",",
      [](std::string* out, absl::Duration step) { absl::StrAppend(out, ToMillis(step)); }));
  arguments.Add(ToMillis(limits.sent_lease));
  TB_ASSIGN_OR_RETURN(
      const Reply reply,
      parts_->client.RunScript(ScriptId::kFail, redis::RecordKey(options_.key_prefix, request.key),
                               arguments));
  FailResult result;
  TB_ASSIGN_OR_RETURN(result.outcome, ParseOutcome(reply.view(), kOutcomes));
  result.wait = Number(reply.view(), 1);
  return result;
}

absl::StatusOr<RegisterResult> RedisTokenStore::Register(const RegisterRequest& request) {
  // The index first, and by itself, so that the script stays with one key: a crash in between
  // leaves an entry without a record, which listings skip; the other way round the grant would be
  // hidden.
  const std::string encoded = EncodeGrantKey(request.key);
  const Command index[] = {{"ZADD", index_key_, "0", encoded}};
  TB_RETURN_IF_ERROR(parts_->client.Run(index_key_, index).status());
  absl::StatusOr<RegisterResult> result = RunRegister(request, /*mend=*/false);
  // Only the decoder here knows all that can be wrong with a record. If the answer to mending it is
  // lost, it is mended once more: one generation further, with the same tokens.
  if (absl::IsDataLoss(result.status())) result = RunRegister(request, /*mend=*/true);
  if (result.ok() && result->outcome != RegisterResult::Outcome::kSuperseded) {
    Tell({request.key, result->record.generation, result->record.state});
  }
  return result;
}

absl::StatusOr<RegisterResult> RedisTokenStore::RunRegister(const RegisterRequest& request,
                                                            bool mend) {
  using Outcome = RegisterResult::Outcome;
  static constexpr std::array<std::pair<std::string_view, Outcome>, 4> kOutcomes = {{
      {"CREATED", Outcome::kCreated},
      {"REPLACED", Outcome::kReplaced},
      {"DUPLICATE", Outcome::kDuplicate},
      {"SUPERSEDED", Outcome::kSuperseded},
  }};
  const MintedTokens none;
  const MintedTokens& tokens = request.tokens ? *request.tokens : none;
  ScriptArguments arguments = CommonArguments(ClockOffset(), channel_, request.key);
  arguments.Add(request.attempt_id);
  arguments.Add(static_cast<int64_t>(request.info.type));
  arguments.Add(request.info.dc);
  arguments.AddOwned(redis::EncodeList(request.info.scopes));
  arguments.Add(request.info.soid);
  arguments.Add(request.info.display_name);
  arguments.AddOwned(redis::EncodeLabels(request.info.labels));
  arguments.Add(int64_t{request.info.keep_warm});
  arguments.Add(request.refresh_token.Reveal());
  arguments.Add(int64_t{request.tokens.has_value()});
  arguments.Add(tokens.access_token.Reveal());
  arguments.Add(ToMillis(tokens.lifetime));
  arguments.AddOwned(redis::EncodeList(tokens.scopes));
  arguments.Add(tokens.api_domain);
  arguments.Add(mend ? "MEND" : "");
  const Consent replaces = request.replaces.value_or(Consent());
  arguments.Add(int64_t{request.replaces.has_value()});
  arguments.Add(replaces.registered_by);
  arguments.Add(int64_t{replaces.revoked});
  TB_ASSIGN_OR_RETURN(
      const Reply reply,
      parts_->client.RunScript(
          ScriptId::kRegister, redis::RecordKey(options_.key_prefix, request.key), arguments,
          {.acknowledged = {"CREATED", "REPLACED", "DUPLICATE", "SUPERSEDED"}}));
  RegisterResult result;
  TB_ASSIGN_OR_RETURN(result.outcome, ParseOutcome(reply.view(), kOutcomes));
  TB_RETURN_IF_ERROR(ReadRecord(request.key, reply.view(), result.record));
  return result;
}

absl::StatusOr<RevokeResult> RedisTokenStore::Revoke(const RevokeRequest& request) {
  using Outcome = RevokeResult::Outcome;
  static constexpr std::array<std::pair<std::string_view, Outcome>, 4> kOutcomes = {{
      {"REVOKED", Outcome::kRevoked},
      {"ALREADY_REVOKED", Outcome::kAlreadyRevoked},
      {"SUPERSEDED", Outcome::kSuperseded},
      {"NOT_FOUND", Outcome::kNotFound},
  }};
  const GrantKey& key = request.key;
  ScriptArguments arguments = CommonArguments(ClockOffset(), channel_, key);
  arguments.Add(int64_t{request.registered_by.has_value()});
  arguments.AddOwned(request.registered_by.value_or(""));
  TB_ASSIGN_OR_RETURN(
      const Reply reply,
      parts_->client.RunScript(ScriptId::kRevoke, redis::RecordKey(options_.key_prefix, key),
                               arguments, {.acknowledged = {"REVOKED", "ALREADY_REVOKED"}}));
  RevokeResult result;
  TB_ASSIGN_OR_RETURN(result.outcome, ParseOutcome(reply.view(), kOutcomes));
  TB_RETURN_IF_ERROR(ReadRecord(key, reply.view(), result.record));
  if (result.outcome == Outcome::kRevoked || result.outcome == Outcome::kAlreadyRevoked) {
    Tell({key, result.record.generation, result.record.state});
  }
  return result;
}

absl::Status RedisTokenStore::ForgetTokens(const GrantKey& key, int64_t generation) {
  ScriptArguments arguments = CommonArguments(ClockOffset(), channel_, key);
  arguments.Add(generation);
  return parts_->client
      .RunScript(ScriptId::kForgetTokens, redis::RecordKey(options_.key_prefix, key), arguments)
      .status();
}

void RedisTokenStore::SetChangeListener(ChangeListener listener) {
  MutexLock lock(listener_mutex_);
  listener_ = std::move(listener);
}

void RedisTokenStore::OnMessage(std::string_view payload) {
  if (const std::optional<ChangeEvent> event = redis::DecodeChangeEvent(payload)) Tell(*event);
}

void RedisTokenStore::Tell(const ChangeEvent& event) {
  {
    MutexLock lock(listener_mutex_);
    if (listener_) listener_(event);
  }
  parts_->waiters.Notify(EncodeGrantKey(event.key));
}

int64_t RedisTokenStore::subscription_session() const { return parts_->subscriber->session(); }

uint64_t RedisTokenStore::FailureDomain(const GrantKey& key) const {
  if (key.oauth_client.empty()) return 0;
  return parts_->client.topology().PrimaryNumber(redis::RecordKey(options_.key_prefix, key));
}

absl::Status RedisTokenStore::CheckWritable() {
  return parts_->client.CheckWritable(options_.key_prefix);
}

absl::Duration RedisTokenStore::held_back() const { return parts_->client.topology().HeldBack(); }

RedisTokenStore::TopologyCounters RedisTokenStore::topology_counters() const {
  const redis::Topology::Counters counters = parts_->client.topology().counters();
  return {.moved = counters.moved,
          .asked = counters.asked,
          .refreshes = counters.refreshes,
          .primary_changes = counters.primary_changes};
}

}  // namespace tokenbroker
