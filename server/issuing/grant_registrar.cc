#include "server/issuing/grant_registrar.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/errors.h"
#include "common/status_macros.h"
#include "server/issuing/answer_once.h"

namespace tokenbroker {
namespace {

constexpr absl::Duration kFirstPause = absl::Milliseconds(50);
constexpr absl::Duration kLongestPause = absl::Seconds(1);
constexpr absl::Duration kDrainPoll = absl::Milliseconds(10);
// How long a rejected code waits for another replica that was called with the same request id.
constexpr absl::Duration kSiblingPoll = absl::Milliseconds(100);
constexpr int kSiblingPolls = 10;

RegisterRequest MakeRequest(const Registration& registration, GrantType type,
                            const std::string& soid) {
  RegisterRequest request;
  request.key = registration.key;
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

absl::Status UnsettledError(const ProtocolLimits& limits) {
  // Repeated sooner, it would spend the same code beside the request that is under way.
  return WithRetryAfter(
      ShuttingDownError("the registration may still be stored: repeat it later with its "
                        "request_id, or see ListOrgs"),
      limits.LongestRequest());
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

  RegisterRequest stored = MakeRequest(registration, GrantType::kRefreshToken, "");
  stored.refresh_token = spent.reply.refresh_token;
  return StoreUntilDone(std::move(stored),
                        {std::move(spent.reply), answered_at, spent.latency, std::move(found)},
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
  RegisterRequest stored =
      MakeRequest(registration, GrantType::kClientCredentials, credential.soid);
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

  RegisterRequest stored = MakeRequest(registration, GrantType::kRefreshToken, "");
  stored.refresh_token =
      proof.reply.refresh_token.empty() ? credential.refresh_token : proof.reply.refresh_token;
  return StoreUntilDone(std::move(stored), std::move(proof), call);
}

absl::StatusOr<Registered> GrantRegistrar::StoreUntilDone(RegisterRequest request, Proof proof,
                                                          RegisterCall& call) {
  TokenReply& reply = proof.reply;
  request.replaces = std::move(proof.found);
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
