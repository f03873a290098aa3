#include "tests/testing/redis_cluster.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tokenbroker {
namespace {

using Words = std::vector<std::string>;

absl::Status Order(const RedisServer& server, const Words& words) {
  const absl::StatusOr<std::string> reply = server.Command(words);
  if (reply.ok()) return absl::OkStatus();
  return absl::Status(reply.status().code(),
                      absl::StrCat(words[0], " ", words.size() > 1 ? words[1] : "", ": ",
                                   reply.status().message()));
}

std::string Line(const RedisServer& server, const std::string& name) {
  const absl::StatusOr<std::string> info = server.Command({"CLUSTER", "INFO"});
  if (!info.ok()) return "";
  for (const std::string& line : Words(absl::StrSplit(*info, "\r\n"))) {
    if (absl::StartsWith(line, name + ":")) return line.substr(name.size() + 1);
  }
  return "";
}

// "id=slots" of every primary, in order, as `server` sees it.
std::string View(const RedisServer& server) {
  const absl::StatusOr<std::string> nodes = server.Command({"CLUSTER", "NODES"});
  if (!nodes.ok()) return "";
  std::set<std::string> primaries;
  for (const std::string& line : Words(absl::StrSplit(*nodes, '\n'))) {
    const Words words = absl::StrSplit(line, ' ');
    if (words.size() < 9 || !absl::StrContains(words[2], "master")) continue;
    std::string entry = words[0] + "=";
    for (size_t i = 8; i < words.size(); ++i) {
      // "[slot->-id]": a move that only its two ends know of.
      if (!absl::StartsWith(words[i], "[")) absl::StrAppend(&entry, words[i], ",");
    }
    primaries.insert(entry);
  }
  std::string view;
  for (const std::string& entry : primaries) absl::StrAppend(&view, entry, ";");
  return view;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RedisCluster>> RedisCluster::Start(Options options) {
  std::unique_ptr<RedisCluster> cluster(new RedisCluster(std::move(options)));
  for (int i = 0; i < cluster->options_.primaries + cluster->options_.replicas; ++i) {
    RedisServer::Options one = cluster->options_.server;
    one.cluster = true;
    one.config.push_back(absl::StrCat("cluster-node-timeout ",
                                      absl::ToInt64Milliseconds(cluster->options_.node_timeout)));
    absl::StatusOr<std::unique_ptr<RedisServer>> node = RedisServer::Start(std::move(one));
    if (!node.ok()) return node.status();
    const absl::StatusOr<std::string> id = (*node)->Command({"CLUSTER", "MYID"});
    if (!id.ok()) return id.status();
    cluster->nodes_.push_back(*std::move(node));
    cluster->ids_.push_back(*id);
  }
  if (absl::Status status = cluster->Join(); !status.ok()) return status;
  return cluster;
}

absl::Status RedisCluster::Join() {
  const int primaries = options_.primaries;
  for (int i = 0; i < nodes(); ++i) {
    // Different epochs from the start, as redis-cli does: else the nodes have to settle them first.
    if (absl::Status status = Order(node(i), {"CLUSTER", "SET-CONFIG-EPOCH", absl::StrCat(i + 1)});
        !status.ok()) {
      return status;
    }
    if (i >= primaries) continue;
    const int first = kSlots * i / primaries;
    const int last = kSlots * (i + 1) / primaries - 1;
    if (absl::Status status =
            Order(node(i), {"CLUSTER", "ADDSLOTSRANGE", absl::StrCat(first), absl::StrCat(last)});
        !status.ok()) {
      return status;
    }
  }
  for (int i = 1; i < nodes(); ++i) {
    if (absl::Status status =
            Order(node(i), {"CLUSTER", "MEET", "127.0.0.1", absl::StrCat(node(0).port()),
                            absl::StrCat(node(0).bus_port())});
        !status.ok()) {
      return status;
    }
  }
  for (int i = primaries; i < nodes(); ++i) {
    // Refused until gossip has brought the primary's name.
    absl::Status status;
    const bool done = WaitUntil([&] {
      status = Order(node(i), {"CLUSTER", "REPLICATE", ids_[(i - primaries) % primaries]});
      return status.ok();
    });
    if (!done) return status;
  }
  return WaitUntilWell();
}

std::vector<uint16_t> RedisCluster::ports() const {
  std::vector<uint16_t> ports;
  for (const auto& node : nodes_) ports.push_back(node->port());
  return ports;
}

absl::StatusOr<int> RedisCluster::SlotOf(const std::string& key) {
  for (const auto& node : nodes_) {
    if (node->pid() < 0) continue;
    const absl::StatusOr<std::string> slot = node->Command({"CLUSTER", "KEYSLOT", key});
    int number = 0;
    if (slot.ok() && absl::SimpleAtoi(*slot, &number)) return number;
  }
  return absl::UnavailableError("no node answers");
}

std::string RedisCluster::IdOf(const RedisServer& node) const {
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].get() == &node) return ids_[i];
  }
  return "";
}

RedisServer* RedisCluster::NodeById(const std::string& id) {
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (ids_[i] == id) return nodes_[i].get();
  }
  return nullptr;
}

RedisServer* RedisCluster::PrimaryOf(int slot) {
  for (RedisServer* const primary : primaries()) {
    const absl::StatusOr<std::string> nodes = primary->Command({"CLUSTER", "NODES"});
    if (!nodes.ok()) continue;
    for (const std::string& line : Words(absl::StrSplit(*nodes, '\n'))) {
      const Words words = absl::StrSplit(line, ' ');
      if (words.size() < 9 || words[0] != IdOf(*primary)) continue;
      for (size_t i = 8; i < words.size(); ++i) {
        const Words ends = absl::StrSplit(words[i], '-');
        int first = 0;
        int last = 0;
        if (absl::SimpleAtoi(ends.front(), &first) && absl::SimpleAtoi(ends.back(), &last) &&
            first <= slot && slot <= last) {
          return primary;
        }
      }
    }
  }
  return nullptr;
}

std::vector<RedisServer*> RedisCluster::primaries() {
  std::vector<RedisServer*> found;
  for (const auto& node : nodes_) {
    if (node->pid() > 0 && node->Info("replication", "role") == "master") {
      found.push_back(node.get());
    }
  }
  return found;
}

absl::Status RedisCluster::BeginMove(int slot, RedisServer& to) {
  RedisServer* const from = PrimaryOf(slot);
  if (from == nullptr || from == &to) return absl::FailedPreconditionError("nothing to move");
  const std::string number = absl::StrCat(slot);
  if (absl::Status status = Order(to, {"CLUSTER", "SETSLOT", number, "IMPORTING", IdOf(*from)});
      !status.ok()) {
    return status;
  }
  return Order(*from, {"CLUSTER", "SETSLOT", number, "MIGRATING", IdOf(to)});
}

absl::Status RedisCluster::MoveKeys(int slot, RedisServer& to) {
  RedisServer* const from = PrimaryOf(slot);
  if (from == nullptr) return absl::FailedPreconditionError("nobody serves the slot");
  while (true) {
    const absl::StatusOr<std::string> keys =
        from->Command({"CLUSTER", "GETKEYSINSLOT", absl::StrCat(slot), "100"});
    if (!keys.ok()) return keys.status();
    if (keys->empty()) return absl::OkStatus();
    Words words = {"MIGRATE", "127.0.0.1", absl::StrCat(to.port()), "", "0", "5000"};
    if (!options_.server.password.empty()) {
      words.insert(words.end(), {"AUTH", options_.server.password});
    }
    words.push_back("KEYS");
    for (const std::string& key : Words(absl::StrSplit(*keys, '\n'))) words.push_back(key);
    if (absl::Status status = Order(*from, words); !status.ok()) return status;
  }
}

absl::Status RedisCluster::FinishMove(int slot, RedisServer& to) {
  const Words words = {"CLUSTER", "SETSLOT", absl::StrCat(slot), "NODE", IdOf(to)};
  // The new owner first, so that there is always one.
  if (absl::Status status = Order(to, words); !status.ok()) return status;
  for (RedisServer* const node : primaries()) {
    if (node == &to) continue;
    if (absl::Status status = Order(*node, words); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status RedisCluster::Move(int slot, RedisServer& to) {
  if (absl::Status status = BeginMove(slot, to); !status.ok()) return status;
  if (absl::Status status = MoveKeys(slot, to); !status.ok()) return status;
  return FinishMove(slot, to);
}

absl::Status RedisCluster::FailOver(RedisServer& replica, absl::Duration timeout) {
  if (absl::Status status = Order(replica, {"CLUSTER", "FAILOVER"}); !status.ok()) return status;
  if (!WaitUntil([&] { return replica.Info("replication", "role") == "master"; }, timeout)) {
    return absl::UnavailableError("the replica did not become the primary");
  }
  return WaitUntilWell(timeout);
}

absl::Status RedisCluster::WaitUntilWell(absl::Duration timeout) {
  const bool well = WaitUntil(
      [&] {
        std::set<std::string> views;
        for (const auto& node : nodes_) {
          if (node->pid() < 0) continue;
          if (Line(*node, "cluster_state") != "ok" ||
              Line(*node, "cluster_slots_ok") != absl::StrCat(kSlots) ||
              Line(*node, "cluster_known_nodes") != absl::StrCat(nodes())) {
            return false;
          }
          if (node->Info("replication", "role") == "slave" &&
              node->Info("replication", "master_link_status") != "up") {
            return false;
          }
          views.insert(View(*node));
        }
        return views.size() == 1 && !views.begin()->empty();
      },
      timeout);
  return well ? absl::OkStatus() : absl::UnavailableError("the cluster does not become well");
}

}  // namespace tokenbroker
