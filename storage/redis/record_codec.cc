#include "storage/redis/record_codec.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/errors.h"
#include "common/status_macros.h"
#include "storage/protocol.h"

namespace tokenbroker::redis {
namespace {

absl::string_view View(std::string_view s) { return {s.data(), s.size()}; }

bool ParseInt(std::string_view text, int64_t& out) {
  if (text.empty()) {
    out = 0;
    return true;
  }
  return absl::SimpleAtoi(View(text), &out);
}

bool ParseTime(std::string_view text, absl::Time& out) {
  int64_t millis = 0;
  if (!ParseInt(text, millis)) return false;
  out = millis == 0 ? absl::InfinitePast() : absl::FromUnixMillis(millis);
  return millis == 0 || IsStorableTime(out);
}

template <typename Enum>
bool ParseEnum(std::string_view text, Enum lowest, Enum highest, Enum& out) {
  int64_t number = 0;
  if (!ParseInt(text, number)) return false;
  if (number < static_cast<int64_t>(lowest) || number > static_cast<int64_t>(highest)) return false;
  out = static_cast<Enum>(number);
  return true;
}

bool ParseBool(std::string_view text, bool& out) {
  out = text == "1";
  return text.size() <= 1;
}

bool ParseList(std::string_view text, std::vector<std::string>& out) {
  out.clear();
  while (!text.empty()) {
    const size_t colon = text.find(':');
    uint64_t size = 0;
    if (colon == text.npos || !absl::SimpleAtoi(View(text.substr(0, colon)), &size)) return false;
    text.remove_prefix(colon + 1);
    if (size > text.size()) return false;
    out.emplace_back(text.substr(0, size));
    text.remove_prefix(size);
  }
  return true;
}

bool ParseLabels(std::string_view text, std::map<std::string, std::string>& out) {
  std::vector<std::string> list;
  if (!ParseList(text, list) || list.size() % 2 != 0) return false;
  for (size_t i = 0; i < list.size(); i += 2) out[std::move(list[i])] = std::move(list[i + 1]);
  return true;
}

bool ParseJournal(std::string_view text, std::vector<absl::Time>& out) {
  if (text.empty()) return true;
  for (absl::string_view item : absl::StrSplit(View(text), ',')) {
    absl::Time sent;
    if (!ParseTime({item.data(), item.size()}, sent)) return false;
    out.push_back(sent);
  }
  return true;
}

bool ParseFailures(std::string_view text, int32_t& out) {
  return text.empty() || absl::SimpleAtoi(View(text), &out);
}

bool ParseSecret(std::string_view text, Secret& out) {
  out = Secret(std::string(text));
  return true;
}

bool ParseString(std::string_view text, std::string& out) {
  out = std::string(text);
  return true;
}

struct Field {
  std::string_view name;
  bool token;     // left out of listings
  bool required;  // no record is without it
  bool (*parse)(std::string_view, GrantRecord&);
};

using R = GrantRecord;
using T = std::string_view;

constexpr std::array kFields = {
    Field{"g", false, true, [](T t, R& r) { return ParseInt(t, r.generation); }},
    Field{"ep", false, true, [](T t, R& r) { return ParseInt(t, r.epoch); }},
    Field{"st", false, true,
          [](T t, R& r) {
            return ParseEnum(t, GrantState::kActive, GrantState::kReserved, r.state);
          }},
    Field{"ty", false, true,
          [](T t, R& r) {
            return ParseEnum(t, GrantType::kRefreshToken, GrantType::kClientCredentials,
                             r.info.type);
          }},
    Field{"dc", false, true, [](T t, R& r) { return ParseString(t, r.info.dc); }},
    Field{"sc", false, false, [](T t, R& r) { return ParseList(t, r.info.scopes); }},
    Field{"so", false, false, [](T t, R& r) { return ParseString(t, r.info.soid); }},
    Field{"dn", false, false, [](T t, R& r) { return ParseString(t, r.info.display_name); }},
    Field{"lb", false, false, [](T t, R& r) { return ParseLabels(t, r.info.labels); }},
    Field{"kw", false, false, [](T t, R& r) { return ParseBool(t, r.info.keep_warm); }},
    Field{"rt", true, false, [](T t, R& r) { return ParseSecret(t, r.refresh_token); }},
    Field{"at", true, false, [](T t, R& r) { return ParseSecret(t, r.access_token); }},
    Field{"ax", false, false, [](T t, R& r) { return ParseTime(t, r.access_expiry); }},
    Field{"ct", false, false, [](T t, R& r) { return ParseTime(t, r.access_stored); }},
    Field{"ad", false, false, [](T t, R& r) { return ParseString(t, r.api_domain); }},
    Field{"ph", false, false,
          [](T t, R& r) { return ParseEnum(t, LeasePhase::kNone, LeasePhase::kSent, r.phase); }},
    Field{"lo", false, false, [](T t, R& r) { return ParseString(t, r.lease_owner); }},
    Field{"le", false, false, [](T t, R& r) { return ParseTime(t, r.lease_end); }},
    Field{"nb", false, false, [](T t, R& r) { return ParseTime(t, r.not_before); }},
    Field{"fk", false, false,
          [](T t, R& r) {
            return ParseEnum(t, FailureKind::kNone, FailureKind::kNeedsConsent, r.last_failure);
          }},
    Field{"fe", false, false, [](T t, R& r) { return ParseString(t, r.last_error); }},
    Field{"ft", false, false, [](T t, R& r) { return ParseTime(t, r.last_failure_time); }},
    Field{"fn", false, false, [](T t, R& r) { return ParseFailures(t, r.consecutive_failures); }},
    Field{"am", false, false, [](T t, R& r) { return ParseBool(t, r.ambiguous); }},
    Field{"js", false, false, [](T t, R& r) { return ParseJournal(t, r.sends); }},
    Field{"ca", false, false, [](T t, R& r) { return ParseString(t, r.last_commit_attempt); }},
    Field{"ra", false, false, [](T t, R& r) { return ParseString(t, r.last_register_attempt); }},
    Field{"co", false, false, [](T t, R& r) { return ParseString(t, r.last_counted_attempt); }},
    Field{"tu", false, false, [](T t, R& r) { return ParseTime(t, r.throttled_until); }},
    Field{"cr", false, false, [](T t, R& r) { return ParseTime(t, r.created); }},
    Field{"up", false, false, [](T t, R& r) { return ParseTime(t, r.updated); }},
};

Command ReadCommand(std::string_view key, bool tokens) {
  Command command = {"HMGET", key};
  command.reserve(kFields.size() + 2);
  for (const Field& field : kFields) {
    if (tokens || !field.token) command.push_back(field.name);
  }
  return command;
}

absl::Status Unreadable(std::string_view field) {
  return RecordUnreadableError(absl::StrCat("field ", View(field), " in Redis"));
}

void AppendEscaped(std::string_view id, std::string& out) {
  constexpr char kHex[] = "0123456789ABCDEF";
  for (char c : id) {
    const auto byte = static_cast<unsigned char>(c);
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
        c == '.' || c == '_') {
      out.push_back(c);
    } else {
      out.push_back('%');
      out.push_back(kHex[byte >> 4]);
      out.push_back(kHex[byte & 15]);
    }
  }
}

void AppendItem(std::string_view item, std::string& out) {
  absl::StrAppend(&out, item.size(), ":", View(item));
}

}  // namespace

std::string RecordKey(std::string_view prefix, const GrantKey& key) {
  std::string out(prefix);
  out.push_back('{');
  AppendEscaped(key.org_id, out);
  absl::StrAppend(&out, ":", View(EnvironmentName(key.environment)), ":");
  AppendEscaped(key.oauth_client, out);
  out.push_back('}');
  return out;
}

Command ReadRecordCommand(std::string_view key) { return ReadCommand(key, true); }
Command ReadRecordWithoutTokensCommand(std::string_view key) { return ReadCommand(key, false); }

absl::StatusOr<std::optional<GrantRecord>> DecodeRecordValues(const GrantKey& key, ReplyView values,
                                                              absl::Time now) {
  const bool tokens = values.size() == kFields.size();
  bool exists = false;
  for (size_t i = 0; i < values.size(); ++i) exists = exists || !values[i].is_nil();
  if (!exists) return std::optional<GrantRecord>();
  GrantRecord record;
  record.key = key;
  record.store_now = now;
  size_t i = 0;
  for (const Field& field : kFields) {
    if (field.token && !tokens) continue;
    if (i >= values.size()) return Unreadable(field.name);
    const ReplyView value = values[i++];
    if (value.is_nil() ? field.required : !field.parse(value.text(), record)) {
      return Unreadable(field.name);
    }
  }
  return std::optional<GrantRecord>(std::move(record));
}

absl::StatusOr<GrantRecord> DecodeRecordFields(const GrantKey& key, ReplyView fields,
                                               absl::Time now) {
  GrantRecord record;
  record.key = key;
  record.store_now = now;
  std::array<bool, kFields.size()> seen = {};
  for (size_t i = 0; i + 1 < fields.size(); i += 2) {
    const std::string_view name = fields[i].text();
    const auto field = std::find_if(kFields.begin(), kFields.end(),
                                    [&](const Field& f) { return f.name == name; });
    if (field == kFields.end()) continue;  // of a newer version, or the scripts' own
    if (!field->parse(fields[i + 1].text(), record)) return Unreadable(field->name);
    seen[field - kFields.begin()] = true;
  }
  for (size_t i = 0; i < kFields.size(); ++i) {
    if (kFields[i].required && !seen[i]) return Unreadable(kFields[i].name);
  }
  return record;
}

absl::StatusOr<absl::Time> DecodeServerTime(ReplyView time) {
  int64_t seconds = 0;
  int64_t micros = 0;
  if (time.size() != 2 || !ParseInt(time[0].text(), seconds) || !ParseInt(time[1].text(), micros)) {
    return RecordUnreadableError("the server's time");
  }
  return absl::FromUnixMillis(seconds * 1000 + micros / 1000);
}

std::string EncodeList(const std::vector<std::string>& list) {
  std::string out;
  for (const std::string& item : list) AppendItem(item, out);
  return out;
}

std::string EncodeLabels(const std::map<std::string, std::string>& labels) {
  std::string out;
  for (const auto& [name, value] : labels) {
    AppendItem(name, out);
    AppendItem(value, out);
  }
  return out;
}

int64_t ToMillis(absl::Duration duration) {
  constexpr absl::Duration kLimit = absl::Hours(24 * 365 * 100);
  return absl::ToInt64Milliseconds(
      absl::Floor(std::clamp(duration, -kLimit, kLimit), absl::Milliseconds(1)));
}

std::optional<ChangeEvent> DecodeChangeEvent(std::string_view payload) {
  ChangeEvent event;
  const size_t first = payload.find(' ');
  if (first == payload.npos || first == 0) return std::nullopt;
  const size_t second = payload.find(' ', first + 1);
  if (second == payload.npos) return std::nullopt;
  std::optional<GrantKey> key = DecodeGrantKey(payload.substr(second + 1));
  if (!key || !ParseInt(payload.substr(0, first), event.generation) ||
      !ParseEnum(payload.substr(first + 1, second - first - 1), GrantState::kActive,
                 GrantState::kRevoked, event.state)) {
    return std::nullopt;
  }
  event.key = *std::move(key);
  return event;
}

}  // namespace tokenbroker::redis
