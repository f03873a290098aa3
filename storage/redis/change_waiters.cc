#include "storage/redis/change_waiters.h"

#include "storage/redis/deadline.h"

namespace tokenbroker::redis {

ChangeWaiters::Waiter::Waiter(ChangeWaiters& waiters, std::string_view encoded_key)
    : waiters_(waiters), key_(encoded_key) {
  MutexLock lock(waiters_.mutex_);
  std::shared_ptr<Entry>& entry = waiters_.entries_[key_];
  if (entry == nullptr) entry = std::make_shared<Entry>();
  entry_ = entry;
  ++entry_->waiting;
  seen_ = entry_->changes;
}

ChangeWaiters::Waiter::~Waiter() {
  MutexLock lock(waiters_.mutex_);
  if (--entry_->waiting == 0) waiters_.entries_.erase(key_);
}

void ChangeWaiters::Waiter::Wait(absl::Duration timeout) {
  const Deadline deadline = Deadline::In(timeout);
  MutexLock lock(waiters_.mutex_);
  while (entry_->changes == seen_ && !deadline.Passed()) {
    entry_->changed.WaitFor(waiters_.mutex_, deadline.Left());
  }
  seen_ = entry_->changes;
}

void ChangeWaiters::Notify(std::string_view encoded_key) {
  MutexLock lock(mutex_);
  const auto entry = entries_.find(std::string(encoded_key));
  if (entry == entries_.end()) return;
  ++entry->second->changes;
  entry->second->changed.NotifyAll();
}

void ChangeWaiters::NotifyAll() {
  MutexLock lock(mutex_);
  for (auto& [key, entry] : entries_) {
    ++entry->changes;
    entry->changed.NotifyAll();
  }
}

}  // namespace tokenbroker::redis
