#include "storage/redis/redis_errors.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/errors.h"

namespace tokenbroker::redis {
namespace {

struct Row {
  std::string_view code;
  std::string_view advice;
  bool retry;
  bool close;
};

// https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors names the form; the
// codes are those of Redis 6.2 to 8.
constexpr Row kRows[] = {
    {"LOADING", "Redis is still loading its data set", true, true},
    {"READONLY", "this Redis is a read-only replica; the address must be the primary's", true,
     true},
    {"MASTERDOWN", "this Redis is a replica that has lost its primary", true, true},
    {"CLUSTERDOWN", "the Redis cluster is down", true, true},
    {"TRYAGAIN", "the Redis cluster moves the key's slot", true, false},
    {"MOVED", "this Redis is part of a cluster: configure store.redis.cluster", false, true},
    {"ASK", "this Redis is part of a cluster: configure store.redis.cluster", false, true},
    {"CROSSSLOT", "this Redis is part of a cluster: configure store.redis.cluster", false, true},
    {"BUSY", "Redis is busy running another script", true, false},
    {"UNKILLABLE", "Redis is busy running another script", true, false},
    {"OOM", "Redis has reached maxmemory; give it more (and maxmemory-policy noeviction)", false,
     false},
    {"MISCONF", "Redis cannot persist its data and refuses writes; see its log", false, false},
    {"NOREPLICAS",
     "Redis has fewer replicas in step than its min-replicas-to-write asks for, and refuses writes",
     false, false},
    {"NOSCRIPT", "Redis forgets scripts as fast as they are loaded", true, false},
    {"MAXCLIENTS", "Redis has reached maxclients", true, true},
};

// Errors about who we are name the user.
constexpr Row kLoginRows[] = {
    {"WRONGPASS", "wrong password, unknown user, or the user is off", false, true},
    {"NOAUTH", "Redis wants a password and none is configured, or it was changed", true, true},
    {"NOPERM",
     "the ACL does not let the user run a command, or use a key or channel, of the broker", false,
     false},
};

absl::string_view View(std::string_view s) { return {s.data(), s.size()}; }

// The first word, if it looks like a code; else "ERR".
std::string_view Code(std::string_view error) {
  size_t end = 0;
  while (end < error.size() && absl::ascii_isupper(static_cast<unsigned char>(error[end]))) ++end;
  if (end == 0 || end > 20 || (end < error.size() && error[end] != ' ')) return "ERR";
  return error.substr(0, end);
}

// Before Redis 7, an error inside a script arrives as "ERR Error running script …: -CODE …".
bool Names(std::string_view error, std::string_view code) {
  if (Code(error) == code) return true;
  return Code(error) == "ERR" && error.find(absl::StrCat("-", View(code), " ")) != error.npos;
}

}  // namespace

bool IsRedirection(std::string_view error) {
  const std::string_view code = Code(error);
  return code == "MOVED" || code == "ASK" || code == "TRYAGAIN";
}

bool IsWrongType(std::string_view error) { return Names(error, "WRONGTYPE"); }

bool IsNoScript(std::string_view error) { return Code(error) == "NOSCRIPT"; }

ServerErrorVerdict ServerError(std::string_view error, std::string_view username) {
  if (IsWrongType(error)) {
    return {RecordUnreadableError("the key of a grant holds something else in Redis")};
  }
  if (Names(error, "UNREADABLE")) {
    return {RecordUnreadableError("a field of the record in Redis is not what it should be")};
  }
  for (const Row& row : kRows) {
    if (!Names(error, row.code)) continue;
    return {StoreUnavailableError(absl::StrCat(View(row.advice), " (", View(row.code), ")")),
            row.retry, row.close,
            // Whoever was cut off from the replicas may have been replaced.
            row.close || row.code == "NOREPLICAS"};
  }
  const std::string user =
      username.empty() ? "the default user" : absl::StrCat("user '", View(username), "'");
  for (const Row& row : kLoginRows) {
    if (!Names(error, row.code)) continue;
    return {StoreUnavailableError(absl::StrCat("Redis refuses ", user, ": ", View(row.advice), " (",
                                               View(row.code), ")")),
            row.retry, row.close};
  }
  // Redis older than 6 answers a wrong password with a plain ERR.
  if (error.starts_with("ERR invalid password") || error.starts_with("ERR AUTH") ||
      error.starts_with("ERR Client sent AUTH")) {
    return {StoreUnavailableError(absl::StrCat("Redis refuses ", user,
                                               ": wrong password, or none "
                                               "is set at the server (ERR)")),
            false, true};
  }
  if (error.find("max number of clients") != error.npos) {
    return {StoreUnavailableError("Redis has reached maxclients"), true, true};
  }
  return {StoreUnavailableError(
              absl::StrCat("Redis answered with an unexpected error (", View(Code(error)), ")")),
          false, true};
}

}  // namespace tokenbroker::redis
