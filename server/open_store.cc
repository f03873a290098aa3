#include "server/open_store.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "storage/redis/tls.h"
#include "storage/sealing/keyring.h"
#include "storage/sealing/sealing_token_store.h"
#include "storage/sqlite/sqlite_token_store.h"

namespace tokenbroker {
namespace {

std::vector<RedisEndpoint> Endpoints(const std::vector<RedisAddress>& addresses) {
  std::vector<RedisEndpoint> endpoints;
  for (const RedisAddress& address : addresses) {
    endpoints.push_back({address.host, static_cast<uint16_t>(address.port)});
  }
  return endpoints;
}

absl::StatusOr<RedisTokenStore::Options> RedisOptions(const RedisSettings& redis) {
  RedisTokenStore::Options options;
  options.host.clear();
  if (redis.address) {
    options.host = redis.address->host;
    options.port = static_cast<uint16_t>(redis.address->port);
  }
  if (redis.sentinel) {
    options.sentinel =
        RedisSentinelOptions{Endpoints(redis.sentinel->addresses), redis.sentinel->primary_name,
                             redis.sentinel->username, redis.sentinel->password};
  }
  if (redis.cluster) options.cluster = RedisClusterOptions{Endpoints(*redis.cluster)};
  if (redis.tls) {
    absl::StatusOr<std::shared_ptr<const redis::TlsContext>> tls =
        redis::TlsContext::Create({redis.tls->ca_file, redis.tls->certificate_file,
                                   redis.tls->key_file, redis.tls->server_name});
    if (!tls.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("store.redis.tls: ", tls.status().message()));
    }
    options.tls = *std::move(tls);
  }
  options.username = redis.username;
  options.password = redis.password;
  options.database = redis.database;
  options.key_prefix = redis.key_prefix;
  options.replica_acks = redis.replica_acks;
  options.replica_ack_timeout = redis.replica_ack_timeout;
  options.quarantine = redis.quarantine;
  options.pool_size = redis.pool_size;
  options.command_timeout = redis.command_timeout;
  options.connect_timeout = redis.connect_timeout;
  return options;
}

}  // namespace

absl::StatusOr<OpenedStore> OpenStore(
    const Settings& settings, const Clock& clock,
    std::function<void(const redis::ServerClock::Jump&)> on_clock_jump) {
  OpenedStore opened;
  if (settings.store.sqlite) {
    SqliteTokenStore::Options options;
    options.path = settings.store.sqlite->path;
    options.busy_timeout = settings.store.sqlite->busy_timeout;
    options.limits = settings.protocol;
    options.clock = clock;
    absl::StatusOr<std::unique_ptr<SqliteTokenStore>> store =
        SqliteTokenStore::Create(std::move(options));
    if (!store.ok()) {
      return absl::Status(store.status().code(),
                          absl::StrCat("store.sqlite.path: ", store.status().message()));
    }
    opened.store = *std::move(store);
  } else {
    TB_ASSIGN_OR_RETURN(RedisTokenStore::Options options, RedisOptions(*settings.store.redis));
    options.limits = settings.protocol;
    options.on_clock_jump = std::move(on_clock_jump);
    TB_ASSIGN_OR_RETURN(std::unique_ptr<RedisTokenStore> redis,
                        RedisTokenStore::Create(std::move(options)));
    opened.redis = redis.get();
    opened.store = std::move(redis);
  }
  if (!settings.store.keyring.empty()) {
    std::vector<SealingKey> keys;
    for (const SealingKeySettings& key : settings.store.keyring) keys.push_back({key.id, key.key});
    TB_ASSIGN_OR_RETURN(Keyring keyring, Keyring::Create(std::move(keys)));
    opened.store = std::make_unique<SealingTokenStore>(std::move(opened.store), std::move(keyring));
  }
  return opened;
}

}  // namespace tokenbroker
