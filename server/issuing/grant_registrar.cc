#include "server/issuing/grant_registrar.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/errors.h"
#include "common/status_macros.h"
#include "server/issuing/answer_once.h"
#include "storage/protocol.h"

namespace tokenbroker {
namespace {

constexpr absl::Duration kFirstPause = absl::Milliseconds(50);
constexpr absl::Duration kLongestPause = absl::Seconds(1);
constexpr absl::Duration kLongestWait = absl::Seconds(1);
constexpr absl::Duration kDrainPoll = absl::Milliseconds(10);
// How long a rejected code waits for another replica that was called with the same request id.
constexpr absl::Duration kSiblingPoll = absl::Milliseconds(100);
constexpr int kSiblingPolls = 10;

RegisterRequest MakeRequest(const Registration& registration, GrantType type,
                            const std::string& soid, std::optional<Consent> replaces) {
  RegisterRequest request;
  request.key = registration.key;
  request.replaces = std::move(replaces);
  request.attempt_id = registration.request_id.empty() ? NewAttemptId() : registration.request_id;
  request.info.type = type;
  request.info.dc = registration.dc;
  request.info.scopes = registration.scopes;
  request.info.soid = soid;
  request.info.display_name = registration.display_name;
  request.info.labels = registration.labels;
  request.info.keep_warm = registration.keep_warm;
  return request;
}

// Whether what `request` spends is what the grant itself refreshes with.
bool IsOwnCredential(const GrantRecord& record, const TokenRequest& request) {
  if (record.info.dc != request.dc.name) return false;
  if (request.grant_type == TokenRequest::GrantType::kClientCredentials) {
    return record.info.type == GrantType::kClientCredentials && record.info.soid == request.soid;
  }
  return record.info.type == GrantType::kRefreshToken &&
         record.refresh_token == request.refresh_token;
}

// What a failed attempt to prove `request` under the grant's lease says about the grant.
FailureKind FailureOf(const AcquireResult& lease, const TokenRequest& request, FailureKind kind) {
  // Zoho says that of us, whichever credential it was.
  if (kind == FailureKind::kThrottled || kind == FailureKind::kNotSent) return kind;
  if (!IsOwnCredential(lease.record, request)) {
    return kind == FailureKind::kUnreachable ? FailureKind::kNotSent
                                             : FailureKind::kOtherCredential;
  }
  return kind == FailureKind::kNeedsConsent && lease.previous_ambiguous
             ? FailureKind::kDoubtedInvalid
             : kind;
}

absl::Status UnsettledError(const ProtocolLimits& limits) {
  const absl::Status status = ShuttingDownError(
      "the registration may still be stored: repeat it later with its request_id, or see ListOrgs");
  ErrorDetail detail = GetErrorDetail(status).value_or(ErrorDetail{});
  // Repeated sooner, it would spend the same code beside the request that is under way.
  detail.retry_after = limits.LongestRequest();
  return WithDetail(status, detail);
}

bool WasRegisteredBy(const GrantRecord& record, const Registration& registration) {
  return !registration.request_id.empty() &&
         record.last_register_attempt == registration.request_id;
}

}  // namespace

GrantRecord WithoutTokens(GrantRecord record) {
  record.refresh_token = Secret();
  record.access_token = Secret();
  return record;
}

// A registration under way and all who wait for it.
class GrantRegistrar::RegisterCall {
 public:
  // The callback gets the result, also when that is there already.
  std::shared_ptr<AnswerOnce<Registered>> Add(RegisterCallback callback) {
    auto answer = std::make_shared<AnswerOnce<Registered>>(std::move(callback));
    MutexLock lock(mutex_);
    waiting_.push_back(answer);
    return answer;
  }
  // Whoever waits now.
  void AnswerAll(const absl::StatusOr<Registered>& result) {
    std::vector<std::shared_ptr<AnswerOnce<Registered>>> waiting;
    {
      MutexLock lock(mutex_);
      waiting.swap(waiting_);
    }
    for (const auto& answer : waiting) answer->Call(result);
  }

 private:
  Mutex mutex_;
  std::vector<std::shared_ptr<AnswerOnce<Registered>>> waiting_ ABSL_GUARDED_BY(mutex_);
};

GrantRegistrar::GrantRegistrar(TokenStore* store, Refresher* refresher, Executor* executor,
                               Clock clock, IssuingEvents* events)
    : store_(store),
      refresher_(refresher),
      executor_(executor),
      clock_(std::move(clock)),
      events_(events) {}

bool GrantRegistrar::Begin() {
  // In this order: Drain looks at them in the other one.
  ++running_;
  if (!draining_) return true;
  End();
  return false;
}

absl::Status GrantRegistrar::Refusal() const {
  return executor_->stopping() ? ShuttingDownError() : OverloadedError(absl::Seconds(1));
}

bool GrantRegistrar::JoinOrMake(const std::string& id, RegisterCallback callback,
                                absl::Duration deadline, std::shared_ptr<RegisterCall>& call) {
  bool made = false;
  {
    MutexLock lock(mutex_);
    std::weak_ptr<RegisterCall>& known = calls_[id];
    call = known.lock();
    if (call == nullptr) {
      made = true;
      known = call = std::make_shared<RegisterCall>();
    }
    // Under the lock: a registration that ends takes its entry out before it answers.
    executor_->RunAfter(deadline, [answer = call->Add(std::move(callback))] {
      answer->Call(DeadlineExceededError());
    });
  }
  return made;
}

void GrantRegistrar::Register(Registration registration, absl::Duration deadline,
                              RegisterCallback callback) {
  if (!Begin()) {
    callback(ShuttingDownError());
    return;
  }
  const std::string id =
      absl::StrCat(EncodeGrantKey(registration.key),
                   registration.request_id.empty() ? NewAttemptId() : registration.request_id);
  std::shared_ptr<RegisterCall> call;
  const bool made = JoinOrMake(id, std::move(callback), deadline, call);
  // StopWaiting may have looked just before.
  if (draining_) call->AnswerAll(UnsettledError(refresher_->limits()));
  if (!made) {
    End();
    return;
  }
  const auto finish = [this, call, id](const absl::StatusOr<Registered>& result) {
    {
      MutexLock lock(mutex_);
      calls_.erase(id);
    }
    call->AnswerAll(result);
    End();
  };
  const std::string lane = absl::StrCat("dc:", registration.dc);
  const bool accepted =
      executor_->Run(lane, [this, call, finish, registration = std::move(registration)] {
        finish(RegisterBlocking(registration, *call));
      });
  if (!accepted) finish(Refusal());
}

absl::StatusOr<Registered> GrantRegistrar::RegisterBlocking(const Registration& registration,
                                                            RegisterCall& call) {
  const absl::StatusOr<GrantRecord> existing = store_->Load(registration.key);
  // One that cannot be read is replaced: nobody could use it any more.
  if (!existing.ok() && !absl::IsNotFound(existing.status()) &&
      !absl::IsDataLoss(existing.status())) {
    return existing.status();
  }
  if (existing.ok() && WasRegisteredBy(*existing, registration)) {
    return Registered{WithoutTokens(*existing), /*replaced=*/false};
  }
  // A code is good once: it is not spent before there is a place for what it brings.
  TB_RETURN_IF_ERROR(store_->CheckWritable());

  if (const auto* code = std::get_if<CodeCredential>(&registration.credential)) {
    std::optional<Consent> found;
    if (!absl::IsDataLoss(existing.status())) {
      found = existing.ok() ? existing->consent() : Consent();
    }
    return SpendCode(registration, *code, std::move(found), call);
  }
  if (const auto* import = std::get_if<ImportCredential>(&registration.credential)) {
    return Import(registration, *import, call);
  }
  return SpendClientCredentials(
      registration, std::get<ClientCredentialsCredential>(registration.credential), call);
}

std::optional<Registered> GrantRegistrar::AwaitSibling(const Registration& registration) {
  if (registration.request_id.empty()) return std::nullopt;
  for (int i = 0; i < kSiblingPolls && !executor_->stopping(); ++i) {
    const absl::StatusOr<GrantRecord> record = store_->Load(registration.key);
    if (record.ok() && WasRegisteredBy(*record, registration)) {
      return Registered{WithoutTokens(*record), /*replaced=*/false};
    }
    executor_->Pause(kSiblingPoll);
  }
  return std::nullopt;
}

absl::StatusOr<Registered> GrantRegistrar::SpendCode(const Registration& registration,
                                                     const CodeCredential& credential,
                                                     std::optional<Consent> found,
                                                     RegisterCall& call) {
  TB_ASSIGN_OR_RETURN(TokenRequest request,
                      refresher_->PrepareRequest(registration.key.oauth_client, registration.dc));
  request.grant_type = TokenRequest::GrantType::kAuthorizationCode;
  request.code = credential.code;
  request.redirect_uri = credential.redirect_uri;
  request.code_verifier = credential.code_verifier;
  const std::string attempt_id = NewAttemptId();
  // It lives for a minute and disturbs nobody's request: it is counted, and waits for no lease.
  const auto count = [&]() -> absl::Status {
    const absl::StatusOr<CountSendResult> counted =
        store_->CountSend({registration.key, attempt_id});
    if (absl::IsDataLoss(counted.status())) return CountUnreadable(registration.key);
    if (!counted.ok()) return counted.status();
    switch (counted->outcome) {
      case CountSendResult::Outcome::kThrottled:
        return ZohoThrottledError(counted->wait);
      case CountSendResult::Outcome::kBudget:
        return MintBudgetExhaustedError(counted->wait);
      case CountSendResult::Outcome::kCounted:
        break;
    }
    return absl::OkStatus();
  };
  Spent spent = refresher_->Spend(request, registration.key, count);
  const MonotonicTime answered_at = clock_.monotonic();
  if (spent.failure == FailureKind::kThrottled) {
    refresher_
        ->Fail({registration.key, attempt_id, /*epoch=*/0, /*generation=*/0, spent.failure,
                spent.reply.error})
        .status()
        .IgnoreError();
  }
  TB_RETURN_IF_ERROR(spent.status);
  if (spent.failure == FailureKind::kNeedsConsent) {
    if (std::optional<Registered> sibling = AwaitSibling(registration)) return *sibling;
    return AuthorizationCodeRejectedError(spent.reply.error);
  }
  if (spent.reply.refresh_token.empty()) return RefreshTokenMissingError();

  RegisterRequest stored =
      MakeRequest(registration, GrantType::kRefreshToken, "", std::move(found));
  stored.refresh_token = spent.reply.refresh_token;
  return StoreUntilDone(std::move(stored), {std::move(spent.reply), answered_at, spent.latency, {}},
                        call);
}

absl::StatusOr<Registered> GrantRegistrar::SpendClientCredentials(
    const Registration& registration, const ClientCredentialsCredential& credential,
    RegisterCall& call) {
  TB_ASSIGN_OR_RETURN(TokenRequest request,
                      refresher_->PrepareRequest(registration.key.oauth_client, registration.dc));
  request.grant_type = TokenRequest::GrantType::kClientCredentials;
  request.scope = absl::StrJoin(registration.scopes, ",");
  request.soid = credential.soid;
  absl::StatusOr<Proof> proof = Prove(registration, request);
  if (ErrorReason(proof.status()) == "REFRESH_TOKEN_REJECTED") {
    // There is no refresh token; what Zoho does not know is the org.
    const std::string error = GetErrorDetail(proof.status())->metadata["zoho_error"];
    return ClientRejectedError(registration.dc, registration.key.oauth_client, error,
                               "the Self Client may not act for this soid");
  }
  TB_RETURN_IF_ERROR(proof.status());
  RegisterRequest stored = MakeRequest(registration, GrantType::kClientCredentials, credential.soid,
                                       std::move(proof->found));
  return StoreUntilDone(std::move(stored), *std::move(proof), call);
}

absl::StatusOr<Registered> GrantRegistrar::Import(const Registration& registration,
                                                  const ImportCredential& credential,
                                                  RegisterCall& call) {
  TB_ASSIGN_OR_RETURN(TokenRequest request,
                      refresher_->PrepareRequest(registration.key.oauth_client, registration.dc));
  request.grant_type = TokenRequest::GrantType::kRefreshToken;
  request.refresh_token = credential.refresh_token;
  TB_ASSIGN_OR_RETURN(Proof proof, Prove(registration, request));

  RegisterRequest stored =
      MakeRequest(registration, GrantType::kRefreshToken, "", std::move(proof.found));
  stored.refresh_token =
      proof.reply.refresh_token.empty() ? credential.refresh_token : proof.reply.refresh_token;
  return StoreUntilDone(std::move(stored), std::move(proof), call);
}

absl::StatusOr<GrantRegistrar::Proof> GrantRegistrar::Prove(const Registration& registration,
                                                            const TokenRequest& request) {
  const GrantKey& key = registration.key;
  const std::string attempt_id = NewAttemptId();
  // A living grant may hold this very credential: its own lease keeps the two apart, its budget
  // counts both, and it is replaced only when Zoho has honoured the new one.
  MonotonicTime acquired_at;
  const absl::StatusOr<AcquireResult> lease = AcquireLease(key, attempt_id, acquired_at);
  // A record that cannot be read has no lease to give, and nobody can refresh by it.
  const bool unreadable = absl::IsDataLoss(lease.status());
  if (!lease.ok() && !unreadable) return lease.status();
  Spent spent = refresher_->Spend(request, key, [&] {
    return unreadable ? CountUnreadable(key)
                      : refresher_->CheckBeforeSend(acquired_at, key, attempt_id, lease->epoch);
  });
  const MonotonicTime answered_at = clock_.monotonic();
  if (spent.failure == FailureKind::kNone) {
    Proof proof{std::move(spent.reply), answered_at, spent.latency, {}};
    if (!unreadable) proof.found = lease->record.consent();
    return proof;
  }
  // Where it cannot be recorded, the lease ends by itself.
  if (!unreadable) {
    refresher_
        ->Fail({key, attempt_id, lease->epoch, lease->record.generation,
                FailureOf(*lease, request, spent.failure), spent.reply.error})
        .status()
        .IgnoreError();
  }
  if (!spent.status.ok()) return spent.status;
  return RefreshTokenRejectedError(spent.reply.error);
}

absl::Status GrantRegistrar::CountUnreadable(const GrantKey& key) {
  const ProtocolLimits& limits = refresher_->limits();
  const absl::Time now = absl::UnixEpoch() + clock_.monotonic();
  MutexLock lock(mutex_);
  std::erase_if(unreadable_, [&](const auto& entry) {
    return now - entry.second.sends.back() >= limits.ReservedLife();
  });
  GrantRecord& record = unreadable_[EncodeGrantKey(key)];
  const absl::Duration wait = BudgetWait(limits, record, Purpose::kRegistration, now);
  if (wait > absl::ZeroDuration()) return MintBudgetExhaustedError(wait);
  record.sends.push_back(now);
  return absl::OkStatus();
}

absl::StatusOr<AcquireResult> GrantRegistrar::AcquireLease(const GrantKey& key,
                                                           const std::string& attempt_id,
                                                           MonotonicTime& acquired_at) {
  const ProtocolLimits& limits = refresher_->limits();
  const MonotonicTime give_up = clock_.monotonic() + limits.pre_send_lease + limits.sent_lease;
  while (true) {
    if (executor_->stopping() || refresher_->TooLate()) return ShuttingDownError();
    acquired_at = clock_.monotonic();
    TB_ASSIGN_OR_RETURN(AcquireResult lease,
                        store_->Acquire({key, attempt_id, 0, Purpose::kRegistration}));
    switch (lease.outcome) {
      case AcquireResult::Outcome::kGranted:
        return lease;
      case AcquireResult::Outcome::kBusy:
        if (acquired_at >= give_up) return GrantChangedError();
        store_->WaitForChange(key, lease.record.generation,
                              std::min({lease.wait, give_up - acquired_at, kLongestWait}));
        break;
      case AcquireResult::Outcome::kCooldown:
        return refresher_->CooldownError(lease.record, lease.wait);
      case AcquireResult::Outcome::kBudget:
        return MintBudgetExhaustedError(lease.wait);
      case AcquireResult::Outcome::kFresh:
      case AcquireResult::Outcome::kNeedsConsent:
      case AcquireResult::Outcome::kRevoked:
      case AcquireResult::Outcome::kNotFound:
        return InternalError("the store refused a registration its lease");
    }
  }
}

absl::StatusOr<Registered> GrantRegistrar::StoreUntilDone(RegisterRequest request, Proof proof,
                                                          RegisterCall& call) {
  TokenReply& reply = proof.reply;
  if (!reply.scopes.empty()) request.info.scopes = reply.scopes;
  request.tokens.emplace();
  request.tokens->access_token = std::move(reply.access_token);
  request.tokens->api_domain = reply.api_domain;
  if (events_->on_commit_pending) events_->on_commit_pending(+1);
  absl::StatusOr<RegisterResult> result;
  for (absl::Duration pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
    const absl::Duration age = clock_.monotonic() - proof.answered_at;
    request.tokens->lifetime = std::max(reply.lifetime - age, absl::ZeroDuration());
    result = store_->Register(request);
    if (result.ok() || executor_->stopping()) break;
    // Whoever waits is told; the tokens are not dropped.
    if (clock_.monotonic() - proof.answered_at > refresher_->limits().commit_budget) {
      call.AnswerAll(result.status());
    }
    executor_->Pause(pause);
  }
  if (events_->on_commit_pending) events_->on_commit_pending(-1);
  const bool superseded = result.ok() && result->outcome == RegisterResult::Outcome::kSuperseded;
  if (events_->on_refresh) {
    RefreshEvent event;
    event.key = request.key;
    event.dc = request.info.dc;
    event.purpose = "register";
    event.outcome = superseded ? "superseded" : result.ok() ? "registered" : "store_unavailable";
    event.error = ErrorReason(result.status());
    event.version = result.ok() ? result->record.generation : 0;
    event.sent = true;
    event.latency = proof.latency;
    events_->on_refresh(event);
  }
  if (!result.ok()) return result.status();
  if (superseded) {
    // Whoever revoked the grant wanted nothing of it to live on. Another registration says nothing
    // against this credential, which may even be its own.
    if (result->record.state == GrantState::kRevoked) {
      refresher_
          ->RevokeUpstream(
              request.key, request.info.dc,
              request.refresh_token.empty() ? request.tokens->access_token : request.refresh_token,
              result->record.generation)
          .IgnoreError();
    }
    return GrantChangedError();
  }
  return Registered{WithoutTokens(std::move(result->record)),
                    result->outcome == RegisterResult::Outcome::kReplaced};
}

void GrantRegistrar::StopWaiting() {
  draining_ = true;
  std::vector<std::shared_ptr<RegisterCall>> calls;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, call] : calls_) calls.push_back(call.lock());
  }
  for (const auto& call : calls) {
    if (call != nullptr) call->AnswerAll(UnsettledError(refresher_->limits()));
  }
  StopWaitingForRevocations();
}

bool GrantRegistrar::Drain(absl::Duration timeout) {
  draining_ = true;
  const MonotonicTime until = clock_.monotonic() + timeout;
  while (running_ > 0) {
    if (clock_.monotonic() >= until || executor_->stopping()) return false;
    executor_->Pause(kDrainPoll);
  }
  return true;
}

}  // namespace tokenbroker
