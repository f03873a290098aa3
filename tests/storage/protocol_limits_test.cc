#include "storage/protocol_limits.h"

#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tokenbroker {
namespace {

using testing::HasSubstr;

TEST(ProtocolLimitsTest, DefaultsHold) { EXPECT_EQ(ProtocolLimits().Validate(), absl::OkStatus()); }

TEST(ProtocolLimitsTest, EveryInequalityIsChecked) {
  struct Case {
    std::string expected;
    std::function<void(ProtocolLimits&)> damage;
  };
  const std::vector<Case> cases = {
      {"pre_send_lease must be greater than connect_timeout + clock_drift (6s), and is 6s",
       [](ProtocolLimits& l) { l.connect_timeout = absl::Seconds(5); }},
      {"pre_send_lease must be greater than",
       [](ProtocolLimits& l) { l.pre_send_lease = absl::Seconds(4); }},
      {"sent_lease must be greater than response_timeout + commit_budget + clock_drift (20s), and "
       "is 20s",
       [](ProtocolLimits& l) { l.response_timeout = absl::Seconds(14); }},
      {"sent_lease must be greater than",
       [](ProtocolLimits& l) { l.commit_budget = absl::Seconds(9); }},
      {"sent_lease must be greater than",
       [](ProtocolLimits& l) { l.clock_drift = absl::Seconds(5); }},
      {"clock_drift must be", [](ProtocolLimits& l) { l.clock_drift = -absl::Seconds(1); }},
      {"pre_send_lease must be",
       [](ProtocolLimits& l) { l.pre_send_lease = absl::InfiniteDuration(); }},
      {"sent_lease must be", [](ProtocolLimits& l) { l.sent_lease = absl::Hours(25); }},
      {"connect_timeout must be", [](ProtocolLimits& l) { l.connect_timeout = {}; }},
      {"response_timeout must be", [](ProtocolLimits& l) { l.response_timeout = {}; }},
      {"commit_budget must be", [](ProtocolLimits& l) { l.commit_budget = {}; }},
      {"throttle_cooldown must be", [](ProtocolLimits& l) { l.throttle_cooldown = {}; }},
      {"budget must have", [](ProtocolLimits& l) { l.budget.clear(); }},
      {"budget[0].sends must be more than background_reserve (1)",
       [](ProtocolLimits& l) { l.budget[0].sends = 1; }},
      {"budget[0].sends must be more than background_reserve (5)",
       [](ProtocolLimits& l) { l.background_reserve = 5; }},
      {"budget[1].sends must be more than background_reserve (1) and at most 100",
       [](ProtocolLimits& l) { l.budget[1].sends = 101; }},
      {"budget[1].length must be between", [](ProtocolLimits& l) { l.budget[1].length = {}; }},
      {"background_reserve must not be", [](ProtocolLimits& l) { l.background_reserve = -1; }},
      {"failure_backoff must have", [](ProtocolLimits& l) { l.failure_backoff.clear(); }},
      {"failure_backoff[0] must be between",
       [](ProtocolLimits& l) { l.failure_backoff[0] = -absl::Seconds(1); }},
  };
  for (const Case& c : cases) {
    ProtocolLimits limits;
    c.damage(limits);
    const absl::Status status = limits.Validate();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.expected;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.expected));
  }
}

TEST(ProtocolLimitsTest, AllViolationsAreNamedAtOnce) {
  ProtocolLimits limits;
  limits.connect_timeout = absl::Seconds(5);
  limits.response_timeout = absl::Seconds(14);
  const std::string message(limits.Validate().message());
  EXPECT_THAT(message, HasSubstr("pre_send_lease"));
  EXPECT_THAT(message, HasSubstr("sent_lease"));
}

}  // namespace
}  // namespace tokenbroker
