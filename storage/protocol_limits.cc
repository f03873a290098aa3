#include "storage/protocol_limits.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tokenbroker {

absl::Status ProtocolLimits::Validate() const {
  std::vector<std::string> violations;
  const auto require = [&](bool holds, std::string rule) {
    if (!holds) violations.push_back(std::move(rule));
  };
  const absl::Duration zero = absl::ZeroDuration();

  for (const auto& [name, value] :
       {std::pair{"pre_send_lease", pre_send_lease}, std::pair{"sent_lease", sent_lease},
        std::pair{"connect_timeout", connect_timeout},
        std::pair{"response_timeout", response_timeout}, std::pair{"commit_budget", commit_budget},
        std::pair{"throttle_cooldown", throttle_cooldown}}) {
    // A day: far above any sense, far below what milliseconds in 53 bits hold.
    require(value >= absl::Milliseconds(1) && value <= absl::Hours(24),
            absl::StrCat(name, " must be between 1 ms and 24 h"));
  }
  require(clock_drift >= zero && clock_drift <= absl::Hours(24),
          "clock_drift must be between 0 and 24 h");
  require(connect_timeout + clock_drift < pre_send_lease,
          absl::StrCat("connect_timeout + clock_drift (",
                       absl::FormatDuration(connect_timeout + clock_drift),
                       ") must be less than pre_send_lease (", absl::FormatDuration(pre_send_lease),
                       ")"));
  require(response_timeout + commit_budget + clock_drift < sent_lease,
          absl::StrCat("response_timeout + commit_budget + clock_drift (",
                       absl::FormatDuration(response_timeout + commit_budget + clock_drift),
                       ") must be less than sent_lease (", absl::FormatDuration(sent_lease), ")"));

  require(!budget.empty(), "budget must have a window");
  require(background_reserve >= 0, "background_reserve must not be negative");
  for (const Window& window : budget) {
    require(window.sends > background_reserve && window.sends <= 100,
            "every budget window must allow more sends than background_reserve, and at most 100");
    require(window.length >= absl::Milliseconds(1) && window.length <= absl::Hours(24),
            "every budget window must be between 1 ms and 24 h long");
  }
  require(!failure_backoff.empty(), "failure_backoff must have a step");
  for (absl::Duration step : failure_backoff) {
    require(step >= zero && step <= absl::Hours(24),
            "every step of failure_backoff must be between 0 and 24 h");
  }
  if (violations.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrJoin(violations, "; "));
}

}  // namespace tokenbroker
