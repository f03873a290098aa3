#include "storage/sqlite/connection.h"

#include <sqlite3.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "common/status_macros.h"

namespace tokenbroker {
namespace {

// Every connection's settings; sqlite.org/pragma.html.
//   synchronous FULL    each commit is on the disk before it is acknowledged
//   secure_delete       forgotten tokens are overwritten in the file
//   temp_store MEMORY   no temporary files with tokens in them
//   trusted_schema OFF, cell_size_check ON   a tampered file can do less harm
constexpr char kSettings[] =
    "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY;"
    "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;";

// The statement was refused; the connection is as good as before.
bool LeavesConnectionUsable(int code) {
  const int primary = code & 0xff;
  return primary == SQLITE_BUSY || primary == SQLITE_LOCKED || primary == SQLITE_FULL;
}

}  // namespace

Query::Query(Query&& other) noexcept
    : connection_(other.connection_), statement_(std::exchange(other.statement_, nullptr)) {}

Query::~Query() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  // What was bound is about to go.
  sqlite3_clear_bindings(statement_);
}

void Query::Bind(int parameter, int64_t value) { sqlite3_bind_int64(statement_, parameter, value); }

void Query::BindBytes(int parameter, std::string_view value) {
  // A null pointer would bind NULL.
  const char* bytes = value.empty() ? "" : value.data();
  sqlite3_bind_blob64(statement_, parameter, bytes, value.size(), SQLITE_STATIC);
}

void Query::BindTime(int parameter, absl::Time value) {
  if (value == absl::InfinitePast()) {
    sqlite3_bind_null(statement_, parameter);
  } else {
    sqlite3_bind_int64(statement_, parameter, absl::ToUnixMillis(value));
  }
}

absl::StatusOr<bool> Query::Step() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return connection_->Error(sqlite3_extended_errcode(connection_->database_),
                            "running a statement");
}

absl::Status Query::Run() { return Step().status(); }

int64_t Query::Int(int column) const { return sqlite3_column_int64(statement_, column); }

std::string_view Query::Bytes(int column) const {
  const void* bytes = sqlite3_column_blob(statement_, column);
  if (bytes == nullptr) return {};
  return {static_cast<const char*>(bytes),
          static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
}

absl::Time Query::Time(int column) const {
  if (sqlite3_column_type(statement_, column) == SQLITE_NULL) return absl::InfinitePast();
  return absl::FromUnixMillis(Int(column));
}

absl::StatusOr<std::unique_ptr<Connection>> Connection::Open(const std::string& path,
                                                             absl::Duration busy_timeout,
                                                             bool writes) {
  // Not SQLITE_OPEN_CREATE: an empty database in place of one that has vanished would look like a
  // broker without orgs. NOMUTEX: one thread at a time is the caller's promise.
  sqlite3* database = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &database,
                                   SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  std::unique_ptr<Connection> connection(new Connection(database));
  if (code != SQLITE_OK) return connection->Error(code, "opening the file");
  // SQLite falls back to reading where it may not write, and would say so at the first write only.
  if (sqlite3_db_readonly(database, "main") != 0) {
    return StoreUnavailableError(absl::StrCat("database file ", path, ": is readonly"));
  }
  sqlite3_extended_result_codes(database, 1);
  const int64_t timeout = std::clamp<int64_t>(absl::ToInt64Milliseconds(busy_timeout), 0, 60'000);
  sqlite3_busy_timeout(database, static_cast<int>(timeout));
  TB_RETURN_IF_ERROR(connection->Execute(kSettings));
  // Readers need the write access to the file for the shared memory of the log, no more.
  if (!writes) TB_RETURN_IF_ERROR(connection->Execute("PRAGMA query_only = ON;"));
  return connection;
}

Connection::~Connection() {
  for (const auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close(database_);
}

absl::StatusOr<Query> Connection::Prepare(const char* sql) {
  sqlite3_stmt*& statement = statements_[sql];
  if (statement == nullptr) {
    const int code =
        sqlite3_prepare_v3(database_, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
    if (code != SQLITE_OK) return Error(code, "preparing a statement");
  }
  return Query(*this, statement);
}

absl::Status Connection::Execute(const char* sql) {
  const int code = sqlite3_exec(database_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return Error(code, "running a statement");
  return absl::OkStatus();
}

absl::StatusOr<std::string> Connection::Ask(const char* sql) {
  TB_ASSIGN_OR_RETURN(Query query, Prepare(sql));
  TB_ASSIGN_OR_RETURN(const bool row, query.Step());
  return row ? std::string(query.Bytes(0)) : std::string();
}

absl::Status Connection::Error(int code, std::string_view what) {
  if (!LeavesConnectionUsable(code)) broken_ = true;
  // The text of the code, not sqlite3_errmsg: that one may quote what was in the database.
  const std::string text = absl::StrCat("SQLite, ", absl::string_view(what.data(), what.size()),
                                        ": ", sqlite3_errstr(code), " (", code, ")");
  return StoreUnavailableError(text);
}

absl::StatusOr<Transaction> Transaction::Begin(Connection& connection) {
  TB_ASSIGN_OR_RETURN(Query begin, connection.Prepare("BEGIN IMMEDIATE"));
  TB_RETURN_IF_ERROR(begin.Run());
  return Transaction(connection);
}

Transaction::Transaction(Transaction&& other) noexcept
    : connection_(std::exchange(other.connection_, nullptr)) {}

Transaction::~Transaction() {
  if (connection_ == nullptr) return;
  absl::StatusOr<Query> rollback = connection_->Prepare("ROLLBACK");
  // Fails when SQLite has rolled back by itself; the connection then counts as broken, as it was
  // before.
  if (rollback.ok()) rollback->Run().IgnoreError();
}

absl::Status Transaction::Commit() {
  TB_ASSIGN_OR_RETURN(Query commit, connection_->Prepare("COMMIT"));
  TB_RETURN_IF_ERROR(commit.Run());
  connection_ = nullptr;
  return absl::OkStatus();
}

}  // namespace tokenbroker
