#include "storage/protocol_limits.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tokenbroker {

std::vector<ProtocolLimits::Violation> ProtocolLimits::Violations() const {
  std::vector<Violation> violations;
  const auto require = [&](bool holds, std::string field, std::string rule) {
    if (!holds) violations.push_back({std::move(field), std::move(rule)});
  };
  const absl::Duration zero = absl::ZeroDuration();

  for (const auto& [name, value] :
       {std::pair{"pre_send_lease", pre_send_lease}, std::pair{"sent_lease", sent_lease},
        std::pair{"connect_timeout", connect_timeout},
        std::pair{"response_timeout", response_timeout}, std::pair{"commit_budget", commit_budget},
        std::pair{"throttle_cooldown", throttle_cooldown}}) {
    // A day: far above any sense, far below what milliseconds in 53 bits hold.
    require(value >= absl::Milliseconds(1) && value <= absl::Hours(24), name,
            "must be between 1 ms and 24 h");
  }
  require(clock_drift >= zero && clock_drift <= absl::Hours(24), "clock_drift",
          "must be between 0 and 24 h");
  const auto require_longer = [&](absl::Duration lease, std::string field, absl::Duration than,
                                  std::string_view sum) {
    require(lease > than, std::move(field),
            absl::StrCat("must be greater than ", absl::string_view(sum.data(), sum.size()), " (",
                         absl::FormatDuration(than), "), and is ", absl::FormatDuration(lease)));
  };
  require_longer(pre_send_lease, "pre_send_lease", connect_timeout + clock_drift,
                 "connect_timeout + clock_drift");
  require_longer(sent_lease, "sent_lease", response_timeout + commit_budget + clock_drift,
                 "response_timeout + commit_budget + clock_drift");

  require(!budget.empty(), "budget", "must have a window");
  require(background_reserve >= 0, "background_reserve", "must not be negative");
  for (size_t i = 0; i < budget.size(); ++i) {
    const std::string window = absl::StrCat("budget[", i, "]");
    require(budget[i].sends > background_reserve && budget[i].sends <= 100, window + ".sends",
            absl::StrCat("must be more than background_reserve (", background_reserve,
                         ") and at most 100"));
    require(budget[i].length >= absl::Milliseconds(1) && budget[i].length <= absl::Hours(24),
            window + ".length", "must be between 1 ms and 24 h");
  }
  require(!failure_backoff.empty(), "failure_backoff", "must have a step");
  for (size_t i = 0; i < failure_backoff.size(); ++i) {
    require(failure_backoff[i] >= zero && failure_backoff[i] <= absl::Hours(24),
            absl::StrCat("failure_backoff[", i, "]"), "must be between 0 and 24 h");
  }
  return violations;
}

absl::Status ProtocolLimits::Validate() const {
  const std::vector<Violation> violations = Violations();
  if (violations.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrJoin(violations, "; ", [](std::string* out, const Violation& violation) {
        absl::StrAppend(out, violation.field, " ", violation.rule);
      }));
}

}  // namespace tokenbroker
