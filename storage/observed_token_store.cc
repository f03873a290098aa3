#include "storage/observed_token_store.h"

#include <utility>

namespace tokenbroker {
namespace {

absl::Status StatusOf(const absl::Status& status) { return status; }
template <typename T>
absl::Status StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

}  // namespace

template <typename Operation>
auto ObservedTokenStore::Observe(std::string_view name, Operation operation) {
  const MonotonicTime begin = clock_.monotonic();
  auto result = operation();
  listener_(name, StatusOf(result), clock_.monotonic() - begin);
  return result;
}

absl::StatusOr<GrantRecord> ObservedTokenStore::Load(const GrantKey& key) {
  return Observe("load", [&] { return store_->Load(key); });
}

absl::StatusOr<AcquireResult> ObservedTokenStore::Acquire(const AcquireRequest& request) {
  return Observe("acquire", [&] { return store_->Acquire(request); });
}

absl::StatusOr<MarkSentOutcome> ObservedTokenStore::MarkSent(const MarkSentRequest& request) {
  return Observe("mark_sent", [&] { return store_->MarkSent(request); });
}

absl::StatusOr<CountSendResult> ObservedTokenStore::CountSend(const CountSendRequest& request) {
  return Observe("count_send", [&] { return store_->CountSend(request); });
}

absl::StatusOr<CommitResult> ObservedTokenStore::Commit(const CommitRequest& request) {
  return Observe("commit", [&] { return store_->Commit(request); });
}

absl::StatusOr<FailResult> ObservedTokenStore::Fail(const FailRequest& request) {
  return Observe("fail", [&] { return store_->Fail(request); });
}

absl::StatusOr<RegisterResult> ObservedTokenStore::Register(const RegisterRequest& request) {
  return Observe("register", [&] { return store_->Register(request); });
}

absl::StatusOr<RevokeResult> ObservedTokenStore::Revoke(const GrantKey& key) {
  return Observe("revoke", [&] { return store_->Revoke(key); });
}

absl::Status ObservedTokenStore::ForgetTokens(const GrantKey& key, int64_t generation) {
  return Observe("forget_tokens", [&] { return store_->ForgetTokens(key, generation); });
}

absl::StatusOr<GrantPage> ObservedTokenStore::ListPage(std::string_view prefix,
                                                       std::string_view after, int limit) {
  return Observe("list_page", [&] { return store_->ListPage(prefix, after, limit); });
}

void ObservedTokenStore::WaitForChange(const GrantKey& key, int64_t generation,
                                       absl::Duration timeout) {
  store_->WaitForChange(key, generation, timeout);
}

void ObservedTokenStore::SetChangeListener(ChangeListener listener) {
  store_->SetChangeListener(std::move(listener));
}

absl::Status ObservedTokenStore::CheckWritable() {
  return Observe("check_writable", [&] { return store_->CheckWritable(); });
}

}  // namespace tokenbroker
