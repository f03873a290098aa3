#ifndef TOKEN_BROKER_STORAGE_SQLITE_CONNECTION_POOL_H_
#define TOKEN_BROKER_STORAGE_SQLITE_CONNECTION_POOL_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/mutex.h"
#include "storage/sqlite/connection.h"

namespace tokenbroker {

// A few connections to one file, each given to one user at a time. Thread-safe; must outlive its
// leases.
class ConnectionPool {
 public:
  // Gives its connection back at the end.
  class Lease {
   public:
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Lease(Lease&& other) noexcept = default;
    ~Lease();
    Connection& operator*() const { return *connection_; }

   private:
    friend class ConnectionPool;
    Lease(ConnectionPool* pool, std::unique_ptr<Connection> connection)
        : pool_(pool), connection_(std::move(connection)) {}

    ConnectionPool* pool_;
    std::unique_ptr<Connection> connection_;
  };

  ConnectionPool(std::string path, int size, bool writes, absl::Duration timeout);

  // Waits up to `timeout` for a free one and opens it where needed. UNAVAILABLE STORE_UNAVAILABLE:
  // all are busy, or the file cannot be opened.
  absl::StatusOr<Lease> Take();

 private:
  // Null: a free place without a connection, so that a broken one has to be replaced.
  void Put(std::unique_ptr<Connection> connection);

  const std::string path_;
  const bool writes_;
  const absl::Duration timeout_;
  Mutex mutex_;
  CondVar freed_;
  std::vector<std::unique_ptr<Connection>> free_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_SQLITE_CONNECTION_POOL_H_
