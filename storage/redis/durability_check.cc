#include "storage/redis/durability_check.h"

#include <algorithm>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "storage/redis/info_fields.h"

namespace tokenbroker::redis {
namespace {

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

// "slave0:ip=…,port=…,state=online,…"; also as a later Redis may call it.
bool IsReplicaLine(std::string_view name) {
  for (const std::string_view prefix : {"slave", "replica"}) {
    if (name.size() > prefix.size() && name.starts_with(prefix) &&
        name.find_first_not_of("0123456789", prefix.size()) == std::string_view::npos) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::string_view DurabilityRiskName(DurabilityRisk risk) {
  switch (risk) {
    case DurabilityRisk::kEviction:
      return "EVICTION";
    case DurabilityRisk::kNoPersistence:
      return "NO_PERSISTENCE";
    case DurabilityRisk::kTooFewReplicas:
      return "TOO_FEW_REPLICAS";
  }
  return "";
}

std::vector<DurabilityProblem> CheckDurability(std::string_view info, int replica_acks) {
  std::string policy = "unknown";
  bool append_only = false;
  int online = 0;
  int listed = 0;
  int connected = 0;
  ForEachInfoField(info, [&](std::string_view name, std::string_view value) {
    if (name == "maxmemory_policy") policy = std::string(value.substr(0, 32));
    if (name == "aof_enabled") append_only = value == "1";
    if (name == "connected_slaves") (void)absl::SimpleAtoi(View(value), &connected);
    if (IsReplicaLine(name)) {
      ++listed;
      online += value.find("state=online") != std::string_view::npos ? 1 : 0;
    }
  });
  // Some services count the replicas and do not list them.
  const int replicas = listed > 0 ? online : connected;

  std::vector<DurabilityProblem> problems;
  if (policy != "noeviction") {
    problems.push_back(
        {DurabilityRisk::kEviction, absl::StrCat("its maxmemory-policy is ", policy,
                                                 ": it would drop grants when memory is short. Set "
                                                 "maxmemory-policy noeviction")});
  }
  if (!append_only) {
    problems.push_back({DurabilityRisk::kNoPersistence,
                        "it has no append-only file: a restart would lose grants. Set appendonly "
                        "yes"});
  }
  if (replicas < replica_acks) {
    problems.push_back(
        {DurabilityRisk::kTooFewReplicas,
         absl::StrCat("it has ", replicas, " replicas in step, and store.redis.replica_acks asks ",
                      replica_acks,
                      " of them to acknowledge writes. Add replicas, or lower "
                      "replica_acks")});
  }
  return problems;
}

}  // namespace tokenbroker::redis
