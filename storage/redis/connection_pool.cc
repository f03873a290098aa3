#include "storage/redis/connection_pool.h"

#include <utility>

#include "common/errors.h"
#include "common/status_macros.h"

namespace tokenbroker::redis {

absl::StatusOr<ConnectionPool::Lease> ConnectionPool::Take(Deadline slot_deadline, bool fresh) {
  {
    MutexLock lock(mutex_);
    while (taken_ >= options_.size) {
      if (slot_deadline.Passed()) {
        return StoreUnavailableError(
            "all connections to Redis are in use; is redis.pool_size too "
            "small, or Redis too slow?");
      }
      slot_free_.WaitFor(mutex_, slot_deadline.Left());
    }
    ++taken_;
  }
  Lease lease(this, nullptr);  // gives the slot back if anything below fails
  while ((lease.connection_ = TakeIdle()) != nullptr) {
    if (fresh) break;  // the new one takes its place, so that there are never more than `size`
    if (lease->IdleAndAlive()) return lease;
  }
  lease.connection_.reset();
  const Deadline deadline = Deadline::In(options_.connect_timeout);
  TB_ASSIGN_OR_RETURN(const Endpoint endpoint, options_.resolve(deadline));
  TB_ASSIGN_OR_RETURN(lease.connection_, Connection::Open(endpoint, options_.login, deadline));
  return lease;
}

std::unique_ptr<Connection> ConnectionPool::TakeIdle() {
  MutexLock lock(mutex_);
  if (idle_.empty()) return nullptr;
  std::unique_ptr<Connection> connection = std::move(idle_.back());
  idle_.pop_back();
  return connection;
}

void ConnectionPool::Return(std::unique_ptr<Connection> connection) {
  if (connection != nullptr && connection->broken()) connection.reset();
  MutexLock lock(mutex_);
  --taken_;
  if (connection != nullptr) idle_.push_back(std::move(connection));
  slot_free_.NotifyOne();
}

}  // namespace tokenbroker::redis
