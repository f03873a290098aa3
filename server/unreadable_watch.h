#ifndef TOKEN_BROKER_SERVER_UNREADABLE_WATCH_H_
#define TOKEN_BROKER_SERVER_UNREADABLE_WATCH_H_

#include <cstddef>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "server/ops/log.h"
#include "storage/token_store.h"

namespace tokenbroker {

// Tells operators which stored records cannot be read. A part of the composition root. Thread-safe.
class UnreadableWatch {
 public:
  // How long a record counts after it was last met. Longer than a walk through a large store.
  static constexpr absl::Duration kCounted = absl::Minutes(10);
  // How often one record is logged at most.
  static constexpr absl::Duration kLogged = absl::Hours(1);
  // Records that are remembered; of more, only so many are logged and counted.
  static constexpr size_t kMaxRecords = 10'000;

  // `log` is borrowed.
  UnreadableWatch(EventLog* log, Clock clock);

  // One was met. Logs a `record_unreadable` event that names the grant, or its key, escaped, where
  // that is none of ours; never anything of the record.
  void Note(const UnreadableRecord& record);

  // Different ones met in the last 10 minutes.
  size_t count();

 private:
  struct Met {
    MonotonicTime last;
    MonotonicTime logged;
  };
  void Forget(MonotonicTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  EventLog* const log_;
  const Clock clock_;
  Mutex mutex_;
  std::map<std::string, Met> met_ ABSL_GUARDED_BY(mutex_);  // by encoded key
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_UNREADABLE_WATCH_H_
