// The revocations of a GrantRegistrar.
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "server/issuing/answer_once.h"
#include "server/issuing/grant_registrar.h"

namespace tokenbroker {
namespace {

constexpr int kRevokeTries = 5;

}  // namespace

// A revocation under way. Answers with what was done when it gives up, or when it is dropped.
class GrantRegistrar::RevokeCall {
 public:
  explicit RevokeCall(RevokeCallback callback) : answer_(std::move(callback)) {}
  ~RevokeCall() { GiveUp(ShuttingDownError()); }

  void Answer(absl::StatusOr<Revoked> result) { answer_.Call(std::move(result)); }
  void SetRevokedInStore(Revoked revoked) {
    MutexLock lock(mutex_);
    in_store_ = std::move(revoked);
  }
  void GiveUp(const absl::Status& status) {
    std::optional<Revoked> in_store;
    {
      MutexLock lock(mutex_);
      in_store = in_store_;
    }
    if (in_store) {
      answer_.Call(*std::move(in_store));
    } else {
      answer_.Call(status);
    }
  }

 private:
  AnswerOnce<Revoked> answer_;
  Mutex mutex_;
  std::optional<Revoked> in_store_ ABSL_GUARDED_BY(mutex_);
};

void GrantRegistrar::Revoke(const GrantKey& key, absl::Duration deadline, RevokeCallback callback) {
  auto call = std::make_shared<RevokeCall>(std::move(callback));
  if (!Begin()) {
    call->Answer(ShuttingDownError());
    return;
  }
  {
    MutexLock lock(mutex_);
    std::erase_if(revocations_, [](const auto& revocation) { return revocation.expired(); });
    revocations_.push_back(call);
  }
  // StopWaiting may have looked just before.
  if (draining_) call->GiveUp(ShuttingDownError());
  executor_->RunAfter(deadline, [call] { call->GiveUp(DeadlineExceededError()); });
  if (!executor_->Run("store", [this, key, call] { RevokeInStore(key, call); })) {
    call->Answer(Refusal());
    End();
  }
}

absl::StatusOr<RevokeResult> GrantRegistrar::RevokeWhatStands(const GrantKey& key) {
  // Another consent may come in between, but not again and again.
  for (int i = 0; i < kRevokeTries; ++i) {
    RevokeRequest request{key, {}};
    const absl::StatusOr<GrantRecord> found = store_->Load(key);
    if (found.ok()) {
      request.registered_by = found->last_register_attempt;
    } else if (!absl::IsDataLoss(found.status())) {
      return found.status();
    }
    absl::StatusOr<RevokeResult> result = store_->Revoke(request);
    if (!result.ok() || result->outcome != RevokeResult::Outcome::kSuperseded) return result;
  }
  return GrantChangedError();
}

void GrantRegistrar::StopWaitingForRevocations() {
  std::vector<std::shared_ptr<RevokeCall>> calls;
  {
    MutexLock lock(mutex_);
    for (const auto& revocation : revocations_) calls.push_back(revocation.lock());
  }
  for (const auto& call : calls) {
    if (call != nullptr) call->GiveUp(ShuttingDownError());
  }
}

void GrantRegistrar::RevokeInStore(const GrantKey& key, const std::shared_ptr<RevokeCall>& call) {
  const absl::StatusOr<RevokeResult> result = RevokeWhatStands(key);
  if (!result.ok() || result->outcome == RevokeResult::Outcome::kNotFound) {
    call->Answer(result.ok() ? OrgNotFoundError() : result.status());
    End();
    return;
  }
  const GrantRecord& record = result->record;
  const Secret token = record.refresh_token.empty() ? record.access_token : record.refresh_token;
  if (token.empty()) {
    call->Answer(Revoked{WithoutTokens(record), /*revoked_at_zoho=*/true});
    End();
    return;
  }
  call->SetRevokedInStore(Revoked{WithoutTokens(record), /*revoked_at_zoho=*/false});
  // On a lane of its own: revocations at a DC that hangs delay no refresh and no other DC's.
  const bool accepted = executor_->Run(
      absl::StrCat("revoke:", record.info.dc),
      [this, key, call, token, dc = record.info.dc, generation = record.generation,
       revoked = Revoked{WithoutTokens(record), /*revoked_at_zoho=*/true}] {
        // The record keeps its tokens: a later call repeats what is not begun now.
        if (!refresher_->TooLate() && refresher_->RevokeUpstream(key, dc, token, generation).ok()) {
          store_->ForgetTokens(key, generation).IgnoreError();
          call->Answer(revoked);
        }
        call->GiveUp(ShuttingDownError());
        End();
      });
  if (!accepted) {
    call->GiveUp(Refusal());
    End();
  }
}

}  // namespace tokenbroker
