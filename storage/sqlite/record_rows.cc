#include "storage/sqlite/record_rows.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "common/errors.h"
#include "common/status_macros.h"
#include "storage/protocol.h"

namespace tokenbroker {
namespace {

// Columns in the order that all statements here name them.
#define TB_GRANT_COLUMNS                                                                 \
  "type, dc, scopes, soid, display_name, labels, keep_warm, state, generation, epoch, "  \
  "access_expiry, api_domain, phase, lease_owner, lease_end, not_before, last_failure, " \
  "last_error, last_failure_time, consecutive_failures, ambiguous, sends, "              \
  "last_commit_attempt, last_register_attempt, last_counted_attempt, throttled_until, "  \
  "created, updated, access_stored"
#define TB_TOKEN_COLUMNS "access_token, refresh_token"
#define TB_PARAMETERS                                                                       \
  "?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, " \
  "?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32"

constexpr char kSelectOne[] =
    "SELECT key, " TB_GRANT_COLUMNS ", " TB_TOKEN_COLUMNS " FROM grants WHERE key = ?1";
// State 4: reserved (GrantState), not a grant yet.
constexpr char kSelectRange[] =
    "SELECT key, " TB_GRANT_COLUMNS
    " FROM grants WHERE key > ?1 AND key < ?2 AND state <> 4 ORDER BY key LIMIT ?3";
constexpr char kSelectRangeToTheEnd[] =
    "SELECT key, " TB_GRANT_COLUMNS
    " FROM grants WHERE key > ?1 AND state <> 4 ORDER BY key LIMIT ?2";
constexpr char kPurgeReserved[] = "DELETE FROM grants WHERE state = 4 AND updated < ?1";
constexpr char kUpsert[] =
    "INSERT INTO grants (key, " TB_GRANT_COLUMNS ", " TB_TOKEN_COLUMNS
    ") VALUES (?1, " TB_PARAMETERS ") ON CONFLICT (key) DO UPDATE SET (" TB_GRANT_COLUMNS
    ", " TB_TOKEN_COLUMNS ") = (" TB_PARAMETERS ")";

#undef TB_PARAMETERS
#undef TB_TOKEN_COLUMNS
#undef TB_GRANT_COLUMNS

// A list of strings in one column: each with its length in front, four bytes, little-endian.
void AppendString(std::string& out, std::string_view s) {
  for (int shift = 0; shift < 32; shift += 8) {
    out.push_back(static_cast<char>(s.size() >> shift));
  }
  out.append(s);
}

std::optional<std::vector<std::string>> SplitStrings(std::string_view in) {
  std::vector<std::string> strings;
  while (!in.empty()) {
    if (in.size() < 4) return std::nullopt;
    uint32_t size = 0;
    for (int i = 0; i < 4; ++i) {
      size |= static_cast<uint32_t>(static_cast<unsigned char>(in[i])) << (8 * i);
    }
    in.remove_prefix(4);
    if (size > in.size()) return std::nullopt;
    strings.emplace_back(in.substr(0, size));
    in.remove_prefix(size);
  }
  return strings;
}

std::string JoinStrings(const std::vector<std::string>& strings) {
  std::string out;
  for (const std::string& s : strings) AppendString(out, s);
  return out;
}

std::string JoinLabels(const std::map<std::string, std::string>& labels) {
  std::string out;
  for (const auto& [key, value] : labels) {
    AppendString(out, key);
    AppendString(out, value);
  }
  return out;
}

// Times in one column: eight bytes each, little-endian.
std::string JoinTimes(const std::vector<absl::Time>& times) {
  std::string out;
  for (absl::Time time : times) {
    const uint64_t ms = static_cast<uint64_t>(absl::ToUnixMillis(time));
    for (int shift = 0; shift < 64; shift += 8) out.push_back(static_cast<char>(ms >> shift));
  }
  return out;
}

std::optional<std::vector<absl::Time>> SplitTimes(std::string_view in) {
  if (in.size() % 8 != 0) return std::nullopt;
  std::vector<absl::Time> times;
  for (; !in.empty(); in.remove_prefix(8)) {
    uint64_t ms = 0;
    for (int i = 0; i < 8; ++i) {
      ms |= static_cast<uint64_t>(static_cast<unsigned char>(in[i])) << (8 * i);
    }
    times.push_back(absl::FromUnixMillis(static_cast<int64_t>(ms)));
  }
  return times;
}

// False: not one of the type's values.
template <typename Enum>
bool ToEnum(int64_t value, Enum first, Enum last, Enum& out) {
  if (value < static_cast<int64_t>(first) || value > static_cast<int64_t>(last)) return false;
  out = static_cast<Enum>(value);
  return true;
}

// Reads the columns of the row that `query` stands on, from left to right.
class RowReader {
 public:
  explicit RowReader(const Query& query) : query_(query) {}
  int64_t Int() { return query_.Int(column_++); }
  std::string_view Bytes() { return query_.Bytes(column_++); }
  std::string String() { return std::string(Bytes()); }
  absl::Time Time() {
    const absl::Time time = query_.Time(column_++);
    if (time == absl::InfinitePast() || IsStorableTime(time)) return time;
    times_fine_ = false;
    return absl::InfinitePast();
  }
  bool times_fine() const { return times_fine_; }

 private:
  const Query& query_;
  bool times_fine_ = true;
  int column_ = 0;
};

// False: something in the row is not what it should be; everything else is in `record` all the
// same.
bool ReadRow(const Query& query, bool with_tokens, GrantRecord& record) {
  RowReader row(query);
  std::optional<GrantKey> key = DecodeGrantKey(row.Bytes());
  bool readable = key.has_value();
  if (readable) record.key = *std::move(key);
  readable &=
      ToEnum(row.Int(), GrantType::kRefreshToken, GrantType::kClientCredentials, record.info.type);
  record.info.dc = row.String();
  std::optional<std::vector<std::string>> scopes = SplitStrings(row.Bytes());
  readable &= scopes.has_value();
  if (scopes) record.info.scopes = *std::move(scopes);
  record.info.soid = row.String();
  record.info.display_name = row.String();
  std::optional<std::vector<std::string>> labels = SplitStrings(row.Bytes());
  readable &= labels.has_value() && labels->size() % 2 == 0;
  if (readable) {
    for (size_t i = 0; i < labels->size(); i += 2) {
      record.info.labels.emplace(std::move((*labels)[i]), std::move((*labels)[i + 1]));
    }
  }
  record.info.keep_warm = row.Int() != 0;
  readable &= ToEnum(row.Int(), GrantState::kActive, GrantState::kReserved, record.state);
  record.generation = row.Int();
  record.epoch = row.Int();
  record.access_expiry = row.Time();
  record.api_domain = row.String();
  readable &= ToEnum(row.Int(), LeasePhase::kNone, LeasePhase::kSent, record.phase);
  record.lease_owner = row.String();
  record.lease_end = row.Time();
  record.not_before = row.Time();
  readable &=
      ToEnum(row.Int(), FailureKind::kNone, FailureKind::kNeedsConsent, record.last_failure);
  record.last_error = row.String();
  record.last_failure_time = row.Time();
  record.consecutive_failures =
      static_cast<int32_t>(std::clamp<int64_t>(row.Int(), 0, 1'000'000'000));
  record.ambiguous = row.Int() != 0;
  std::optional<std::vector<absl::Time>> sends = SplitTimes(row.Bytes());
  readable &= sends.has_value();
  if (sends) record.sends = *std::move(sends);
  record.last_commit_attempt = row.String();
  record.last_register_attempt = row.String();
  record.last_counted_attempt = row.String();
  record.throttled_until = row.Time();
  record.created = row.Time();
  record.updated = row.Time();
  record.access_stored = row.Time();
  if (with_tokens) {
    record.access_token = Secret(row.String());
    record.refresh_token = Secret(row.String());
  }
  readable &= row.times_fine();
  return readable;
}

// False: there is none.
absl::StatusOr<bool> FindRow(Query& query, const std::string& encoded_key) {
  query.BindBytes(1, encoded_key);
  return query.Step();
}

// The least string that is greater than all strings with this prefix; "": there is none.
std::string EndOfPrefix(std::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && end.back() == '\xff') end.pop_back();
  if (!end.empty()) ++end.back();
  return end;
}

}  // namespace

absl::StatusOr<std::optional<GrantRecord>> ReadRecord(Connection& connection, const GrantKey& key) {
  const std::string encoded = EncodeGrantKey(key);
  TB_ASSIGN_OR_RETURN(Query query, connection.Prepare(kSelectOne));
  TB_ASSIGN_OR_RETURN(const bool found, FindRow(query, encoded));
  if (!found) return std::optional<GrantRecord>();
  GrantRecord record;
  if (!ReadRow(query, /*with_tokens=*/true, record)) {
    return RecordUnreadableError("a row of the database file is damaged");
  }
  return std::make_optional(std::move(record));
}

absl::StatusOr<std::optional<GrantRecord>> ReadReplaceable(Connection& connection,
                                                           const GrantKey& key, absl::Time now) {
  const std::string encoded = EncodeGrantKey(key);
  TB_ASSIGN_OR_RETURN(Query query, connection.Prepare(kSelectOne));
  TB_ASSIGN_OR_RETURN(const bool found, FindRow(query, encoded));
  if (!found) return std::optional<GrantRecord>();
  GrantRecord record;
  if (!ReadRow(query, /*with_tokens=*/true, record)) record = SalvageRecord(key, record, now);
  return std::make_optional(std::move(record));
}

absl::StatusOr<GrantPage> ReadPage(Connection& connection, std::string_view prefix,
                                   std::string_view after, int limit) {
  const std::string end = EndOfPrefix(prefix);
  // No key equals a prefix (ids.h), so 'greater' leaves out nothing at the start.
  const std::string_view start = std::max(prefix, after);
  TB_ASSIGN_OR_RETURN(Query query,
                      connection.Prepare(end.empty() ? kSelectRangeToTheEnd : kSelectRange));
  int parameter = 1;
  query.BindBytes(parameter++, start);
  if (!end.empty()) query.BindBytes(parameter++, end);
  // One more than asked for tells whether there is a next page.
  query.Bind(parameter, limit + 1);
  GrantPage page;
  std::string last;
  for (int read = 0;; ++read) {
    TB_ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row) return page;
    if (read == limit) {
      page.next = std::move(last);
      return page;
    }
    last = std::string(query.Bytes(0));
    GrantRecord record;
    if (ReadRow(query, /*with_tokens=*/false, record)) {
      page.records.push_back(std::move(record));
    } else {
      page.unreadable.push_back({DecodeGrantKey(last), last});
    }
  }
}

absl::Status PurgeReserved(Connection& connection, absl::Time before) {
  TB_ASSIGN_OR_RETURN(Query query, connection.Prepare(kPurgeReserved));
  query.BindTime(1, before);
  return query.Run();
}

absl::Status WriteRecord(Connection& connection, const GrantRecord& record) {
  const std::string key = EncodeGrantKey(record.key);
  const std::string scopes = JoinStrings(record.info.scopes);
  const std::string labels = JoinLabels(record.info.labels);
  const std::string sends = JoinTimes(record.sends);
  TB_ASSIGN_OR_RETURN(Query query, connection.Prepare(kUpsert));
  int i = 1;
  query.BindBytes(i++, key);
  query.Bind(i++, static_cast<int64_t>(record.info.type));
  query.BindBytes(i++, record.info.dc);
  query.BindBytes(i++, scopes);
  query.BindBytes(i++, record.info.soid);
  query.BindBytes(i++, record.info.display_name);
  query.BindBytes(i++, labels);
  query.Bind(i++, record.info.keep_warm);
  query.Bind(i++, static_cast<int64_t>(record.state));
  query.Bind(i++, record.generation);
  query.Bind(i++, record.epoch);
  query.BindTime(i++, record.access_expiry);
  query.BindBytes(i++, record.api_domain);
  query.Bind(i++, static_cast<int64_t>(record.phase));
  query.BindBytes(i++, record.lease_owner);
  query.BindTime(i++, record.lease_end);
  query.BindTime(i++, record.not_before);
  query.Bind(i++, static_cast<int64_t>(record.last_failure));
  query.BindBytes(i++, record.last_error);
  query.BindTime(i++, record.last_failure_time);
  query.Bind(i++, record.consecutive_failures);
  query.Bind(i++, record.ambiguous);
  query.BindBytes(i++, sends);
  query.BindBytes(i++, record.last_commit_attempt);
  query.BindBytes(i++, record.last_register_attempt);
  query.BindBytes(i++, record.last_counted_attempt);
  query.BindTime(i++, record.throttled_until);
  query.BindTime(i++, record.created);
  query.BindTime(i++, record.updated);
  query.BindTime(i++, record.access_stored);
  query.BindBytes(i++, record.access_token.Reveal());
  query.BindBytes(i++, record.refresh_token.Reveal());
  return query.Run();
}

}  // namespace tokenbroker
