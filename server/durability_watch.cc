#include "server/durability_watch.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tokenbroker {
namespace {

using redis::DurabilityProblem;
using redis::DurabilityRisk;
using redis::DurabilityRiskName;

size_t Index(DurabilityRisk risk) { return static_cast<size_t>(risk); }

std::string Name(DurabilityRisk risk) { return std::string(DurabilityRiskName(risk)); }

}  // namespace

DurabilityWatch::DurabilityWatch(Check check, const std::vector<RedisRisk>& accepted, EventLog* log)
    : check_(std::move(check)), log_(log) {
  for (const RedisRisk risk : accepted) {
    switch (risk) {
      case RedisRisk::kEviction:
        accepted_[Index(DurabilityRisk::kEviction)] = true;
        break;
      case RedisRisk::kNoPersistence:
        accepted_[Index(DurabilityRisk::kNoPersistence)] = true;
        break;
      case RedisRisk::kTooFewReplicas:
        accepted_[Index(DurabilityRisk::kTooFewReplicas)] = true;
        break;
      case RedisRisk::kNoQuarantine:  // the store's own matter
        break;
    }
  }
}

absl::Status DurabilityWatch::Look() {
  if (!check_) return absl::OkStatus();
  const absl::StatusOr<std::vector<DurabilityProblem>> problems = check_();
  // Why it does not answer is told by whoever needs it.
  if (!problems.ok()) return absl::OkStatus();
  std::vector<std::string> texts;
  std::vector<std::string> names;
  std::array<bool, kRisks> present = {};
  for (const DurabilityProblem& problem : *problems) {
    if (accepted_[Index(problem.risk)]) continue;
    texts.push_back(problem.text);
    if (!present[Index(problem.risk)]) names.push_back(Name(problem.risk));
    present[Index(problem.risk)] = true;
  }
  const std::string text = absl::StrJoin(texts, "; ");
  bool changed = false;
  for (size_t i = 0; i < present.size(); ++i)
    changed |= present_[i].exchange(present[i]) != present[i];
  const bool first = !std::exchange(seen_, true);
  if (first && !texts.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "this Redis could lose grants: ", text,
        ". Or accept it by name: store.redis.accept_risks: [", absl::StrJoin(names, ", "), "]"));
  }
  if (changed) {
    log_->Event(texts.empty() ? LogLevel::kInfo : LogLevel::kError, "store_durability",
                {{"safe", texts.empty()}, {"error", text}});
  }
  return absl::OkStatus();
}

Metrics::Samples DurabilityWatch::risks() const {
  Metrics::Samples samples;
  if (!check_) return samples;
  for (size_t i = 0; i < present_.size(); ++i) {
    samples.push_back({{Name(static_cast<DurabilityRisk>(i))}, present_[i] ? 1.0 : 0.0});
  }
  return samples;
}

}  // namespace tokenbroker
