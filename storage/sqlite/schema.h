#ifndef TOKEN_BROKER_STORAGE_SQLITE_SCHEMA_H_
#define TOKEN_BROKER_STORAGE_SQLITE_SCHEMA_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "storage/sqlite/connection.h"

namespace tokenbroker {

// Makes the database file where there is none, and its -wal and -shm, readable by their owner only.
// UNAVAILABLE STORE_UNAVAILABLE, naming the path and the remedy, where that cannot be done.
absl::Status MakePrivateFile(const std::string& path);

// Turns an empty file into a database of the current schema, or brings an older one up to it; safe
// when several processes do so at once. Waits up to `timeout` for them. UNAVAILABLE
// STORE_UNAVAILABLE: another program's database, or a newer broker's.
absl::Status PrepareSchema(Connection& connection, absl::Duration timeout);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_SQLITE_SCHEMA_H_
