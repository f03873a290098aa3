#ifndef TOKEN_BROKER_STORAGE_REDIS_CHANGE_WAITERS_H_
#define TOKEN_BROKER_STORAGE_REDIS_CHANGE_WAITERS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "common/mutex.h"

namespace tokenbroker::redis {

// Threads that wait for the change of a record, by the record's encoded key. Thread-safe.
class ChangeWaiters {
 private:
  struct Entry {
    CondVar changed;
    int64_t changes = 0;
    int waiting = 0;
  };

 public:
  // One thread's interest in one key. Changes from its construction on are not missed.
  class Waiter {
   public:
    Waiter(ChangeWaiters& waiters, std::string_view encoded_key);
    ~Waiter();
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;

    // Returns when the key has changed since construction or the last call, or after `timeout`.
    void Wait(absl::Duration timeout);

   private:
    ChangeWaiters& waiters_;
    const std::string key_;
    std::shared_ptr<Entry> entry_;
    int64_t seen_ = 0;
  };

  void Notify(std::string_view encoded_key);
  // Everyone looks again: events may have been missed.
  void NotifyAll();

 private:
  Mutex mutex_;
  absl::flat_hash_map<std::string, std::shared_ptr<Entry>> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_CHANGE_WAITERS_H_
