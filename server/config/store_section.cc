#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/config/settings_sections.h"

namespace tokenbroker {
namespace {

// Stored beside every ciphertext.
constexpr size_t kMaxKeyIdBytes = 32;
constexpr size_t kMaxKeyPrefixBytes = 64;

SqliteSettings LoadSqlite(LoadContext& context) {
  const config::v1::Sqlite& sqlite = context.config().store().sqlite();
  SqliteSettings settings;
  if (context.Require("store.sqlite.path", sqlite.path(), "the database file")) {
    const size_t folder = context.document.file.rfind('/');
    const bool as_written = sqlite.path().starts_with('/') || folder == std::string::npos;
    settings.path = as_written
                        ? sqlite.path()
                        : absl::StrCat(context.document.file.substr(0, folder + 1), sqlite.path());
  }
  settings.busy_timeout = ToAbslDuration(sqlite.busy_timeout());
  return settings;
}

// Braces would decide about the cluster slot in place of the grant's own.
bool IsKeyPrefix(std::string_view prefix) {
  if (prefix.size() > kMaxKeyPrefixBytes) return false;
  for (const char c : prefix) {
    if (!absl::ascii_isgraph(static_cast<unsigned char>(c)) || c == '{' || c == '}') return false;
  }
  return true;
}

RedisSettings LoadRedis(LoadContext& context) {
  const config::v1::Redis& redis = context.config().store().redis();
  RedisSettings settings;
  if (context.Require("store.redis.address", redis.address(), "host:port, e.g. redis:6379")) {
    const std::optional<HostPort> address = ParseHostPort(redis.address());
    if (address && address->port != 0) {
      settings.host = address->host;
      settings.port = address->port;
    } else {
      context.Refuse("store.redis.address", "must be host:port, e.g. redis:6379");
    }
  }
  settings.username = redis.username();
  if (!redis.password_file().empty()) {
    settings.password =
        context.files.ReadPassword("store.redis.password_file", redis.password_file());
  } else if (!redis.username().empty() && !context.problems.Has("store.redis.password_file")) {
    context.Refuse("store.redis.username", "needs store.redis.password_file");
  }
  settings.database = redis.database();
  settings.key_prefix = redis.key_prefix();
  if (!IsKeyPrefix(redis.key_prefix())) {
    context.Refuse("store.redis.key_prefix",
                   absl::StrCat("must have at most ", kMaxKeyPrefixBytes,
                                " visible ASCII characters other than { and }"));
  }
  if (!redis.has_replica_acks() && !context.problems.Has("store.redis.replica_acks")) {
    context.Refuse("store.redis.replica_acks",
                   "must be written: 0 where the Redis has no replicas, 1 where it has");
  }
  settings.replica_acks = redis.replica_acks();
  settings.replica_ack_timeout = ToAbslDuration(redis.replica_ack_timeout());
  settings.pool_size = redis.pool_size();
  settings.command_timeout = ToAbslDuration(redis.command_timeout());
  settings.connect_timeout = ToAbslDuration(redis.connect_timeout());
  return settings;
}

bool IsKeyId(std::string_view id) {
  if (id.empty() || id.size() > kMaxKeyIdBytes) return false;
  for (const char c : id) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '-') return false;
  }
  return true;
}

std::vector<SealingKeySettings> LoadKeyring(LoadContext& context) {
  const config::v1::Store& store = context.config().store();
  std::vector<SealingKeySettings> keys;
  if (!store.has_keyring()) {
    if (!store.allow_unsealed() && !context.problems.Has("store.keyring") &&
        !context.problems.Has("store.allow_unsealed")) {
      context.Refuse("store.keyring",
                     "is required: without it tokens are stored in clear text, which "
                     "store.allow_unsealed must allow");
    }
    return keys;
  }
  if (store.keyring().keys().empty() && !context.problems.Has("store.keyring")) {
    context.Refuse("store.keyring.keys", "is required: at least one key");
  }
  std::set<std::string> ids;
  for (int i = 0; i < store.keyring().keys_size(); ++i) {
    const config::v1::SealingKey& key = store.keyring().keys(i);
    const std::string path = absl::StrCat("store.keyring.keys[", i, "]");
    if (context.Require(path + ".id", key.id(), "the key's name") && !IsKeyId(key.id())) {
      context.Refuse(path + ".id", "must be 1 to 32 characters of A-Z a-z 0-9 _ -");
    }
    if (!key.id().empty() && !ids.insert(key.id()).second) {
      context.Refuse(path + ".id", "is the id of another key");
    }
    if (!context.Require(path + ".key_file", key.key_file(), "32 random bytes in base64")) continue;
    if (auto secret = context.files.ReadKey(path + ".key_file", key.key_file())) {
      keys.push_back({key.id(), *std::move(secret)});
    }
  }
  return keys;
}

}  // namespace

StoreSettings LoadStore(LoadContext& context) {
  const config::v1::Store& store = context.config().store();
  StoreSettings settings;
  if (store.has_sqlite() && store.has_redis()) {
    context.Refuse("store", "has both sqlite and redis; exactly one is required");
  } else if (!store.has_sqlite() && !store.has_redis()) {
    context.Refuse("store", "exactly one of sqlite and redis is required");
  }
  if (store.has_sqlite()) settings.sqlite = LoadSqlite(context);
  if (store.has_redis()) settings.redis = LoadRedis(context);
  settings.keyring = LoadKeyring(context);
  return settings;
}

}  // namespace tokenbroker
