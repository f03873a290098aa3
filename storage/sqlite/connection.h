#ifndef TOKEN_BROKER_STORAGE_SQLITE_CONNECTION_H_
#define TOKEN_BROKER_STORAGE_SQLITE_CONNECTION_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

struct sqlite3;
struct sqlite3_stmt;

namespace tokenbroker {

class Connection;

// One execution of a prepared statement. Parameters are numbered from 1, columns from 0. Bound
// strings must live until the execution ends, and views of columns until the next Step.
//
// A failed bind or step leaves the error in the connection; Step returns it.
class Query {
 public:
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;
  Query(Query&& other) noexcept;
  ~Query();  // the statement can be used again

  void Bind(int parameter, int64_t value);
  void BindBytes(int parameter, std::string_view value);
  void BindTime(int parameter, absl::Time value);  // infinite: NULL

  // True: a row is there. False: the end.
  absl::StatusOr<bool> Step();
  // For statements without rows.
  absl::Status Run();

  int64_t Int(int column) const;
  std::string_view Bytes(int column) const;  // NULL: ""
  absl::Time Time(int column) const;         // NULL: InfinitePast

 private:
  friend class Connection;
  Query(Connection& connection, sqlite3_stmt* statement)
      : connection_(&connection), statement_(statement) {}

  Connection* connection_;
  sqlite3_stmt* statement_;
};

// One connection to the database file. Used by one thread at a time.
//
// Errors are UNAVAILABLE STORE_UNAVAILABLE with SQLite's text for the code, never with a value.
class Connection {
 public:
  // Opens a file that exists; `writes` as opposed to reads only.
  static absl::StatusOr<std::unique_ptr<Connection>> Open(const std::string& path,
                                                          absl::Duration busy_timeout, bool writes);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // `sql` must be a constant: its statement is prepared once and kept.
  absl::StatusOr<Query> Prepare(const char* sql);
  // One or more statements without parameters and rows.
  absl::Status Execute(const char* sql);
  // The first column of the first row, as text; "" if there is none.
  absl::StatusOr<std::string> Ask(const char* sql);

  // After an error other than 'busy' or 'full': close it and open another one.
  bool broken() const { return broken_; }

 private:
  friend class Query;
  explicit Connection(sqlite3* database) : database_(database) {}
  absl::Status Error(int code, std::string_view what);

  sqlite3* database_;
  std::map<const char*, sqlite3_stmt*> statements_;
  bool broken_ = false;
};

// BEGIN IMMEDIATE now, so that no other writer comes between what is read and what is written;
// ROLLBACK at the end unless Commit returned OK.
class Transaction {
 public:
  static absl::StatusOr<Transaction> Begin(Connection& connection);
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  Transaction(Transaction&& other) noexcept;
  ~Transaction();
  absl::Status Commit();

 private:
  explicit Transaction(Connection& connection) : connection_(&connection) {}
  Connection* connection_;  // null: over
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_SQLITE_CONNECTION_H_
