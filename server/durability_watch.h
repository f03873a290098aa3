#ifndef TOKEN_BROKER_SERVER_DURABILITY_WATCH_H_
#define TOKEN_BROKER_SERVER_DURABILITY_WATCH_H_

#include <array>
#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/config/settings.h"
#include "server/ops/log.h"
#include "server/ops/metrics.h"
#include "storage/redis/durability_check.h"

namespace tokenbroker {

// Whether the Redis behind the store keeps what it is given: judged when it is first seen, and
// watched from then on. A part of the composition root. Look is for one thread.
class DurabilityWatch {
 public:
  using Check = std::function<absl::StatusOr<std::vector<redis::DurabilityProblem>>()>;

  // A null `check` finds nothing: the store is not Redis. `log` is borrowed.
  DurabilityWatch(Check check, const std::vector<RedisRisk>& accepted, EventLog* log);

  // Asks the server. OK: it is fine, or does not answer, or has become unsafe after it was fine,
  // which is logged when it begins and when it ends. FAILED_PRECONDITION: the first server that
  // answered could lose grants in ways that are not accepted; says all of them, what to change, and
  // how to accept them.
  absl::Status Look();

  // 1 for each risk that is there and not accepted, else 0; empty where there is no `check`.
  // Thread-safe.
  Metrics::Samples risks() const;

 private:
  static constexpr int kRisks = 3;

  const Check check_;
  std::array<bool, kRisks> accepted_ = {};
  EventLog* const log_;
  bool seen_ = false;
  std::array<std::atomic<bool>, kRisks> present_ = {};
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_DURABILITY_WATCH_H_
