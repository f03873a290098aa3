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

template <typename Operation>
auto ObservedTokenStore::Observe(std::string_view name, const GrantKey& key, Operation operation) {
  auto result = Observe(name, std::move(operation));
  if (absl::IsDataLoss(StatusOf(result))) on_unreadable_({key, EncodeGrantKey(key)});
  return result;
}

absl::StatusOr<GrantRecord> ObservedTokenStore::Load(const GrantKey& key) {
  return Observe("load", key, [&] { return store_->Load(key); });
}

absl::StatusOr<AcquireResult> ObservedTokenStore::Acquire(const AcquireRequest& request) {
  return Observe("acquire", request.key, [&] { return store_->Acquire(request); });
}

absl::StatusOr<MarkSentOutcome> ObservedTokenStore::MarkSent(const MarkSentRequest& request) {
  return Observe("mark_sent", request.key, [&] { return store_->MarkSent(request); });
}

absl::StatusOr<CountSendResult> ObservedTokenStore::CountSend(const CountSendRequest& request) {
  return Observe("count_send", request.key, [&] { return store_->CountSend(request); });
}

absl::StatusOr<CommitResult> ObservedTokenStore::Commit(const CommitRequest& request) {
  return Observe("commit", request.key, [&] { return store_->Commit(request); });
}

absl::StatusOr<FailResult> ObservedTokenStore::Fail(const FailRequest& request) {
  return Observe("fail", request.key, [&] { return store_->Fail(request); });
}

absl::StatusOr<RegisterResult> ObservedTokenStore::Register(const RegisterRequest& request) {
  return Observe("register", request.key, [&] { return store_->Register(request); });
}

absl::StatusOr<RevokeResult> ObservedTokenStore::Revoke(const RevokeRequest& request) {
  return Observe("revoke", request.key, [&] { return store_->Revoke(request); });
}

absl::Status ObservedTokenStore::ForgetTokens(const GrantKey& key, int64_t generation) {
  return Observe("forget_tokens", key, [&] { return store_->ForgetTokens(key, generation); });
}

absl::StatusOr<GrantPage> ObservedTokenStore::ListPage(std::string_view prefix,
                                                       std::string_view after, int limit) {
  absl::StatusOr<GrantPage> page =
      Observe("list_page", [&] { return store_->ListPage(prefix, after, limit); });
  if (page.ok()) {
    for (const UnreadableRecord& record : page->unreadable) on_unreadable_(record);
  }
  return page;
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
