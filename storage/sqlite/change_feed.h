#ifndef TOKEN_BROKER_STORAGE_SQLITE_CHANGE_FEED_H_
#define TOKEN_BROKER_STORAGE_SQLITE_CHANGE_FEED_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/time/time.h"
#include "common/mutex.h"
#include "storage/token_store.h"

namespace tokenbroker {

// Tells one listener, and whoever waits for a grant, that it changed. Within one process.
// Thread-safe.
class ChangeFeed {
 public:
  // See TokenStore::SetChangeListener.
  void SetListener(TokenStore::ChangeListener listener);

  // Calls the listener, then wakes the waiters.
  void Publish(const ChangeEvent& event);

  // Notices every change of one grant published after its construction.
  class Watch {
   public:
    Watch(ChangeFeed& feed, const GrantKey& key);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;
    // True: it changed since the last call. False: `timeout` went by. May return false early.
    bool WaitFor(absl::Duration timeout);

   private:
    ChangeFeed& feed_;
    const std::string key_;
    int64_t seen_ = 0;
  };

 private:
  struct Watched {
    int watches = 0;
    int64_t changes = 0;
    CondVar changed;
  };

  // Its own mutex, held while the listener runs: taking the listener away waits for it.
  Mutex listener_mutex_;
  TokenStore::ChangeListener listener_ ABSL_GUARDED_BY(listener_mutex_);

  Mutex mutex_;
  std::map<std::string, Watched> watched_ ABSL_GUARDED_BY(mutex_);  // by encoded key
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_SQLITE_CHANGE_FEED_H_
