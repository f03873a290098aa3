#include <algorithm>
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

constexpr char kAddressForm[] = "must be host:port, e.g. redis:6379";

std::optional<RedisAddress> ParseRedisAddress(LoadContext& context, const std::string& key,
                                              const std::string& text) {
  const std::optional<HostPort> address = ParseHostPort(text);
  if (address && address->port != 0) return RedisAddress{address->host, address->port};
  context.Refuse(key, kAddressForm);
  return std::nullopt;
}

// `key`: of the list; `what` is in it.
std::vector<RedisAddress> LoadAddresses(
    LoadContext& context, const std::string& key,
    const google::protobuf::RepeatedPtrField<std::string>& texts, std::string_view what) {
  std::vector<RedisAddress> addresses;
  if (texts.empty() && !context.problems.Has(key)) {
    context.Refuse(key, absl::StrCat("is required: host:port of at least one ",
                                     absl::string_view(what.data(), what.size())));
  }
  for (int i = 0; i < texts.size(); ++i) {
    const std::string path = absl::StrCat(key, "[", i, "]");
    if (context.problems.Has(path)) continue;
    if (auto address = ParseRedisAddress(context, path, texts[i])) {
      addresses.push_back(*std::move(address));
    }
  }
  return addresses;
}

// The password of `username` below `section`.
PasswordReader LoadPassword(LoadContext& context, const std::string& section,
                            const std::string& username, const std::string& password_file) {
  const std::string key = section + ".password_file";
  if (!password_file.empty()) return context.files.OpenPassword(key, password_file);
  if (!username.empty() && !context.problems.Has(key)) {
    context.Refuse(section + ".username", "needs " + key);
  }
  return nullptr;
}

RedisSentinelSettings LoadSentinel(LoadContext& context,
                                   const config::v1::RedisSentinel& sentinel) {
  const std::string section = "store.redis.sentinel";
  RedisSentinelSettings settings;
  settings.addresses =
      LoadAddresses(context, section + ".addresses", sentinel.addresses(), "Sentinel");
  if (context.Require(section + ".primary_name", sentinel.primary_name(),
                      "the Sentinels' name for the primary")) {
    settings.primary_name = sentinel.primary_name();
  }
  settings.username = sentinel.username();
  settings.password = LoadPassword(context, section, sentinel.username(), sentinel.password_file());
  return settings;
}

RedisTlsSettings LoadRedisTls(LoadContext& context, const config::v1::RedisTls& tls) {
  const std::string section = "store.redis.tls";
  RedisTlsSettings settings;
  const auto load = [&](const std::string& name, const std::string& file, std::string_view label) {
    if (file.empty()) return std::string();
    // OpenSSL reads it again, from its path.
    (void)context.files.ReadPem(section + name, file, label);
    return context.files.Locate(file);
  };
  settings.ca_file = load(".ca_file", tls.ca_file(), "CERTIFICATE");
  settings.certificate_file = load(".certificate_file", tls.certificate_file(), "CERTIFICATE");
  settings.key_file = load(".key_file", tls.key_file(), "PRIVATE KEY");
  if (tls.certificate_file().empty() != tls.key_file().empty()) {
    const std::string missing = tls.key_file().empty() ? ".key_file" : ".certificate_file";
    if (!context.problems.Has(section + missing)) {
      context.Refuse(section + missing,
                     "is required: a client certificate needs its key, and a "
                     "key its certificate");
    }
  }
  settings.server_name = tls.server_name();
  return settings;
}

std::vector<RedisRisk> LoadRisks(const config::v1::Redis& redis) {
  std::vector<RedisRisk> risks;
  for (const int risk : redis.accept_risks()) {
    switch (risk) {
      case config::v1::REDIS_RISK_EVICTION:
        risks.push_back(RedisRisk::kEviction);
        break;
      case config::v1::REDIS_RISK_NO_PERSISTENCE:
        risks.push_back(RedisRisk::kNoPersistence);
        break;
      case config::v1::REDIS_RISK_TOO_FEW_REPLICAS:
        risks.push_back(RedisRisk::kTooFewReplicas);
        break;
      case config::v1::REDIS_RISK_NO_QUARANTINE:
        risks.push_back(RedisRisk::kNoQuarantine);
        break;
      default:  // a problem was added when it was read
        break;
    }
  }
  return risks;
}

void LoadRedisPlace(LoadContext& context, const config::v1::Redis& redis, RedisSettings& settings) {
  const bool unreadable = context.problems.Has("store.redis.address") ||
                          context.problems.Has("store.redis.sentinel") ||
                          context.problems.Has("store.redis.cluster");
  const int places = (redis.address().empty() ? 0 : 1) + (redis.has_sentinel() ? 1 : 0) +
                     (redis.has_cluster() ? 1 : 0);
  if (places == 0 && !unreadable) {
    context.Refuse("store.redis", "exactly one of address, sentinel and cluster is required");
  } else if (places > 1) {
    context.Refuse("store.redis",
                   "has more than one of address, sentinel and cluster; exactly one is required");
  }
  if (!redis.address().empty()) {
    settings.address = ParseRedisAddress(context, "store.redis.address", redis.address());
  }
  if (redis.has_sentinel()) settings.sentinel = LoadSentinel(context, redis.sentinel());
  if (redis.has_cluster()) {
    settings.cluster = LoadAddresses(context, "store.redis.cluster.addresses",
                                     redis.cluster().addresses(), "node");
    if (redis.database() != 0) {
      context.Refuse("store.redis.database", "must be 0: a Redis Cluster has no others");
    }
  }
}

RedisSettings LoadRedis(LoadContext& context) {
  const config::v1::Redis& redis = context.config().store().redis();
  RedisSettings settings;
  LoadRedisPlace(context, redis, settings);
  if (redis.has_tls()) settings.tls = LoadRedisTls(context, redis.tls());
  settings.username = redis.username();
  settings.password = LoadPassword(context, "store.redis", redis.username(), redis.password_file());
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
  settings.accepted_risks = LoadRisks(redis);
  settings.quarantine = ToAbslDuration(redis.quarantine());
  const bool named = std::find(settings.accepted_risks.begin(), settings.accepted_risks.end(),
                               RedisRisk::kNoQuarantine) != settings.accepted_risks.end();
  const absl::Duration sent_lease = ToAbslDuration(context.config().protocol().sent_lease());
  if (settings.quarantine == absl::ZeroDuration()) {
    if (!named && !context.problems.Has("store.redis.quarantine")) {
      context.Refuse("store.redis.quarantine",
                     "0s must be accepted by name: store.redis.accept_risks: [NO_QUARANTINE]");
    }
  } else if (settings.quarantine < sent_lease && !context.problems.Has("protocol.sent_lease")) {
    context.Refuse("store.redis.quarantine",
                   "must be at least protocol.sent_lease, so that a request to Zoho which the new "
                   "primary does not know of is over");
  }
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
