#ifndef TOKEN_BROKER_STORAGE_SEALING_SEALING_TOKEN_STORE_H_
#define TOKEN_BROKER_STORAGE_SEALING_SEALING_TOKEN_STORE_H_

#include <memory>
#include <string_view>

#include "storage/sealing/keyring.h"
#include "storage/token_store.h"

namespace tokenbroker {

// A store whose access and refresh tokens are sealed before they reach the store behind it: what
// lies in Redis, in the database file and in their backups is of no use without the keyring.
//
// A token is sealed for its grant and its field: copied to another record, or from one field to the
// other, it does not open. A token that does not open is DATA_LOSS RECORD_UNREADABLE, with three
// exceptions where the operation has been carried out and its answer matters more: Commit, Register
// and Revoke then return the record without tokens. So does Acquire for a registration, and where
// there is no token to be had anyway (kNeedsConsent, kRevoked); another lease that it was granted
// is released again.
//
// A refresh token that an older key of the ring sealed is marked `refresh_token_outdated`;
// committed again, it is sealed by the ring's first key.
//
// Thread-safety, blocking and events: as the store behind it.
class SealingTokenStore : public TokenStore {
 public:
  SealingTokenStore(std::unique_ptr<TokenStore> store, Keyring keyring);

  absl::StatusOr<GrantRecord> Load(const GrantKey& key) override;
  absl::StatusOr<AcquireResult> Acquire(const AcquireRequest& request) override;
  absl::StatusOr<MarkSentOutcome> MarkSent(const MarkSentRequest& request) override;
  absl::StatusOr<CountSendResult> CountSend(const CountSendRequest& request) override;
  absl::StatusOr<CommitResult> Commit(const CommitRequest& request) override;
  absl::StatusOr<FailResult> Fail(const FailRequest& request) override;
  absl::StatusOr<RegisterResult> Register(const RegisterRequest& request) override;
  absl::StatusOr<RevokeResult> Revoke(const RevokeRequest& request) override;
  absl::Status ForgetTokens(const GrantKey& key, int64_t generation) override;
  absl::StatusOr<GrantPage> ListPage(std::string_view prefix, std::string_view after,
                                     int limit) override;
  void WaitForChange(const GrantKey& key, int64_t generation, absl::Duration timeout) override;
  void SetChangeListener(ChangeListener listener) override;
  int64_t subscription_session() const override;
  uint64_t FailureDomain(const GrantKey& key) const override;
  absl::Status CheckWritable() override;

 private:
  absl::StatusOr<Secret> SealField(const GrantKey& key, std::string_view field,
                                   const Secret& value) const;
  absl::Status OpenField(const GrantKey& key, std::string_view field, Secret& value) const;
  // In place. On an error the record has no tokens.
  absl::Status OpenTokens(GrantRecord& record) const;

  const std::unique_ptr<TokenStore> store_;
  const Keyring keyring_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_SEALING_SEALING_TOKEN_STORE_H_
