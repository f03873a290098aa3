#ifndef TOKEN_BROKER_STORAGE_REDIS_REIGN_H_
#define TOKEN_BROKER_STORAGE_REDIS_REIGN_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/mutex.h"
#include "storage/redis/connection.h"
#include "storage/redis/deadline.h"
#include "storage/redis/server_clock.h"

namespace tokenbroker::redis {

// One server process being primary without interruption. What an earlier reign was told last may be
// unknown to the next one: a failover loses what was not replicated, a restart what was not synced.
struct Reign {
  // The server's run id and the replication history that it took over. Another one after every
  // restart and every promotion, also of a server that was primary before.
  std::string id;
  // The second half of it, which scripts compare with what the server says then; "": they need not.
  std::string inherited;
  // Until then no refresh may begin: there may be leases that this primary has never heard of.
  Deadline quarantine_end = Deadline::In(absl::ZeroDuration());
  // The server's, shared by all of its connections. Null: none was met yet.
  std::shared_ptr<ServerClock> clock;

  // How long no refresh may begin, for either reason.
  absl::Duration HeldBack() const;
};

// A key of a shard's own: `<prefix>{<name>}`, or `<prefix><name>{<tag>}` where a tag says in which
// slot of a cluster it has to be.
std::string ShardKey(std::string_view prefix, std::string_view name, std::string_view tag);

// Learns the reign of a server that was just connected to, and leaves in the server when it was
// first seen, so that all brokers, restarted ones too, wait for the same moment. Thread-safe.
//
// A store without any grant at first sight is a new one: it starts without quarantine.
class ReignObserver {
 public:
  struct Options {
    std::string key_prefix;
    std::string index_key;  // "": a new store is one whose server has no keys at all (cluster)
    absl::Duration quarantine;
    ServerClock::Options clock;
    std::string username;  // whom errors name
  };

  explicit ReignObserver(Options options) : options_(std::move(options)) {}

  // `tags` name slots of the server that may hold its notes; one is enough, more survive moving
  // slots; {""} where there are no slots. STORE_UNAVAILABLE: also for a server that is no primary.
  absl::StatusOr<Reign> Observe(Connection& connection, absl::Span<const std::string> tags,
                                Deadline deadline) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // Of the server with this run id, which said `time` between the two moments.
  std::shared_ptr<ServerClock> ClockOf(std::string_view run_id, absl::Time time,
                                       MonotonicTime begin, MonotonicTime end)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // When the reign was first seen by any broker, in milliseconds; 0: it began with a new store.
  absl::StatusOr<int64_t> FirstSeen(Connection& connection, const std::string& id, int64_t now,
                                    absl::Span<const std::string> tags, Deadline deadline) const;

  const Options options_;
  Mutex mutex_;
  // By id: what this process knows, for notes that cannot be read or written.
  std::map<std::string, Deadline> ends_ ABSL_GUARDED_BY(mutex_);
  // By run id.
  std::map<std::string, std::shared_ptr<ServerClock>> clocks_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_REIGN_H_
