#ifndef TOKEN_BROKER_STORAGE_REDIS_CONNECTION_POOL_H_
#define TOKEN_BROKER_STORAGE_REDIS_CONNECTION_POOL_H_

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "common/mutex.h"
#include "storage/redis/connection.h"
#include "storage/redis/deadline.h"
#include "storage/redis/socket.h"

namespace tokenbroker::redis {

// Finds the server to talk to, at every connect: a fixed address, or whatever a Sentinel names.
using EndpointResolver = std::function<absl::StatusOr<Endpoint>(Deadline)>;

// A bounded number of connections to one server, made when they are needed and kept for the next
// user. Thread-safe. Its lock is held for moving pointers only, never while connecting.
class ConnectionPool {
 public:
  struct Options {
    EndpointResolver resolve;
    Login login;
    int size = 16;
    absl::Duration connect_timeout = absl::Milliseconds(500);
  };

  // The use of one connection. It goes back to the pool at the end, unless it broke.
  class Lease {
   public:
    Lease(Lease&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)), connection_(std::move(other.connection_)) {}
    Lease& operator=(Lease&&) = delete;
    ~Lease() {
      if (pool_ != nullptr) pool_->Return(std::move(connection_));
    }
    Connection& operator*() const { return *connection_; }
    Connection* operator->() const { return connection_.get(); }

   private:
    friend class ConnectionPool;
    Lease(ConnectionPool* pool, std::unique_ptr<Connection> connection)
        : pool_(pool), connection_(std::move(connection)) {}

    ConnectionPool* pool_;
    std::unique_ptr<Connection> connection_;
  };

  explicit ConnectionPool(Options options) : options_(std::move(options)) {}

  // Waits for a free slot until `slot_deadline`, then connects if no live connection is idle, for
  // at most `connect_timeout`. `fresh` connects anyway: where one connection was found dead, the
  // idle ones may be too. UNAVAILABLE STORE_UNAVAILABLE.
  absl::StatusOr<Lease> Take(Deadline slot_deadline, bool fresh);

 private:
  // The connection to go on with; null: make one.
  std::unique_ptr<Connection> TakeIdle() ABSL_LOCKS_EXCLUDED(mutex_);
  void Return(std::unique_ptr<Connection> connection) ABSL_LOCKS_EXCLUDED(mutex_);

  const Options options_;
  Mutex mutex_;
  CondVar slot_free_;
  int taken_ ABSL_GUARDED_BY(mutex_) = 0;
  // The last one returned is the first one taken, so that the others can grow old and be dropped.
  std::vector<std::unique_ptr<Connection>> idle_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_CONNECTION_POOL_H_
