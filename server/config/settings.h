#ifndef TOKEN_BROKER_SERVER_CONFIG_SETTINGS_H_
#define TOKEN_BROKER_SERVER_CONFIG_SETTINGS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "clients/zoho/data_center.h"
#include "clients/zoho/oauth_client.h"
#include "common/secret.h"
#include "server/config/command_line.h"
#include "server/ops/log_level.h"
#include "storage/protocol_limits.h"

// The validated configuration as plain C++: defaults filled in, files read, every rule checked.
// What the options mean is written once, in protos/tokenbroker/config/v1/config.proto.
//
//   const CommandLine line = ParseCommandLine(arguments, ProcessEnvironment());
//   const absl::StatusOr<Settings> settings = LoadSettings(line, ReadFileFromDisk);
//   if (!settings.ok()) std::cerr << settings.status().message() << '\n';  // every problem, by
//   line
namespace tokenbroker {

struct TlsSettings {
  std::string cert_chain_pem;
  Secret private_key_pem;
  std::string client_ca_pem;  // "": callers need no certificate
};

struct GrpcSettings {
  std::string listen;  // "host:port"; IPv6 hosts in brackets
  std::optional<TlsSettings> tls;
  int max_request_bytes = 0;
  int max_concurrent_streams = 0;
  absl::Duration max_connection_age;
  absl::Duration max_connection_age_grace;
  absl::Duration keepalive_time;
  absl::Duration keepalive_timeout;
  int memory_quota_mib = 0;
  absl::Duration drain_timeout;
};

struct OpsSettings {
  std::string listen;
  std::string callback_listen;  // "": the callback page is served on `listen`
};

struct SqliteSettings {
  std::string path;
  absl::Duration busy_timeout;
};

struct RedisAddress {
  std::string host;  // without brackets
  int port = 0;
};

// Reads a password from its file, which may have changed: one line, else an error that names the
// file and nothing in it. Thread-safe. Null: there is none.
using PasswordReader = std::function<absl::StatusOr<Secret>()>;

struct RedisSentinelSettings {
  std::vector<RedisAddress> addresses;
  std::string primary_name;
  std::string username;  // "": the default user
  PasswordReader password;
};

// Paths, readable at the time of the check.
struct RedisTlsSettings {
  std::string ca_file;           // "": the system's CAs
  std::string certificate_file;  // "": no client certificate
  std::string key_file;
  std::string server_name;  // "": the host that is connected to
};

// As in the schema.
enum class RedisRisk { kEviction, kNoPersistence, kTooFewReplicas, kNoQuarantine };

// Exactly one of `address`, `sentinel` and `cluster` is set.
struct RedisSettings {
  std::optional<RedisAddress> address;
  std::optional<RedisSentinelSettings> sentinel;
  std::optional<std::vector<RedisAddress>> cluster;
  std::optional<RedisTlsSettings> tls;  // nullopt: plain text
  std::string username;                 // "": the default user
  PasswordReader password;
  int database = 0;
  std::string key_prefix;
  int replica_acks = 0;
  absl::Duration replica_ack_timeout;
  absl::Duration quarantine;
  std::vector<RedisRisk> accepted_risks;
  int pool_size = 0;
  absl::Duration command_timeout;
  absl::Duration connect_timeout;
};

struct SealingKeySettings {
  std::string id;
  Secret key;  // 32 bytes, decoded
};

// Exactly one of `sqlite` and `redis` is set.
struct StoreSettings {
  std::optional<SqliteSettings> sqlite;
  std::optional<RedisSettings> redis;
  std::vector<SealingKeySettings> keyring;  // empty: tokens are stored in clear text, as allowed
};

struct ZohoSettings {
  bool allow_plaintext_loopback = false;
  // Path, readable at the time of the check: CAs besides the system's; "": none.
  std::string ca_file;
  std::string user_agent;
};

struct IssuingSettings {
  absl::Duration refresh_ahead;
  absl::Duration refresh_ahead_jitter;
  absl::Duration forced_refresh;
  absl::Duration min_lifetime;
  int lane_threads = 0;
  int lane_queue = 0;
  int cache_entries = 0;
  absl::Duration default_deadline;
  absl::Duration unheard_recheck;
  int breaker_failures = 0;
  absl::Duration breaker_open;
};

struct ConsentSettings {
  std::string callback_url;
  std::string callback_path;  // of the URL; begins with "/"
  absl::Duration state_lifetime;
  Secret state_key;  // 32 bytes, decoded
};

struct LogSettings {
  LogLevel level = LogLevel::kInfo;
  bool cached_calls = true;
};

struct Settings {
  GrpcSettings grpc;
  OpsSettings ops;
  StoreSettings store;
  OAuthClientRegistry oauth_clients;
  DataCenterTable data_centers;
  ZohoSettings zoho;
  IssuingSettings issuing;
  std::optional<ConsentSettings> consent;
  LogSettings log;
  ProtocolLimits protocol;
  // The whole configuration after defaults, environment and flags, as YAML that can be loaded
  // again. Holds the names of secret files, never their contents.
  std::string effective_yaml;
};

// Reads a whole file of at most `max_bytes`. NOT_FOUND, PERMISSION_DENIED, or another error whose
// message is fit for an operator and does not repeat the path.
using FileReader =
    std::function<absl::StatusOr<std::string>(const std::string& path, size_t max_bytes)>;
absl::StatusOr<std::string> ReadFileFromDisk(const std::string& path, size_t max_bytes);

// Reads the configuration file that `line` names, applies the overrides, checks every rule and
// reads every file it refers to. Opens no port and no store. INVALID_ARGUMENT: all problems at
// once, one line each: "broker.yaml:12: store.redis.address: …".
absl::StatusOr<Settings> LoadSettings(const CommandLine& line, const FileReader& read_file);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_CONFIG_SETTINGS_H_
