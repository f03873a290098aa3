// store.redis: where it is, how it is spoken to, and what is refused.
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <vector>

#include "server/config/settings.h"
#include "tests/server/config/fake_files.h"

namespace tokenbroker {
namespace {

// The store, which is line 1, and one client.
std::string Store(const std::string& store) {
  return store +
         "oauth_clients:\n"
         "  - {name: a, type: SELF_CLIENT, client_id: x, dc_secrets: [{dc: us, client_secret_file: "
         "secret}]}\n";
}

FileReader Files(const std::string& yaml) {
  return FakeFiles()
      .Add("broker.yaml", yaml)
      .Add("secret", std::string(kSecretText))
      .Add("tls.crt", kCertificateText)
      .Add("tls.key", kPrivateKeyText)
      .Reader();
}

absl::StatusOr<Settings> LoadWith(const FileReader& files) {
  CommandLine line;
  line.config_file = "broker.yaml";
  return LoadSettings(line, files);
}

absl::StatusOr<Settings> Load(const std::string& yaml) { return LoadWith(Files(yaml)); }

TEST(RedisSettingsTest, FindsRedisBySentinelOrAsACluster) {
  const auto sentinel = Load(Store(R"(store:
  redis:
    sentinel:
      addresses: ["s1:26379", "[::1]:26379"]
      primary_name: grants
      username: watcher
      password_file: secret
    replica_acks: 1
    tls: {}
  allow_unsealed: true
)"));
  ASSERT_EQ(sentinel.status(), absl::OkStatus());
  const RedisSettings& watched = *sentinel->store.redis;
  EXPECT_FALSE(watched.address || watched.cluster);
  ASSERT_EQ(watched.sentinel->addresses.size(), 2u);
  EXPECT_EQ(watched.sentinel->addresses[1].host, "::1");
  EXPECT_EQ(watched.sentinel->addresses[1].port, 26379);
  EXPECT_EQ(watched.sentinel->primary_name, "grants");
  EXPECT_EQ(watched.sentinel->username, "watcher");
  EXPECT_TRUE(watched.sentinel->password()->Reveal() == kSecretText);
  EXPECT_EQ(watched.password, nullptr);
  EXPECT_EQ(watched.quarantine, absl::Seconds(20));
  ASSERT_TRUE(watched.tls.has_value());
  EXPECT_EQ(watched.tls->ca_file, "");

  const auto cluster = Load(Store(R"(store:
  redis: {cluster: {addresses: ["n1:6379", "n2:6379"]}, replica_acks: 1}
  allow_unsealed: true
)"));
  ASSERT_EQ(cluster.status(), absl::OkStatus());
  ASSERT_EQ(cluster->store.redis->cluster->size(), 2u);
  EXPECT_EQ((*cluster->store.redis->cluster)[1].host, "n2");
  EXPECT_FALSE(cluster->store.redis->tls.has_value());
}

// The file may have changed since the start: a rotated secret.
TEST(RedisSettingsTest, RedisPasswordIsReadAtEveryUse) {
  std::string password = "first\n";
  const FileReader others = Files(Store(
      "store: {redis: {address: 'r:1', replica_acks: 0, password_file: password}, allow_unsealed: "
      "true}\n"));
  const auto settings =
      LoadWith([&](const std::string& path, size_t max_bytes) -> absl::StatusOr<std::string> {
        if (path == "password") return password;
        return others(path, max_bytes);
      });
  ASSERT_EQ(settings.status(), absl::OkStatus());
  EXPECT_TRUE(settings->store.redis->password()->Reveal() == "first");
  password = "second";
  EXPECT_TRUE(settings->store.redis->password()->Reveal() == "second");
  password = "canary one\ncanary two\n";
  const absl::Status bad = settings->store.redis->password().status();
  EXPECT_EQ(bad.message(), "file 'password' must hold one line");
  password = "";
  EXPECT_EQ(settings->store.redis->password().status().message(), "file 'password' is empty");
}

struct BadConfig {
  std::string name;
  std::string yaml;
  std::string message;
};

void PrintTo(const BadConfig& config, std::ostream* out) { *out << config.name; }

class BadRedisTest : public testing::TestWithParam<BadConfig> {};

TEST_P(BadRedisTest, SaysWhereAndWhat) {
  const auto settings = Load(GetParam().yaml);
  EXPECT_EQ(settings.ok() ? "" : std::string(settings.status().message()), GetParam().message);
}

const BadConfig kBadConfigs[] = {
    {"NoReplicaAcks", Store("store: {redis: {address: 'r:1'}, allow_unsealed: true}\n"),
     "broker.yaml:1: store.redis.replica_acks: must be written: 0 where the Redis has no replicas, "
     "1 where it has"},
    {"BadReplicaAcksIsNotAlsoMissing",
     Store("store: {redis: {address: 'r:1', replica_acks: some}, allow_unsealed: true}\n"),
     "broker.yaml:1: store.redis.replica_acks: must be a whole number"},
    {"BadRedisAddress",
     Store("store: {redis: {address: 'redis', replica_acks: 0}, allow_unsealed: true}\n"),
     "broker.yaml:1: store.redis.address: must be host:port, e.g. redis:6379"},
    {"RedisPortZero",
     Store("store: {redis: {address: 'redis:0', replica_acks: 0}, allow_unsealed: true}\n"),
     "broker.yaml:1: store.redis.address: must be host:port, e.g. redis:6379"},
    {"BracesInPrefix",
     Store("store: {redis: {address: 'r:1', replica_acks: 0, key_prefix: '{x}'}, allow_unsealed: "
           "true}\n"),
     "broker.yaml:1: store.redis.key_prefix: must have at most 64 visible ASCII characters other "
     "than { and }"},
    {"UserWithoutPassword",
     Store("store: {redis: {address: 'r:1', replica_acks: 0, username: u}, allow_unsealed: "
           "true}\n"),
     "broker.yaml:1: store.redis.username: needs store.redis.password_file"},
    {"NoRedisPlace", Store("store: {redis: {replica_acks: 0}, allow_unsealed: true}\n"),
     "broker.yaml:1: store.redis: exactly one of address, sentinel and cluster is required"},
    {"TwoRedisPlaces",
     Store("store: {redis: {address: 'r:1', cluster: {addresses: ['n:1']}, replica_acks: 0}, "
           "allow_unsealed: true}\n"),
     "broker.yaml:1: store.redis: has more than one of address, sentinel and cluster; exactly one "
     "is required"},
    {"EmptySentinel",
     Store("store: {redis: {sentinel: {}, replica_acks: 0}, allow_unsealed: true}\n"),
     "broker.yaml:1: store.redis.sentinel.addresses: is required: host:port of at least one "
     "Sentinel\n"
     "broker.yaml:1: store.redis.sentinel.primary_name: is required: the Sentinels' name for the "
     "primary"},
    {"BadSentinel",
     Store("store: {redis: {sentinel: {addresses: ['s', 's:1'], primary_name: m, username: u}, "
           "replica_acks: 0}, allow_unsealed: true}\n"),
     "broker.yaml:1: store.redis.sentinel.addresses[0]: must be host:port, e.g. redis:6379\n"
     "broker.yaml:1: store.redis.sentinel.username: needs store.redis.sentinel.password_file"},
    {"BadCluster",
     Store("store: {redis: {cluster: {addresses: []}, database: 1, replica_acks: 0}, "
           "allow_unsealed: true}\n"),
     "broker.yaml:1: store.redis.cluster.addresses: is required: host:port of at least one node\n"
     "broker.yaml:1: store.redis.database: must be 0: a Redis Cluster has no others"},
    {"PasswordFileMissing",
     Store("store: {redis: {address: 'r:1', replica_acks: 0, password_file: nofile}, "
           "allow_unsealed: true}\n"),
     "broker.yaml:1: store.redis.password_file: file 'nofile' cannot be read: no such file"},
    {"PasswordFileIsEscapedOnce",
     Store("store: {redis: {address: 'r:1', replica_acks: 0, password_file: \"no\\tfile\"}, "
           "allow_unsealed: true}\n"),
     R"(broker.yaml:1: store.redis.password_file: file 'no\tfile' cannot be read: no such file)"},
    {"BadRedisTls",
     Store("store: {redis: {address: 'r:1', replica_acks: 0, tls: {ca_file: secret, "
           "certificate_file: tls.crt}}, allow_unsealed: true}\n"),
     "broker.yaml:1: store.redis.tls.ca_file: file 'secret' must hold PEM: -----BEGIN "
     "CERTIFICATE-----\n"
     "broker.yaml:1: store.redis.tls.key_file: is required: a client certificate needs its key, "
     "and a key its certificate"},
    {"KeyWithoutRedisCertificate",
     Store("store: {redis: {address: 'r:1', replica_acks: 0, tls: {key_file: tls.key}}, "
           "allow_unsealed: true}\n"),
     "broker.yaml:1: store.redis.tls.certificate_file: is required: a client certificate needs its "
     "key, and a key its certificate"},
    {"UnknownRisk",
     Store("store: {redis: {address: 'r:1', replica_acks: 0, accept_risks: [FIRE]}, "
           "allow_unsealed: true}\n"),
     "broker.yaml:1: store.redis.accept_risks[0]: must be one of EVICTION, NO_PERSISTENCE, "
     "TOO_FEW_REPLICAS, NO_QUARANTINE, not 'FIRE'"},
    {"NoQuarantine",
     Store("store: {redis: {address: 'r:1', replica_acks: 0, quarantine: 0s}, allow_unsealed: "
           "true}\n"),
     "broker.yaml:1: store.redis.quarantine: 0s must be accepted by name: "
     "store.redis.accept_risks: [NO_QUARANTINE]"},
    {"NoQuarantineByName",
     Store("store: {redis: {address: 'r:1', replica_acks: 0, quarantine: 0s, accept_risks: "
           "[NO_QUARANTINE]}, allow_unsealed: true}\n"),
     ""},
    {"ShortQuarantine",
     Store("store: {redis: {address: 'r:1', replica_acks: 0, quarantine: 19s}, allow_unsealed: "
           "true}\n"),
     "broker.yaml:1: store.redis.quarantine: must be at least protocol.sent_lease, so that a "
     "request to Zoho which the new primary does not know of is over"},
};

INSTANTIATE_TEST_SUITE_P(All, BadRedisTest, testing::ValuesIn(kBadConfigs),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace tokenbroker
