#include "storage/sqlite/change_feed.h"

#include <utility>

namespace tokenbroker {

void ChangeFeed::SetListener(TokenStore::ChangeListener listener) {
  MutexLock lock(listener_mutex_);
  listener_ = std::move(listener);
}

void ChangeFeed::Publish(const ChangeEvent& event) {
  {
    MutexLock lock(listener_mutex_);
    if (listener_) listener_(event);
  }
  MutexLock lock(mutex_);
  if (watched_.empty()) return;
  const auto it = watched_.find(EncodeGrantKey(event.key));
  if (it == watched_.end()) return;
  ++it->second.changes;
  it->second.changed.NotifyAll();
}

ChangeFeed::Watch::Watch(ChangeFeed& feed, const GrantKey& key)
    : feed_(feed), key_(EncodeGrantKey(key)) {
  MutexLock lock(feed_.mutex_);
  Watched& watched = feed_.watched_[key_];
  ++watched.watches;
  seen_ = watched.changes;
}

ChangeFeed::Watch::~Watch() {
  MutexLock lock(feed_.mutex_);
  const auto it = feed_.watched_.find(key_);
  if (--it->second.watches == 0) feed_.watched_.erase(it);
}

bool ChangeFeed::Watch::WaitFor(absl::Duration timeout) {
  MutexLock lock(feed_.mutex_);
  Watched& watched = feed_.watched_[key_];
  if (watched.changes == seen_) watched.changed.WaitFor(feed_.mutex_, timeout);
  return std::exchange(seen_, watched.changes) != watched.changes;
}

}  // namespace tokenbroker
