// RedisTokenStore's look at the servers behind it.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "common/status_macros.h"
#include "storage/redis/durability_check.h"
#include "storage/redis/redis_token_store.h"
#include "storage/redis/redis_token_store_parts.h"
#include "storage/redis/topology.h"

namespace tokenbroker {

absl::StatusOr<std::vector<redis::DurabilityProblem>> RedisTokenStore::CheckDurability() {
  TB_ASSIGN_OR_RETURN(const std::vector<std::string> tags, parts_->client.topology().ShardTags());
  const redis::Command sections[] = {
      {"INFO", "memory"}, {"INFO", "persistence"}, {"INFO", "replication"}};
  std::vector<redis::DurabilityProblem> problems;
  absl::Status failure = StoreUnavailableError("no Redis shard is known");
  bool answered = false;
  for (const std::string& tag : tags) {
    // Any key of the shard leads to its primary.
    const std::string key = redis::ShardKey(options_.key_prefix, "writable", tag);
    const absl::StatusOr<std::vector<redis::Reply>> replies = parts_->client.Run(key, sections);
    if (!replies.ok()) {
      failure = replies.status();
      continue;
    }
    answered = true;
    std::string info;
    for (const redis::Reply& reply : *replies) {
      const std::string_view text = reply.view().text();
      absl::StrAppend(&info, absl::string_view(text.data(), text.size()), "\n");
    }
    for (redis::DurabilityProblem& found : redis::CheckDurability(info, options_.replica_acks)) {
      // Shards are mostly set up alike.
      const bool known = std::any_of(
          problems.begin(), problems.end(),
          [&found](const redis::DurabilityProblem& problem) { return problem.text == found.text; });
      if (!known) problems.push_back(std::move(found));
    }
  }
  if (!answered) return failure;
  return problems;
}

}  // namespace tokenbroker
