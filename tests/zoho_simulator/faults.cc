#include "tests/zoho_simulator/faults.h"

#include <algorithm>
#include <array>
#include <utility>

namespace tokenbroker::zoho_simulator {
namespace {

constexpr std::array<std::pair<FaultKind, std::string_view>, 14> kKinds = {
    {{FaultKind::kNone, "none"},
     {FaultKind::kResetBeforeProcessing, "reset_before_processing"},
     {FaultKind::kResetAfterProcessing, "reset_after_processing"},
     {FaultKind::kHang, "hang"},
     {FaultKind::kHangAfterProcessing, "hang_after_processing"},
     {FaultKind::kStatus, "status"},
     {FaultKind::kHtml, "html"},
     {FaultKind::kEmpty, "empty"},
     {FaultKind::kHugeBody, "huge_body"},
     {FaultKind::kRedirect, "redirect"},
     {FaultKind::kGarbageJson, "garbage_json"},
     {FaultKind::kTooManyRequests, "too_many_requests"},
     {FaultKind::kThrottle, "throttle"},
     {FaultKind::kTruncate, "truncate"}}};

constexpr std::array<std::pair<AcceptMode, std::string_view>, 4> kModes = {
    {{AcceptMode::kServe, "serve"},
     {AcceptMode::kRefuse, "refuse"},
     {AcceptMode::kReset, "reset"},
     {AcceptMode::kStall, "stall"}}};

bool Fits(const std::string& wanted, std::string_view value) {
  return wanted.empty() || wanted == value;
}

}  // namespace

std::string_view AcceptModeName(AcceptMode mode) {
  for (const auto& [candidate, name] : kModes) {
    if (candidate == mode) return name;
  }
  return "";
}

std::optional<AcceptMode> ParseAcceptMode(std::string_view name) {
  for (const auto& [mode, candidate] : kModes) {
    if (candidate == name) return mode;
  }
  return std::nullopt;
}

std::string_view FaultKindName(FaultKind kind) {
  for (const auto& [candidate, name] : kKinds) {
    if (candidate == kind) return name;
  }
  return "";
}

std::optional<FaultKind> ParseFaultKind(std::string_view name) {
  for (const auto& [kind, candidate] : kKinds) {
    if (candidate == name) return kind;
  }
  return std::nullopt;
}

uint64_t FaultRules::Add(FaultRule rule) {
  MutexLock lock(mutex_);
  rules_.push_back({next_id_, std::move(rule)});
  return next_id_++;
}

std::optional<Fault> FaultRules::Take(const FaultSubject& subject) {
  MutexLock lock(mutex_);
  std::optional<Fault> sum;
  for (Numbered& numbered : rules_) {
    FaultRule& rule = numbered.rule;
    if (!Fits(rule.dc, subject.dc) || !Fits(rule.path, subject.path) ||
        !Fits(rule.grant_type, subject.grant_type) || !Fits(rule.client_id, subject.client_id) ||
        !Fits(rule.org_id, subject.org_id) || rule.times == 0) {
      continue;
    }
    const Fault& fault = rule.fault;
    // One harm per request: the second rule waits for its turn.
    const bool harmful = fault.kind != FaultKind::kNone;
    if (harmful && sum.has_value() && sum->kind != FaultKind::kNone) continue;
    if (rule.times > 0) --rule.times;
    if (!sum.has_value()) {
      sum = fault;
      continue;
    }
    const Fault before = *sum;
    if (harmful) {
      sum = fault;
      if (!sum->drip_interval.has_value()) {
        sum->drip_interval = before.drip_interval;
        sum->drip_bytes = before.drip_bytes;
      }
    } else if (!sum->drip_interval.has_value()) {
      sum->drip_interval = fault.drip_interval;
      sum->drip_bytes = fault.drip_bytes;
    }
    sum->delay = std::max(before.delay, fault.delay);
    sum->reply_delay = std::max(before.reply_delay, fault.reply_delay);
  }
  std::erase_if(rules_, [](const Numbered& numbered) { return numbered.rule.times == 0; });
  return sum;
}

bool FaultRules::Remove(uint64_t id) {
  MutexLock lock(mutex_);
  return std::erase_if(rules_, [&](const Numbered& numbered) { return numbered.id == id; }) != 0;
}

void FaultRules::Clear(std::string_view dc) {
  MutexLock lock(mutex_);
  std::erase_if(rules_,
                [&](const Numbered& numbered) { return dc.empty() || numbered.rule.dc == dc; });
}

std::vector<FaultRules::Numbered> FaultRules::List() const {
  MutexLock lock(mutex_);
  return rules_;
}

}  // namespace tokenbroker::zoho_simulator
