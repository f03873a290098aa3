#ifndef TOKEN_BROKER_STORAGE_REDIS_DURABILITY_CHECK_H_
#define TOKEN_BROKER_STORAGE_REDIS_DURABILITY_CHECK_H_

#include <string>
#include <string_view>
#include <vector>

namespace tokenbroker::redis {

// How a Redis can lose grants that it has acknowledged. The names are those of
// store.redis.accept_risks in the configuration.
enum class DurabilityRisk {
  kEviction,        // it drops keys when memory is short
  kNoPersistence,   // a restart brings back an empty or an old data set
  kTooFewReplicas,  // a failover has nobody to go to, and no write can be acknowledged
};
std::string_view DurabilityRiskName(DurabilityRisk risk);  // "EVICTION", …

struct DurabilityProblem {
  DurabilityRisk risk = DurabilityRisk::kEviction;
  std::string text;  // what is wrong, and what to change
};

// All that a primary's answer to INFO (its sections memory, persistence and replication) says
// against keeping grants there. Only INFO is looked at, because managed services forbid CONFIG;
// what it does not say is taken for the worst. Replicas that are still being filled do not count.
std::vector<DurabilityProblem> CheckDurability(std::string_view info, int replica_acks);

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_DURABILITY_CHECK_H_
