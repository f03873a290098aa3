#include "storage/sqlite/schema.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <iterator>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/errors.h"
#include "common/status_macros.h"

namespace tokenbroker {
namespace {

// "tkbr", so that `file` and we can tell our databases from others.
constexpr int64_t kApplicationId = 0x746b6272;

// kMigrations[n] leads from schema n to n + 1. Never edit one that was released: add the next.
constexpr const char* kMigrations[] = {
    // Strings are BLOBs, for ids and names may be any bytes. Times are milliseconds since 1970 on
    // the machine's clock, NULL for none. The key is EncodeGrantKey's, so that a page of the list
    // is
    // a range of the primary key. The tokens come last: a list does not read as far.
    R"sql(
      CREATE TABLE grants (
        key BLOB NOT NULL PRIMARY KEY,
        type INTEGER NOT NULL,
        dc BLOB NOT NULL,
        scopes BLOB NOT NULL,
        soid BLOB NOT NULL,
        display_name BLOB NOT NULL,
        labels BLOB NOT NULL,
        keep_warm INTEGER NOT NULL,
        state INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        access_expiry INTEGER,
        api_domain BLOB NOT NULL,
        phase INTEGER NOT NULL,
        lease_owner BLOB NOT NULL,
        lease_end INTEGER,
        not_before INTEGER,
        last_failure INTEGER NOT NULL,
        last_error BLOB NOT NULL,
        last_failure_time INTEGER,
        consecutive_failures INTEGER NOT NULL,
        ambiguous INTEGER NOT NULL,
        sends BLOB NOT NULL,
        last_commit_attempt BLOB NOT NULL,
        last_register_attempt BLOB NOT NULL,
        created INTEGER,
        updated INTEGER,
        access_token BLOB NOT NULL,
        refresh_token BLOB NOT NULL
      ) STRICT;
      -- What CheckWritable writes to.
      CREATE TABLE write_probe (writes INTEGER NOT NULL) STRICT;
      INSERT INTO write_probe VALUES (0);
      PRAGMA application_id = 1953194610;
      PRAGMA user_version = 1;
    )sql",
    // Registrations are counted before they are sent. The index is for clearing reserved records
    // (state 4) away.
    R"sql(
      ALTER TABLE grants ADD COLUMN last_counted_attempt BLOB NOT NULL DEFAULT x'';
      ALTER TABLE grants ADD COLUMN throttled_until INTEGER;
      CREATE INDEX reserved_grants ON grants (updated) WHERE state = 4;
      PRAGMA user_version = 2;
    )sql",
    // A token of unknown age is not handed out. NULL in rows from before.
    R"sql(
      ALTER TABLE grants ADD COLUMN access_stored INTEGER;
      PRAGMA user_version = 3;
    )sql",
};
constexpr int64_t kSchemaVersion = std::size(kMigrations);

absl::StatusOr<int64_t> AskNumber(Connection& connection, const char* sql) {
  TB_ASSIGN_OR_RETURN(const std::string text, connection.Ask(sql));
  int64_t number = 0;
  if (!absl::SimpleAtoi(text, &number)) {
    return StoreUnavailableError("SQLite gave no number where there must be one");
  }
  return number;
}

// 0: empty, and ours to fill.
absl::StatusOr<int64_t> SchemaVersion(Connection& connection) {
  // The application id last: another process may fill the file between these reads, and a file that
  // then still has no id had nothing else before.
  TB_ASSIGN_OR_RETURN(const int64_t version, AskNumber(connection, "PRAGMA user_version"));
  TB_ASSIGN_OR_RETURN(const int64_t objects,
                      AskNumber(connection, "SELECT count(*) FROM sqlite_schema"));
  TB_ASSIGN_OR_RETURN(const int64_t application, AskNumber(connection, "PRAGMA application_id"));
  const bool empty = application == 0 && version == 0 && objects == 0;
  if (!empty && application != kApplicationId) {
    return StoreUnavailableError("the database file belongs to another program");
  }
  if (version > kSchemaVersion) {
    return StoreUnavailableError(absl::StrCat("the database file has schema ", version,
                                              ", made by a newer broker; this one ",
                                              "knows schemas up to ", kSchemaVersion));
  }
  return version;
}

// Switching needs the file alone, and SQLite does not wait for that by itself.
absl::Status UseWriteAheadLog(Connection& connection, absl::Duration timeout) {
  const auto until = std::chrono::steady_clock::now() + absl::ToChronoMilliseconds(timeout);
  for (;;) {
    absl::StatusOr<std::string> mode = connection.Ask("PRAGMA journal_mode = WAL");
    if (mode.ok() && *mode == "wal") return absl::OkStatus();
    if (mode.ok()) {
      return StoreUnavailableError(
          "the database file cannot have a write-ahead log: it must be on a local file system");
    }
    if (connection.broken() || std::chrono::steady_clock::now() > until) {
      return std::move(mode).status();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

absl::Status FileError(const std::string& path, std::string_view what, int error) {
  return StoreUnavailableError(absl::StrCat("database file ", path, ": ",
                                            absl::string_view(what.data(), what.size()), ": ",
                                            std::strerror(error)));
}

}  // namespace

absl::Status MakePrivateFile(const std::string& path) {
  // Never open a file that exists: closing it again would drop the locks that this process's other
  // connections hold on it (sqlite.org/howtocorrupt.html, section 2.2).
  const int file = open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (file >= 0) {
    close(file);
  } else if (errno != EEXIST) {
    return FileError(path, "cannot be made", errno);
  }
  for (const char* suffix : {"", "-wal", "-shm"}) {
    const std::string name = absl::StrCat(path, suffix);
    struct stat info;
    if (stat(name.c_str(), &info) != 0) {
      if (errno == ENOENT) continue;
      return FileError(name, "cannot be read", errno);
    }
    if (!S_ISREG(info.st_mode)) {
      return StoreUnavailableError(absl::StrCat("database file ", name, ": is no regular file"));
    }
    // Kubernetes' fsGroup widens the mode of a volume's files at every mount: put it right.
    if ((info.st_mode & 0077) != 0 && chmod(name.c_str(), 0600) != 0) {
      return FileError(name,
                       absl::StrFormat("can be read by others (mode %04o); make it 0600",
                                       static_cast<unsigned>(info.st_mode & 07777)),
                       errno);
    }
  }
  return absl::OkStatus();
}

absl::Status PrepareSchema(Connection& connection, absl::Duration timeout) {
  // Before anything is written: it may not be ours.
  TB_RETURN_IF_ERROR(SchemaVersion(connection).status());
  TB_RETURN_IF_ERROR(UseWriteAheadLog(connection, timeout));
  TB_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(connection));
  // Again: another process may just have done it.
  TB_ASSIGN_OR_RETURN(const int64_t version, SchemaVersion(connection));
  for (int64_t i = version; i < kSchemaVersion; ++i) {
    TB_RETURN_IF_ERROR(connection.Execute(kMigrations[i]));
  }
  return transaction.Commit();
}

}  // namespace tokenbroker
