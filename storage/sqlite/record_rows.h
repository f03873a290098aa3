#ifndef TOKEN_BROKER_STORAGE_SQLITE_RECORD_ROWS_H_
#define TOKEN_BROKER_STORAGE_SQLITE_RECORD_ROWS_H_

#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "storage/grant_record.h"
#include "storage/sqlite/connection.h"
#include "storage/token_store.h"

// Records as rows of the table `grants`. Besides the connection's errors, what reads returns
// DATA_LOSS RECORD_UNREADABLE for a row that this program did not write.
namespace tokenbroker {

// nullopt: there is none. `store_now` is not set.
absl::StatusOr<std::optional<GrantRecord>> ReadRecord(Connection& connection, const GrantKey& key);

// The same for a record that is about to be replaced: of one that cannot be read, what
// SalvageRecord leaves.
absl::StatusOr<std::optional<GrantRecord>> ReadReplaceable(Connection& connection,
                                                           const GrantKey& key, absl::Time now);

// As TokenStore::ListPage, which see; `store_now` is not set.
absl::StatusOr<GrantPage> ReadPage(Connection& connection, std::string_view prefix,
                                   std::string_view after, int limit);

// Deletes reserved records that were last changed before `before`.
absl::Status PurgeReserved(Connection& connection, absl::Time before);

// Inserts or replaces the row.
absl::Status WriteRecord(Connection& connection, const GrantRecord& record);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_SQLITE_RECORD_ROWS_H_
