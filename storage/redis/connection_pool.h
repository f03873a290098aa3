#ifndef TOKEN_BROKER_STORAGE_REDIS_CONNECTION_POOL_H_
#define TOKEN_BROKER_STORAGE_REDIS_CONNECTION_POOL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "common/mutex.h"
#include "storage/redis/connection.h"
#include "storage/redis/deadline.h"
#include "storage/redis/reign.h"
#include "storage/redis/socket.h"

namespace tokenbroker::redis {

// A connection to a primary, and what was learnt about it when it was made.
struct Session {
  std::unique_ptr<Connection> connection;
  Endpoint endpoint;
  Reign reign;
};

// A bounded number of connections to the primary of one shard, made when they are needed and kept
// for the next user. Once a new connection finds another primary, or another reign, no older one is
// used again. Thread-safe. Its lock is held for moving pointers only, never while connecting.
class ConnectionPool {
 public:
  struct Options {
    // Finds the primary and connects to it.
    std::function<absl::StatusOr<Session>(Deadline)> connect;
    int size = 16;
    absl::Duration connect_timeout = absl::Milliseconds(500);
  };

  // The use of one connection. It goes back to the pool at the end, unless it broke.
  class Lease {
   public:
    Lease(Lease&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)), session_(std::move(other.session_)) {}
    Lease& operator=(Lease&&) = delete;
    ~Lease() {
      if (pool_ != nullptr) pool_->Return(std::move(session_));
    }
    Connection& operator*() const { return *session_.connection; }
    Connection* operator->() const { return session_.connection.get(); }
    const Reign& reign() const { return session_.reign; }

   private:
    friend class ConnectionPool;
    explicit Lease(ConnectionPool* pool) : pool_(pool) {}

    ConnectionPool* pool_;
    Session session_;  // its connection is null until there is one
  };

  explicit ConnectionPool(Options options) : options_(std::move(options)) {}

  // Waits for a free slot until `slot_deadline`, then connects if no live connection is idle, for
  // at most `connect_timeout`. `fresh` connects anyway: where one connection was found dead, the
  // idle ones may be too. UNAVAILABLE STORE_UNAVAILABLE.
  absl::StatusOr<Lease> Take(Deadline slot_deadline, bool fresh) ABSL_LOCKS_EXCLUDED(mutex_);

  // No connection made before this is used again.
  void Forget() ABSL_LOCKS_EXCLUDED(mutex_);

  // Whom the newest connection found; nullopt: there was none since `Forget`.
  std::optional<Endpoint> primary() const ABSL_LOCKS_EXCLUDED(mutex_);
  // By the primary that the newest connection found: see Reign::HeldBack.
  absl::Duration held_back() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Changes of the primary or its reign that were met.
  int64_t changes() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // Whether a connection may be used again.
  bool IsCurrent(const Session& session) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The session to go on with; without a connection: make one.
  Session TakeIdle() ABSL_LOCKS_EXCLUDED(mutex_);
  void Return(Session session) ABSL_LOCKS_EXCLUDED(mutex_);
  // Makes a new session's primary the current one.
  void Follow(const Session& session) ABSL_LOCKS_EXCLUDED(mutex_);

  const Options options_;
  mutable Mutex mutex_;
  CondVar slot_free_;
  int taken_ ABSL_GUARDED_BY(mutex_) = 0;
  // The last one returned is the first one taken, so that the others can grow old and be dropped.
  std::vector<Session> idle_ ABSL_GUARDED_BY(mutex_);
  std::optional<Endpoint> primary_ ABSL_GUARDED_BY(mutex_);
  Reign reign_ ABSL_GUARDED_BY(mutex_);
  int64_t changes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_CONNECTION_POOL_H_
