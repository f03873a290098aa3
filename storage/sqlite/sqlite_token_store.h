#ifndef TOKEN_BROKER_STORAGE_SQLITE_SQLITE_TOKEN_STORE_H_
#define TOKEN_BROKER_STORAGE_SQLITE_SQLITE_TOKEN_STORE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "storage/protocol.h"
#include "storage/protocol_limits.h"
#include "storage/sqlite/change_feed.h"
#include "storage/sqlite/connection_pool.h"
#include "storage/sqlite/file_lock.h"
#include "storage/token_store.h"

namespace tokenbroker {

// The store of a broker that runs alone: one SQLite file, no server.
//
// What an operation acknowledged survives kill -9 and loss of power (write-ahead log, synchronous
// FULL). The file and its companions (-wal, -shm, .lock) are for the owner only. Change events stay
// in the store object, so there is one store per file: it holds a lock (file_lock.h) that ends with
// its process. The file must be on a local file system.
//
// A busy, full, read-only or damaged file is STORE_UNAVAILABLE; the next operation starts from a
// new connection, so that the store recovers when its cause is gone.
class SqliteTokenStore : public TokenStore {
 public:
  struct Options {
    std::string path;  // made if it does not exist; its directory must
    // How long an operation waits for the file, held by another process, and for its turn.
    absl::Duration busy_timeout = absl::Seconds(2);
    // Tests only: other stores may use the same file at the same time. The protocol holds among
    // them, but they hear of each other's changes by polling alone.
    bool shared = false;
    ProtocolLimits limits;
    Clock clock = Clock::System();  // `wall` is the store's clock
  };

  // INVALID_ARGUMENT: no path, or limits that do not hold. UNAVAILABLE STORE_UNAVAILABLE, saying
  // why: the file cannot be opened, is in use by another store, is another program's database, was
  // written by a newer broker, or can be read by others and does not belong to this user (an own
  // file is made private).
  static absl::StatusOr<std::unique_ptr<SqliteTokenStore>> Create(Options options);

  ~SqliteTokenStore() override = default;

  absl::StatusOr<GrantRecord> Load(const GrantKey& key) override;
  absl::StatusOr<AcquireResult> Acquire(const AcquireRequest& request) override;
  absl::StatusOr<MarkSentOutcome> MarkSent(const MarkSentRequest& request) override;
  absl::StatusOr<CountSendResult> CountSend(const CountSendRequest& request) override;
  absl::StatusOr<CommitResult> Commit(const CommitRequest& request) override;
  absl::StatusOr<FailResult> Fail(const FailRequest& request) override;
  absl::StatusOr<RegisterResult> Register(const RegisterRequest& request) override;
  absl::StatusOr<RevokeResult> Revoke(const RevokeRequest& request) override;
  absl::Status ForgetTokens(const GrantKey& key, int64_t generation) override;
  absl::StatusOr<GrantPage> ListPage(std::string_view prefix, std::string_view after,
                                     int limit) override;
  void WaitForChange(const GrantKey& key, int64_t generation, absl::Duration timeout) override;
  void SetChangeListener(ChangeListener listener) override;
  int64_t subscription_session() const override { return 1; }
  uint64_t FailureDomain(const GrantKey&) const override { return 0; }
  absl::Status CheckWritable() override;

  // Reads the whole file. UNAVAILABLE STORE_UNAVAILABLE: it is damaged, or cannot be read.
  absl::Status CheckIntegrity();

 private:
  explicit SqliteTokenStore(Options options);

  // Loads the record (nullopt: none), lets `apply` change it, stores it if `changed` and tells
  // listeners if `publish`: one transaction. On return `record` is as it is stored. `replaces`: a
  // record that cannot be read is no obstacle.
  template <typename Result>
  absl::StatusOr<Result> Change(
      const GrantKey& key, std::optional<GrantRecord>& record,
      const std::function<Applied<Result>(std::optional<GrantRecord>&, absl::Time)>& apply,
      bool replaces = false);

  // Also a reserved one. nullopt: there is none.
  absl::StatusOr<std::optional<GrantRecord>> Read(const GrantKey& key);

  absl::Time Now() const { return options_.clock.wall(); }

  const Options options_;
  std::optional<FileLock> lock_;  // first: let go of after the last connection. nullopt: shared
  ConnectionPool writer_;         // one connection: SQLite has one writer at a time anyway
  ConnectionPool readers_;        // readers wait neither for it nor for each other
  ChangeFeed changes_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_SQLITE_SQLITE_TOKEN_STORE_H_
