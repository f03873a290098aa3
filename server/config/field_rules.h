#ifndef TOKEN_BROKER_SERVER_CONFIG_FIELD_RULES_H_
#define TOKEN_BROKER_SERVER_CONFIG_FIELD_RULES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

// The numbers of the configuration's schema in one table: what an absent option means and what a
// written one may be.
namespace tokenbroker {

struct FieldRule {
  std::string_view field;  // e.g. "GrpcListener.max_request_bytes"
  // As it would be written in the file; repeated fields in YAML's flow style. "": no default.
  std::string_view default_value;
  // Both ends are allowed. Durations and numbers only; of repeated fields, for each element.
  std::string_view min;
  std::string_view max;
};

// nullptr: neither a default nor limits.
const FieldRule* FindFieldRule(std::string_view field);
const std::vector<FieldRule>& AllFieldRules();

// "250ms", "5s", "10m", "1h": digits and one unit, at most 10 years. nullopt: anything else.
std::optional<absl::Duration> ParseConfigDuration(std::string_view text);
// The shortest text that ParseConfigDuration reads as `duration`, which must be a whole number of
// milliseconds and not negative.
std::string FormatConfigDuration(absl::Duration duration);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_CONFIG_FIELD_RULES_H_
