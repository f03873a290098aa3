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
  Lease lease(this);  // gives the slot back if anything below fails
  while ((lease.session_ = TakeIdle()).connection != nullptr) {
    if (fresh) break;  // the new one takes its place, so that there are never more than `size`
    if (lease->IdleAndAlive()) return lease;
  }
  lease.session_.connection.reset();
  TB_ASSIGN_OR_RETURN(lease.session_, options_.connect(Deadline::In(options_.connect_timeout)));
  Follow(lease.session_);
  return lease;
}

void ConnectionPool::Follow(const Session& session) {
  std::vector<Session> dropped;  // closed after the lock
  MutexLock lock(mutex_);
  if (IsCurrent(session)) return;
  dropped.swap(idle_);
  if (!reign_.id.empty() && reign_.id != session.reign.id) ++changes_;
  primary_ = session.endpoint;
  reign_ = session.reign;
}

void ConnectionPool::Forget() {
  std::vector<Session> dropped;
  MutexLock lock(mutex_);
  dropped.swap(idle_);
  primary_.reset();
}

bool ConnectionPool::IsCurrent(const Session& session) const {
  return primary_ && session.endpoint == *primary_ && session.reign.id == reign_.id;
}

std::optional<Endpoint> ConnectionPool::primary() const {
  MutexLock lock(mutex_);
  return primary_;
}

absl::Duration ConnectionPool::held_back() const {
  MutexLock lock(mutex_);
  return reign_.HeldBack();
}

int64_t ConnectionPool::changes() const {
  MutexLock lock(mutex_);
  return changes_;
}

Session ConnectionPool::TakeIdle() {
  Session session;
  MutexLock lock(mutex_);
  if (idle_.empty()) return session;
  session = std::move(idle_.back());
  idle_.pop_back();
  return session;
}

void ConnectionPool::Return(Session session) {
  if (session.connection != nullptr && session.connection->broken()) session.connection.reset();
  MutexLock lock(mutex_);
  --taken_;
  if (session.connection != nullptr && IsCurrent(session)) idle_.push_back(std::move(session));
  slot_free_.NotifyOne();
}

}  // namespace tokenbroker::redis
