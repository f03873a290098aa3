#include "storage/sqlite/sqlite_token_store.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <random>
#include <system_error>
#include <utility>
#include <vector>

#include "common/errors.h"
#include "common/status_macros.h"
#include "storage/sqlite/record_rows.h"
#include "storage/sqlite/schema.h"

namespace tokenbroker {
namespace {

// More would wait for the two or so cores of a machine without Redis.
constexpr int kReaders = 4;
// Polling while waiting for a change, for changes by other processes. As TokenStore says.
constexpr absl::Duration kFirstPoll = absl::Milliseconds(100);
constexpr absl::Duration kLongestPoll = absl::Milliseconds(500);

// What a missing record is to operations that make none.
template <typename Result>
Applied<Result> Missing(Result result) {
  return {.result = std::move(result)};
}

// ±25 %, so that many waiters do not poll as one.
absl::Duration WithJitter(absl::Duration poll) {
  thread_local std::minstd_rand generator(std::random_device{}());
  return poll * std::uniform_real_distribution<double>(0.75, 1.25)(generator);
}

}  // namespace

absl::StatusOr<std::unique_ptr<SqliteTokenStore>> SqliteTokenStore::Create(Options options) {
  TB_RETURN_IF_ERROR(options.limits.Validate());
  if (options.path.empty()) return absl::InvalidArgumentError("the database file has no path");
  // Absolute: SQLite gives ":memory:" and the like a meaning of its own.
  std::error_code error;
  options.path = std::filesystem::absolute(options.path, error).string();
  if (error) return StoreUnavailableError("the database file's directory cannot be found");
  TB_RETURN_IF_ERROR(MakePrivateFile(options.path));
  std::optional<FileLock> lock;
  if (!options.shared) {
    TB_ASSIGN_OR_RETURN(lock, FileLock::Take(options.path));
  }

  const std::string path = options.path;
  const absl::Duration timeout = options.busy_timeout;
  std::unique_ptr<SqliteTokenStore> store(new SqliteTokenStore(std::move(options)));
  store->lock_ = std::move(lock);
  TB_ASSIGN_OR_RETURN(const ConnectionPool::Lease connection, store->writer_.Take());
  TB_RETURN_IF_ERROR(PrepareSchema(*connection, timeout));
  // The log and its index exist by now.
  TB_RETURN_IF_ERROR(MakePrivateFile(path));
  // A reader from the start. It keeps the log and its index alive when the writer has to be
  // replaced: on a full disk they could not be made again, and then nothing could be read either.
  TB_ASSIGN_OR_RETURN(const ConnectionPool::Lease reader, store->readers_.Take());
  TB_RETURN_IF_ERROR((*reader).Ask("SELECT count(*) FROM sqlite_schema").status());
  return store;
}

SqliteTokenStore::SqliteTokenStore(Options options)
    : options_(std::move(options)),
      writer_(options_.path, 1, /*writes=*/true, options_.busy_timeout),
      readers_(options_.path, kReaders, /*writes=*/false, options_.busy_timeout) {}

template <typename Result>
absl::StatusOr<Result> SqliteTokenStore::Change(
    const GrantKey& key, std::optional<GrantRecord>& record,
    const std::function<Applied<Result>(std::optional<GrantRecord>&, absl::Time)>& apply,
    bool replaces) {
  TB_ASSIGN_OR_RETURN(const ConnectionPool::Lease connection, writer_.Take());
  TB_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*connection));
  TB_ASSIGN_OR_RETURN(
      record, replaces ? ReadReplaceable(*connection, key, Now()) : ReadRecord(*connection, key));
  const bool existed = record.has_value();
  // The time is read once the transaction has the file: waiting for it does not count.
  const absl::Time now = Now();
  Applied<Result> applied = apply(record, now);
  if (applied.changed) {
    // Whoever reserves a record clears those away that nobody came back for.
    if (!existed && !IsGrant(record)) {
      TB_RETURN_IF_ERROR(PurgeReserved(*connection, now - options_.limits.ReservedLife()));
    }
    TB_RETURN_IF_ERROR(WriteRecord(*connection, *record));
    TB_RETURN_IF_ERROR(transaction.Commit());
  }
  // Before the next writer has its turn, so that events come in the order of the changes.
  if (applied.publish) changes_.Publish({key, record->generation, record->state});
  return std::move(applied.result);
}

absl::StatusOr<std::optional<GrantRecord>> SqliteTokenStore::Read(const GrantKey& key) {
  TB_ASSIGN_OR_RETURN(const ConnectionPool::Lease connection, readers_.Take());
  TB_ASSIGN_OR_RETURN(std::optional<GrantRecord> record, ReadRecord(*connection, key));
  if (record) record->store_now = ToMilliseconds(Now());
  return record;
}

absl::StatusOr<GrantRecord> SqliteTokenStore::Load(const GrantKey& key) {
  TB_ASSIGN_OR_RETURN(std::optional<GrantRecord> record, Read(key));
  if (!IsGrant(record)) return OrgNotFoundError();
  return *std::move(record);
}

absl::StatusOr<AcquireResult> SqliteTokenStore::Acquire(const AcquireRequest& request) {
  std::optional<GrantRecord> record;
  TB_ASSIGN_OR_RETURN(
      AcquireResult result,
      Change<AcquireResult>(request.key, record,
                            [&](std::optional<GrantRecord>& stored, absl::Time now) {
                              return ApplyAcquire(options_.limits, stored, request, now);
                            }));
  if (record) result.record = *std::move(record);
  return result;
}

absl::StatusOr<MarkSentOutcome> SqliteTokenStore::MarkSent(const MarkSentRequest& request) {
  std::optional<GrantRecord> record;
  return Change<MarkSentOutcome>(request.key, record,
                                 [&](std::optional<GrantRecord>& stored, absl::Time now) {
                                   if (!stored) return Missing(MarkSentOutcome::kLost);
                                   return ApplyMarkSent(options_.limits, *stored, request, now);
                                 });
}

absl::StatusOr<CountSendResult> SqliteTokenStore::CountSend(const CountSendRequest& request) {
  std::optional<GrantRecord> record;
  return Change<CountSendResult>(request.key, record,
                                 [&](std::optional<GrantRecord>& stored, absl::Time now) {
                                   return ApplyCountSend(options_.limits, stored, request, now);
                                 });
}

absl::StatusOr<CommitResult> SqliteTokenStore::Commit(const CommitRequest& request) {
  std::optional<GrantRecord> record;
  TB_ASSIGN_OR_RETURN(CommitResult result,
                      Change<CommitResult>(request.key, record,
                                           [&](std::optional<GrantRecord>& stored, absl::Time now) {
                                             if (!stored) return Missing<CommitResult>({});
                                             return ApplyCommit(*stored, request, now);
                                           }));
  if (record) result.record = *std::move(record);
  return result;
}

absl::StatusOr<FailResult> SqliteTokenStore::Fail(const FailRequest& request) {
  std::optional<GrantRecord> record;
  return Change<FailResult>(request.key, record,
                            [&](std::optional<GrantRecord>& stored, absl::Time now) {
                              if (!stored) return Missing<FailResult>({});
                              return ApplyFail(options_.limits, *stored, request, now);
                            });
}

absl::StatusOr<RegisterResult> SqliteTokenStore::Register(const RegisterRequest& request) {
  std::optional<GrantRecord> record;
  TB_ASSIGN_OR_RETURN(RegisterResult result,
                      Change<RegisterResult>(
                          request.key, record,
                          [&](std::optional<GrantRecord>& stored, absl::Time now) {
                            return ApplyRegister(stored, request, now);
                          },
                          /*replaces=*/true));
  result.record = *std::move(record);
  return result;
}

absl::StatusOr<RevokeResult> SqliteTokenStore::Revoke(const RevokeRequest& request) {
  std::optional<GrantRecord> record;
  TB_ASSIGN_OR_RETURN(RevokeResult result,
                      Change<RevokeResult>(request.key, record,
                                           [&](std::optional<GrantRecord>& stored, absl::Time now) {
                                             if (!stored) return Missing<RevokeResult>({});
                                             return ApplyRevoke(*stored, request, now);
                                           }));
  if (record) result.record = *std::move(record);
  return result;
}

absl::Status SqliteTokenStore::ForgetTokens(const GrantKey& key, int64_t generation) {
  std::optional<GrantRecord> record;
  return Change<bool>(key, record,
                      [&](std::optional<GrantRecord>& stored, absl::Time) {
                        const bool changed = stored && ApplyForgetTokens(*stored, generation);
                        return Applied<bool>{.result = changed, .changed = changed};
                      })
      .status();
}

absl::StatusOr<GrantPage> SqliteTokenStore::ListPage(std::string_view prefix,
                                                     std::string_view after, int limit) {
  limit = std::clamp(limit, 1, 1000);
  TB_ASSIGN_OR_RETURN(const ConnectionPool::Lease connection, readers_.Take());
  TB_ASSIGN_OR_RETURN(GrantPage page, ReadPage(*connection, prefix, after, limit));
  const absl::Time now = ToMilliseconds(Now());
  for (GrantRecord& record : page.records) record.store_now = now;
  return page;
}

void SqliteTokenStore::WaitForChange(const GrantKey& key, int64_t generation,
                                     absl::Duration timeout) {
  const MonotonicTime until = options_.clock.monotonic() + timeout;
  absl::Duration poll = kFirstPoll;
  // From before the look at the record: no change falls between the two.
  ChangeFeed::Watch watch(changes_, key);
  for (;;) {
    const absl::StatusOr<std::optional<GrantRecord>> read = Read(key);
    absl::Duration wait = WithJitter(poll);
    if (read.ok()) {
      const std::optional<GrantRecord>& record = *read;
      if (!record || record->generation > generation) return;
      if (!LeaseIsLive(options_.limits, *record, record->store_now)) return;
      wait = std::min(wait, record->lease_end - record->store_now);
    }
    wait = std::min(wait, until - options_.clock.monotonic());
    if (wait <= absl::ZeroDuration()) return;
    watch.WaitFor(wait);
    poll = std::min(poll * 3 / 2, kLongestPoll);
  }
}

void SqliteTokenStore::SetChangeListener(ChangeListener listener) {
  changes_.SetListener(std::move(listener));
}

absl::Status SqliteTokenStore::CheckWritable() {
  // A real write: neither a full disk nor a read-only one shows in anything less.
  TB_ASSIGN_OR_RETURN(const ConnectionPool::Lease connection, writer_.Take());
  TB_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*connection));
  TB_RETURN_IF_ERROR((*connection).Execute("UPDATE write_probe SET writes = writes + 1"));
  return transaction.Commit();
}

absl::Status SqliteTokenStore::CheckIntegrity() {
  TB_ASSIGN_OR_RETURN(const ConnectionPool::Lease connection, readers_.Take());
  TB_ASSIGN_OR_RETURN(const std::string answer, (*connection).Ask("PRAGMA integrity_check"));
  if (answer != "ok") return StoreUnavailableError("the database file is damaged");
  return absl::OkStatus();
}

}  // namespace tokenbroker
