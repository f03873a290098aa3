#include "storage/sealing/sealing_token_store.h"

#include <string>
#include <utility>

#include "common/status_macros.h"

namespace tokenbroker {
namespace {

constexpr std::string_view kAccessToken = "access_token";
constexpr std::string_view kRefreshToken = "refresh_token";

// No encoded key is a prefix of another, so key and field cannot be divided in two ways.
std::string AssociatedData(const GrantKey& key, std::string_view field) {
  std::string data = EncodeGrantKey(key);
  data.append(field);
  return data;
}

}  // namespace

SealingTokenStore::SealingTokenStore(std::unique_ptr<TokenStore> store, Keyring keyring)
    : store_(std::move(store)), keyring_(std::move(keyring)) {}

absl::StatusOr<Secret> SealingTokenStore::SealField(const GrantKey& key, std::string_view field,
                                                    const Secret& value) const {
  // Empty means that there is none, here and behind.
  if (value.empty()) return Secret();
  TB_ASSIGN_OR_RETURN(std::string sealed,
                      keyring_.Seal(value.Reveal(), AssociatedData(key, field)));
  return Secret(std::move(sealed));
}

absl::Status SealingTokenStore::OpenField(const GrantKey& key, std::string_view field,
                                          Secret& value) const {
  if (value.empty()) return absl::OkStatus();
  TB_ASSIGN_OR_RETURN(value, keyring_.Open(value.Reveal(), AssociatedData(key, field)));
  return absl::OkStatus();
}

absl::Status SealingTokenStore::OpenTokens(GrantRecord& record) const {
  record.refresh_token_outdated = keyring_.IsOutdated(record.refresh_token.Reveal());
  absl::Status status = OpenField(record.key, kAccessToken, record.access_token);
  if (status.ok()) status = OpenField(record.key, kRefreshToken, record.refresh_token);
  if (!status.ok()) {
    record.access_token = Secret();
    record.refresh_token = Secret();
    record.refresh_token_outdated = false;
  }
  return status;
}

absl::StatusOr<GrantRecord> SealingTokenStore::Load(const GrantKey& key) {
  TB_ASSIGN_OR_RETURN(GrantRecord record, store_->Load(key));
  TB_RETURN_IF_ERROR(OpenTokens(record));
  return record;
}

absl::StatusOr<AcquireResult> SealingTokenStore::Acquire(const AcquireRequest& request) {
  TB_ASSIGN_OR_RETURN(AcquireResult result, store_->Acquire(request));
  const absl::Status opened = OpenTokens(result.record);
  // A registration brings tokens of its own.
  if (opened.ok() || request.purpose == Purpose::kRegistration) return result;
  switch (result.outcome) {
    case AcquireResult::Outcome::kNeedsConsent:
    case AcquireResult::Outcome::kRevoked:
    case AcquireResult::Outcome::kNotFound:
      return result;
    case AcquireResult::Outcome::kGranted:
      // Nobody can use this lease. If the release gets lost, it runs out by itself.
      store_
          ->Fail({request.key, request.attempt_id, result.epoch, result.record.generation,
                  FailureKind::kNotSent, "the stored tokens cannot be unsealed"})
          .IgnoreError();
      return opened;
    default:
      return opened;
  }
}

absl::StatusOr<MarkSentOutcome> SealingTokenStore::MarkSent(const MarkSentRequest& request) {
  return store_->MarkSent(request);
}

absl::StatusOr<CountSendResult> SealingTokenStore::CountSend(const CountSendRequest& request) {
  return store_->CountSend(request);
}

absl::StatusOr<CommitResult> SealingTokenStore::Commit(const CommitRequest& request) {
  CommitRequest sealed = request;
  TB_ASSIGN_OR_RETURN(sealed.tokens.access_token,
                      SealField(request.key, kAccessToken, request.tokens.access_token));
  TB_ASSIGN_OR_RETURN(sealed.tokens.refresh_token,
                      SealField(request.key, kRefreshToken, request.tokens.refresh_token));
  TB_ASSIGN_OR_RETURN(CommitResult result, store_->Commit(sealed));
  OpenTokens(result.record).IgnoreError();
  return result;
}

absl::StatusOr<FailResult> SealingTokenStore::Fail(const FailRequest& request) {
  return store_->Fail(request);
}

absl::StatusOr<RegisterResult> SealingTokenStore::Register(const RegisterRequest& request) {
  RegisterRequest sealed = request;
  TB_ASSIGN_OR_RETURN(sealed.refresh_token,
                      SealField(request.key, kRefreshToken, request.refresh_token));
  if (sealed.tokens) {
    TB_ASSIGN_OR_RETURN(sealed.tokens->access_token,
                        SealField(request.key, kAccessToken, request.tokens->access_token));
    // Not looked at; not to be written in the clear by a store that would, either.
    sealed.tokens->refresh_token = Secret();
  }
  TB_ASSIGN_OR_RETURN(RegisterResult result, store_->Register(sealed));
  OpenTokens(result.record).IgnoreError();
  return result;
}

absl::StatusOr<RevokeResult> SealingTokenStore::Revoke(const RevokeRequest& request) {
  TB_ASSIGN_OR_RETURN(RevokeResult result, store_->Revoke(request));
  OpenTokens(result.record).IgnoreError();
  return result;
}

absl::Status SealingTokenStore::ForgetTokens(const GrantKey& key, int64_t generation) {
  return store_->ForgetTokens(key, generation);
}

absl::StatusOr<GrantPage> SealingTokenStore::ListPage(std::string_view prefix,
                                                      std::string_view after, int limit) {
  return store_->ListPage(prefix, after, limit);
}

void SealingTokenStore::WaitForChange(const GrantKey& key, int64_t generation,
                                      absl::Duration timeout) {
  store_->WaitForChange(key, generation, timeout);
}

void SealingTokenStore::SetChangeListener(ChangeListener listener) {
  store_->SetChangeListener(std::move(listener));
}

int64_t SealingTokenStore::subscription_session() const { return store_->subscription_session(); }

uint64_t SealingTokenStore::FailureDomain(const GrantKey& key) const {
  return store_->FailureDomain(key);
}

absl::Status SealingTokenStore::CheckWritable() { return store_->CheckWritable(); }

}  // namespace tokenbroker
