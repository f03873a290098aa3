#include "server/config/field_rules.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tokenbroker {

const std::vector<FieldRule>& AllFieldRules() {
  // Defaults are explained in config.proto, and a test compares the two. Limits: a value beyond
  // them is a slip of the pen (a missing unit, a zero too many), or breaks what the comment says.
  static const auto* const rules = new std::vector<FieldRule>{
      {"GrpcListener.listen", "127.0.0.1:8443", "", ""},
      {"GrpcListener.max_request_bytes", "65536", "1024", "4194304"},
      {"GrpcListener.max_concurrent_streams", "1000", "1", "1000000"},
      {"GrpcListener.max_connection_age", "5m", "1s", "24h"},
      {"GrpcListener.max_connection_age_grace", "30s", "1s", "1h"},
      {"GrpcListener.keepalive_time", "30s", "1s", "2h"},
      {"GrpcListener.keepalive_timeout", "10s", "1s", "5m"},
      {"GrpcListener.memory_quota_mib", "512", "16", "1048576"},
      {"GrpcListener.drain_timeout", "25s", "0s", "10m"},
      {"OpsListener.listen", "127.0.0.1:9090", "", ""},
      {"Store.allow_unsealed", "false", "", ""},
      {"Sqlite.busy_timeout", "2s", "1ms", "1m"},
      {"Redis.database", "0", "0", "65535"},
      {"Redis.key_prefix", "tb:", "", ""},
      {"Redis.replica_acks", "", "0", "16"},
      {"Redis.replica_ack_timeout", "200ms", "1ms", "10s"},
      {"Redis.pool_size", "32", "1", "1024"},
      {"Redis.command_timeout", "250ms", "1ms", "10s"},
      {"Redis.connect_timeout", "500ms", "1ms", "10s"},
      {"Redis.quarantine", "20s", "0s", "10m"},
      {"Zoho.allow_plaintext_loopback", "false", "", ""},
      {"Zoho.user_agent", "token-broker/<version>", "", ""},
      // An access token lives 3600 s; one that is due for 50 minutes of them leaves ten.
      {"Issuing.refresh_ahead", "600s", "1ms", "50m"},
      {"Issuing.refresh_ahead_jitter", "300s", "0s", "50m"},
      {"Issuing.forced_refresh", "120s", "0s", "50m"},
      {"Issuing.min_lifetime", "60s", "0s", "50m"},
      {"Issuing.lane_threads", "32", "1", "1024"},
      {"Issuing.lane_queue", "20000", "1", "10000000"},
      {"Issuing.cache_entries", "1000000", "1", "100000000"},
      {"Issuing.default_deadline", "10s", "10ms", "10m"},
      {"Issuing.unheard_recheck", "5s", "1ms", "10m"},
      {"Issuing.breaker_failures", "20", "1", "1000000"},
      {"Issuing.breaker_open", "10s", "1ms", "10m"},
      {"Consent.state_lifetime", "1h", "1s", "24h"},
      {"Log.level", "INFO", "", ""},
      {"Log.cached_calls", "true", "", ""},
      {"Protocol.pre_send_lease", "6s", "1ms", "10m"},
      {"Protocol.sent_lease", "20s", "1ms", "10m"},
      {"Protocol.connect_timeout", "3s", "1ms", "1m"},
      {"Protocol.response_timeout", "10s", "1ms", "1m"},
      {"Protocol.commit_budget", "5s", "1ms", "1m"},
      {"Protocol.clock_drift", "1s", "0s", "1m"},
      {"Protocol.budget", "[{sends: 5, length: 600s}, {sends: 8, length: 3600s}]", "", ""},
      {"Protocol.background_reserve", "1", "0", "100"},
      {"Protocol.failure_backoff", "[5s, 15s, 60s, 300s]", "1ms", "1h"},
      {"Protocol.throttle_cooldown", "600s", "1ms", "24h"},
      {"BudgetWindow.sends", "", "1", "100"},
      {"BudgetWindow.length", "", "1ms", "3600s"},
  };
  return *rules;
}

const FieldRule* FindFieldRule(std::string_view field) {
  for (const FieldRule& rule : AllFieldRules()) {
    if (rule.field == field) return &rule;
  }
  return nullptr;
}

std::optional<absl::Duration> ParseConfigDuration(std::string_view text) {
  const size_t digits = text.find_first_not_of("0123456789");
  if (digits == 0 || digits == std::string_view::npos) return std::nullopt;
  const std::string_view unit = text.substr(digits);
  int64_t count = 0;
  if (!absl::SimpleAtoi(absl::string_view(text.data(), digits), &count)) return std::nullopt;
  absl::Duration one;
  if (unit == "ms") {
    one = absl::Milliseconds(1);
  } else if (unit == "s") {
    one = absl::Seconds(1);
  } else if (unit == "m") {
    one = absl::Minutes(1);
  } else if (unit == "h") {
    one = absl::Hours(1);
  } else {
    return std::nullopt;
  }
  constexpr int64_t kTenYearsInHours = 10 * 366 * 24;
  const absl::Duration duration = one * count;
  if (duration > absl::Hours(kTenYearsInHours)) return std::nullopt;
  return duration;
}

std::string FormatConfigDuration(absl::Duration duration) {
  const int64_t ms = absl::ToInt64Milliseconds(duration);
  if (ms % 1000 != 0) return absl::StrCat(ms, "ms");
  if (ms == 0) return "0s";
  if (ms % 3'600'000 == 0) return absl::StrCat(ms / 3'600'000, "h");
  if (ms % 60'000 == 0) return absl::StrCat(ms / 60'000, "m");
  return absl::StrCat(ms / 1000, "s");
}

}  // namespace tokenbroker
