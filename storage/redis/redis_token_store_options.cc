#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "storage/redis/redis_token_store.h"

namespace tokenbroker {
namespace {

absl::string_view View(std::string_view s) { return {s.data(), s.size()}; }

}  // namespace

absl::Status RedisTokenStoreOptions::Validate() const {
  std::vector<std::string> violations;
  const auto require = [&](bool holds, std::string rule) {
    if (!holds) violations.push_back(std::move(rule));
  };
  const auto require_endpoints = [&](const std::vector<RedisEndpoint>& endpoints,
                                     std::string_view name) {
    require(!endpoints.empty(), absl::StrCat(View(name), " must not be empty"));
    for (const RedisEndpoint& endpoint : endpoints) {
      require(!endpoint.host.empty() && endpoint.port != 0,
              absl::StrCat(View(name), " must have a host and a port each"));
    }
  };
  const int places = int{!host.empty()} + int{sentinel.has_value()} + int{cluster.has_value()};
  require(places == 1, "exactly one of host, sentinel and cluster must be given");
  require(sentinel || cluster || port != 0, "port must not be 0");
  if (sentinel) {
    require_endpoints(sentinel->endpoints, "sentinel.endpoints");
    require(!sentinel->primary_name.empty(), "sentinel.primary_name must not be empty");
    require(sentinel->username.empty() || sentinel->password != nullptr,
            "sentinel.username needs a password");
  }
  if (cluster) {
    require_endpoints(cluster->seeds, "cluster.seeds");
    require(database == 0, "database must be 0 in a cluster");
  }
  require(quarantine >= absl::ZeroDuration() && quarantine <= absl::Minutes(10),
          "quarantine must be between 0 and 10 min");
  require(username.empty() || password != nullptr, "a username needs a password");
  require(database >= 0, "database must not be negative");
  require(!key_prefix.empty() && key_prefix.size() <= 64, "key_prefix must have 1 to 64 bytes");
  require(key_prefix.find_first_of("{}") == std::string::npos, "key_prefix must have no braces");
  require(replica_acks >= 0, "replica_acks must not be negative");
  require(replica_ack_timeout >= absl::Milliseconds(1) && replica_ack_timeout <= absl::Minutes(1),
          "replica_ack_timeout must be between 1 ms and 60 s");
  require(pool_size >= 1 && pool_size <= 10'000, "pool_size must be between 1 and 10000");
  require(connect_timeout >= absl::Milliseconds(1) && connect_timeout <= absl::Minutes(1),
          "connect_timeout must be between 1 ms and 60 s");
  require(command_timeout >= absl::Milliseconds(1) && command_timeout <= absl::Minutes(1),
          "command_timeout must be between 1 ms and 60 s");
  require(tries >= 1 && tries <= 10, "tries must be between 1 and 10");
  if (const absl::Status kept = limits.Validate(); !kept.ok()) {
    violations.emplace_back(kept.message());
  }
  if (violations.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrJoin(violations, "; "));
}

}  // namespace tokenbroker
