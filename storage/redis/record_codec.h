#ifndef TOKEN_BROKER_STORAGE_REDIS_RECORD_CODEC_H_
#define TOKEN_BROKER_STORAGE_REDIS_RECORD_CODEC_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "storage/grant_record.h"
#include "storage/redis/connection.h"
#include "storage/redis/reply.h"
#include "storage/token_store.h"

// How a grant lies in Redis: the key of its hash and the hash's fields. scripts/prelude.lua names
// the fields; the scripts write them, this file reads them.
namespace tokenbroker::redis {

// `<prefix>{<org>:<environment>:<OAuth client>}`, with every byte of an id but letters, digits,
// '-',
// '.' and '_' as %XX: injective for all ids. The braces make the grant, and nothing else, the part
// of the key that a Redis cluster hashes; everything about a grant is in one slot.
std::string RecordKey(std::string_view prefix, const GrantKey& key);

// The words of an HMGET of all fields, and of all but the tokens. `key` must outlive the command.
Command ReadRecordCommand(std::string_view key);
Command ReadRecordWithoutTokensCommand(std::string_view key);

// What such a command answered; nullopt: there is no record. RECORD_UNREADABLE.
absl::StatusOr<std::optional<GrantRecord>> DecodeRecordValues(const GrantKey& key, ReplyView values,
                                                              absl::Time now);
// What a script answered: names and values in turn. RECORD_UNREADABLE.
absl::StatusOr<GrantRecord> DecodeRecordFields(const GrantKey& key, ReplyView fields,
                                               absl::Time now);

// The reply of TIME, down to the millisecond. RECORD_UNREADABLE if it is none.
absl::StatusOr<absl::Time> DecodeServerTime(ReplyView time);

// Lists of strings with any bytes in one field: `<size>:<bytes>` each. "": an empty list.
std::string EncodeList(const std::vector<std::string>& list);
std::string EncodeLabels(const std::map<std::string, std::string>& labels);

// Whole milliseconds, rounded down, within ±100 years (so that sums stay exact in Lua's doubles).
int64_t ToMillis(absl::Duration duration);

// The payload of a change event. nullopt: not one of ours.
std::optional<ChangeEvent> DecodeChangeEvent(std::string_view payload);

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_RECORD_CODEC_H_
