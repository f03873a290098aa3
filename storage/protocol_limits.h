#ifndef TOKEN_BROKER_STORAGE_PROTOCOL_LIMITS_H_
#define TOKEN_BROKER_STORAGE_PROTOCOL_LIMITS_H_

#include <algorithm>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace tokenbroker {

// The refresh protocol's numbers. Every replica on one store must run with the same ones. Tests
// scale them down; `Validate` keeps the inequalities that the protocol's safety rests on.
struct ProtocolLimits {
  // From acquire to the last check before sending. Longer than connect_timeout + clock_drift.
  absl::Duration pre_send_lease = absl::Seconds(6);
  // From that check on. Longer than response_timeout + commit_budget + clock_drift.
  absl::Duration sent_lease = absl::Seconds(20);

  absl::Duration connect_timeout = absl::Seconds(3);    // TCP and TLS to the accounts server
  absl::Duration response_timeout = absl::Seconds(10);  // from the check before sending
  absl::Duration commit_budget = absl::Seconds(5);      // for storing the result the first time
  absl::Duration clock_drift = absl::Seconds(1);        // of two monotonic clocks over one lease

  // Sends per grant: Zoho allows 10 per 600 s (facts, section 5). Five plus five stays legal even
  // if the journal of one window is lost.
  struct Window {
    int sends;
    absl::Duration length;
  };
  std::vector<Window> budget = {{5, absl::Seconds(600)}, {8, absl::Seconds(3600)}};
  // Sends of every window that background work leaves to callers.
  int background_reserve = 1;

  // Cooldown after the n-th consecutive failure; the last one repeats.
  std::vector<absl::Duration> failure_backoff = {absl::Seconds(5), absl::Seconds(15),
                                                 absl::Seconds(60), absl::Seconds(300)};
  absl::Duration throttle_cooldown = absl::Seconds(600);

  // From the decision to send until the result is stored.
  absl::Duration LongestRequest() const {
    return connect_timeout + response_timeout + commit_budget;
  }

  // A lease end further away than this is a damaged record or a clock that jumped: void.
  absl::Duration MaxLease() const { return 2 * std::max(pre_send_lease, sent_lease); }
  // Likewise for cooldowns.
  absl::Duration MaxCooldown() const {
    absl::Duration longest = throttle_cooldown;
    for (absl::Duration d : failure_backoff) longest = std::max(longest, d);
    return 2 * longest;
  }

  // How long a reserved record is kept after it was last asked for: until nothing in it counts.
  absl::Duration ReservedLife() const {
    absl::Duration longest;
    for (const Window& window : budget) longest = std::max(longest, window.length);
    return longest + MaxCooldown() + MaxLease();
  }

  struct Violation {
    std::string field;  // the member, e.g. "pre_send_lease", "budget[0].sends"
    std::string rule;   // "must be …"
  };
  // Every rule that does not hold, each with the one number to change; others in its text.
  std::vector<Violation> Violations() const;
  // INVALID_ARGUMENT naming all of them.
  absl::Status Validate() const;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_PROTOCOL_LIMITS_H_
