#include "storage/sqlite/connection_pool.h"

#include <chrono>
#include <utility>

#include "common/errors.h"

namespace tokenbroker {

ConnectionPool::Lease::~Lease() {
  if (connection_ == nullptr) return;  // moved from
  if (connection_->broken()) connection_ = nullptr;
  pool_->Put(std::move(connection_));
}

ConnectionPool::ConnectionPool(std::string path, int size, bool writes, absl::Duration timeout)
    : path_(std::move(path)), writes_(writes), timeout_(timeout) {
  free_.resize(size);
}

absl::StatusOr<ConnectionPool::Lease> ConnectionPool::Take() {
  std::unique_ptr<Connection> connection;
  {
    const auto until = std::chrono::steady_clock::now() + absl::ToChronoMilliseconds(timeout_);
    MutexLock lock(mutex_);
    while (free_.empty()) {
      const auto rest = until - std::chrono::steady_clock::now();
      if (rest <= std::chrono::nanoseconds(0)) {
        return StoreUnavailableError("all connections to the database file are busy");
      }
      freed_.WaitFor(mutex_, absl::FromChrono(rest));
    }
    // Places that have a connection are at the back.
    connection = std::move(free_.back());
    free_.pop_back();
  }
  if (connection == nullptr) {
    absl::StatusOr<std::unique_ptr<Connection>> opened = Connection::Open(path_, timeout_, writes_);
    if (!opened.ok()) {
      Put(nullptr);
      return std::move(opened).status();
    }
    connection = *std::move(opened);
  }
  return Lease(this, std::move(connection));
}

void ConnectionPool::Put(std::unique_ptr<Connection> connection) {
  MutexLock lock(mutex_);
  if (connection == nullptr) {
    free_.insert(free_.begin(), nullptr);
  } else {
    free_.push_back(std::move(connection));
  }
  freed_.NotifyOne();
}

}  // namespace tokenbroker
