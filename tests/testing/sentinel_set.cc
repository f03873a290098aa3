#include "tests/testing/sentinel_set.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tokenbroker {
namespace {

// The number behind `name` in a flat list of names and values.
int64_t Field(const std::string& reply, const std::string& name) {
  const std::vector<std::string> words = absl::StrSplit(reply, '\n');
  for (size_t i = 0; i + 1 < words.size(); i += 2) {
    int64_t number = 0;
    if (words[i] == name && absl::SimpleAtoi(words[i + 1], &number)) return number;
  }
  return -1;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SentinelSet>> SentinelSet::Start(Options options) {
  std::unique_ptr<SentinelSet> set(new SentinelSet());
  for (int i = 0; i <= options.replicas; ++i) {
    RedisServer::Options one = options.server;
    if (i > 0) one.replica_of = set->servers_[0]->port();
    // It becomes a replica when another one was promoted.
    absl::StatusOr<std::unique_ptr<RedisServer>> server = RedisServer::Start(std::move(one));
    if (!server.ok()) return server.status();
    set->servers_.push_back(*std::move(server));
  }
  const uint16_t port = set->servers_[0]->port();
  const std::string name = kPrimaryName;
  for (int i = 0; i < options.sentinels; ++i) {
    RedisServer::Options one;
    one.sentinel = true;
    one.password = options.sentinel_password;
    one.users = options.sentinel_users;
    one.tls = options.server.tls;
    one.config = {
        absl::StrCat("sentinel monitor ", name, " 127.0.0.1 ", port, " ",
                     options.sentinels / 2 + 1),
        absl::StrCat("sentinel down-after-milliseconds ", name, " ",
                     absl::ToInt64Milliseconds(options.down_after)),
        absl::StrCat("sentinel failover-timeout ", name, " ",
                     absl::ToInt64Milliseconds(options.failover_timeout)),
        absl::StrCat("sentinel parallel-syncs ", name, " 8"),
    };
    if (!options.server.password.empty()) {
      one.config.push_back(absl::StrCat("sentinel auth-pass ", name, " ", options.server.password));
    }
    if (!options.sentinel_password.empty()) {
      one.config.push_back("sentinel sentinel-pass " + options.sentinel_password);
    }
    absl::StatusOr<std::unique_ptr<RedisServer>> sentinel = RedisServer::Start(std::move(one));
    if (!sentinel.ok()) return sentinel.status();
    set->sentinels_.push_back(*std::move(sentinel));
  }
  const auto knows_all = [&](const std::unique_ptr<RedisServer>& sentinel) {
    const absl::StatusOr<std::string> state = sentinel->Command({"SENTINEL", "MASTER", name});
    return state.ok() && Field(*state, "num-slaves") == options.replicas &&
           Field(*state, "num-other-sentinels") == options.sentinels - 1;
  };
  const bool together = WaitUntil([&] {
    if (static_cast<int>(set->replicas().size()) != options.replicas) return false;
    for (const auto& server : set->servers_) {
      if (server->port() != port && server->Info("replication", "master_link_status") != "up") {
        return false;
      }
    }
    return std::all_of(set->sentinels_.begin(), set->sentinels_.end(), knows_all);
  });
  if (!together) return absl::UnavailableError("the Sentinels do not come together");
  return set;
}

std::vector<uint16_t> SentinelSet::sentinel_ports() const {
  std::vector<uint16_t> ports;
  for (const auto& sentinel : sentinels_) ports.push_back(sentinel->port());
  return ports;
}

RedisServer* SentinelSet::ServerAt(uint16_t port) {
  for (const auto& server : servers_) {
    if (server->port() == port) return server.get();
  }
  return nullptr;
}

RedisServer* SentinelSet::primary() {
  std::map<RedisServer*, int> votes;
  int running = 0;
  for (const auto& sentinel : sentinels_) {
    if (sentinel->pid() < 0) continue;
    ++running;
    const absl::StatusOr<std::string> address =
        sentinel->Command({"SENTINEL", "GET-MASTER-ADDR-BY-NAME", kPrimaryName});
    if (!address.ok()) continue;
    const std::vector<std::string> words = absl::StrSplit(*address, '\n');
    int port = 0;
    if (words.size() == 2 && absl::SimpleAtoi(words[1], &port)) {
      ++votes[ServerAt(static_cast<uint16_t>(port))];
    }
  }
  for (const auto& [server, count] : votes) {
    if (count * 2 > running) return server;
  }
  return nullptr;
}

std::vector<RedisServer*> SentinelSet::replicas() {
  std::vector<RedisServer*> found;
  for (const auto& server : servers_) {
    if (server->pid() > 0 && server->Info("replication", "role") == "slave") {
      found.push_back(server.get());
    }
  }
  return found;
}

absl::Status SentinelSet::FailOver(absl::Duration timeout) {
  RedisServer* const old = primary();
  if (old == nullptr) return absl::UnavailableError("the Sentinels do not agree");
  // "NOGOODSLAVE" until the Sentinel has heard of the replicas' state.
  const auto begin = [&] {
    return sentinels_[0]->Command({"SENTINEL", "FAILOVER", kPrimaryName}).ok();
  };
  const bool begun = WaitUntil(begin, timeout);
  if (!begun) return absl::UnavailableError("the Sentinel begins no failover");
  return WaitForOtherPrimary(*old, timeout);
}

absl::Status SentinelSet::WaitForOtherPrimary(const RedisServer& old, absl::Duration timeout) {
  const bool changed = WaitUntil(
      [&] {
        const RedisServer* const now = primary();
        return now != nullptr && now != &old && now->Info("replication", "role") == "master";
      },
      timeout);
  return changed ? absl::OkStatus() : absl::UnavailableError("no other server became the primary");
}

}  // namespace tokenbroker
