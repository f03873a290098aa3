#ifndef TOKEN_BROKER_STORAGE_OBSERVED_TOKEN_STORE_H_
#define TOKEN_BROKER_STORAGE_OBSERVED_TOKEN_STORE_H_

#include <functional>
#include <memory>
#include <string_view>
#include <utility>

#include "common/clock.h"
#include "storage/token_store.h"

namespace tokenbroker {

// A store that tells how each of its operations went. Thread-safety, blocking and events: as the
// store behind it.
class ObservedTokenStore : public TokenStore {
 public:
  // `operation`: "load", "acquire", "mark_sent", "commit", "fail", "register", "revoke",
  // "forget_tokens", "list_page", "check_writable". `status`: what it returned. Called on the
  // thread of the operation; must be quick.
  using Listener = std::function<void(std::string_view operation, const absl::Status& status,
                                      absl::Duration latency)>;

  // A record that an operation could not read, or that a page left out. As above.
  using UnreadableListener = std::function<void(const UnreadableRecord&)>;

  ObservedTokenStore(std::unique_ptr<TokenStore> store, Listener listener,
                     UnreadableListener on_unreadable, Clock clock)
      : store_(std::move(store)),
        listener_(std::move(listener)),
        on_unreadable_(std::move(on_unreadable)),
        clock_(std::move(clock)) {}

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
  int64_t subscription_session() const override { return store_->subscription_session(); }
  uint64_t FailureDomain(const GrantKey& key) const override { return store_->FailureDomain(key); }
  absl::Status CheckWritable() override;

 private:
  // What `operation` returns, timed and told.
  template <typename Operation>
  auto Observe(std::string_view name, Operation operation);
  // The same of one grant's record.
  template <typename Operation>
  auto Observe(std::string_view name, const GrantKey& key, Operation operation);

  const std::unique_ptr<TokenStore> store_;
  const Listener listener_;
  const UnreadableListener on_unreadable_;
  const Clock clock_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_OBSERVED_TOKEN_STORE_H_
