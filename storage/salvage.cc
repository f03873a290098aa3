// The part of the protocol that is about records which cannot be read.
#include <algorithm>
#include <cstdint>

#include "storage/protocol.h"

namespace tokenbroker {

GrantRecord SalvageRecord(const GrantKey& key, const GrantRecord& damaged, absl::Time now) {
  now = ToMilliseconds(now);
  const int64_t beyond = absl::ToUnixMillis(now);
  const auto sane = [&](int64_t count) { return count >= 0 && count < beyond ? count : beyond; };
  GrantRecord record;
  record.key = key;
  record.generation = sane(damaged.generation);
  record.epoch = sane(damaged.epoch);
  if (damaged.state == GrantState::kReserved) record.state = damaged.state;
  for (const absl::Time sent : damaged.sends) {
    if (sent <= now) record.sends.push_back(sent);
  }
  record.throttled_until = damaged.throttled_until;
  record.created = std::min(damaged.created, now);
  if (record.created == absl::InfinitePast()) record.created = now;
  return record;
}

}  // namespace tokenbroker
