// The sections that concern the process itself: listeners, issuing, protocol, log.
#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/config/settings_sections.h"

namespace tokenbroker {
namespace {

// What Zoho allows a refresh token, and how long it refuses what goes beyond (facts, section 5).
constexpr int64_t kZohoSends = 10;
constexpr absl::Duration kZohoWindow = absl::Minutes(10);

// Adds a problem unless `address` can be listened on.
std::optional<HostPort> CheckListen(LoadContext& context, const std::string& path,
                                    const std::string& address) {
  if (context.problems.Has(path)) return std::nullopt;
  std::optional<HostPort> parsed = ParseHostPort(address);
  if (!parsed) {
    context.Refuse(path, "must be host:port, e.g. 127.0.0.1:8443, 0.0.0.0:8443 or [::]:8443");
  }
  return parsed;
}

std::optional<TlsSettings> LoadTls(LoadContext& context) {
  if (!context.config().grpc().has_tls()) return std::nullopt;
  const config::v1::Tls& tls = context.config().grpc().tls();
  TlsSettings settings;
  if (context.Require("grpc.tls.cert_file", tls.cert_file(), "a PEM certificate chain")) {
    if (auto pem = context.files.ReadPem("grpc.tls.cert_file", tls.cert_file(), "CERTIFICATE")) {
      settings.cert_chain_pem = std::string(pem->Reveal());
    }
  }
  if (context.Require("grpc.tls.key_file", tls.key_file(), "a PEM private key")) {
    if (auto pem = context.files.ReadPem("grpc.tls.key_file", tls.key_file(), "PRIVATE KEY")) {
      settings.private_key_pem = *std::move(pem);
    }
  }
  if (!tls.client_ca_file().empty()) {
    if (auto pem =
            context.files.ReadPem("grpc.tls.client_ca_file", tls.client_ca_file(), "CERTIFICATE")) {
      settings.client_ca_pem = std::string(pem->Reveal());
    }
  }
  return settings;
}

// The most sends that `budget` lets into any `span`.
int64_t SendsWithin(absl::Duration span, const std::vector<ProtocolLimits::Window>& budget) {
  int64_t most = std::numeric_limits<int64_t>::max();
  for (const ProtocolLimits::Window& window : budget) {
    const absl::Duration windows = absl::Ceil(span, window.length);
    most = std::min(most, window.sends * (windows / window.length));
  }
  return most;
}

// Refuses what breaks Zoho's rules, unless it is accepted by name. Concludes nothing from a value
// that could not be read, nor from accept_risks.
void CheckZohosLimits(LoadContext& context, const ProtocolLimits& limits) {
  const auto& accepted = context.config().protocol().accept_risks();
  const auto open = [&](const std::string& path, config::v1::ProtocolRisk risk) {
    return std::find(accepted.begin(), accepted.end(), risk) == accepted.end() &&
           !context.problems.Has("protocol.accept_risks") && !context.problems.Has(path);
  };
  constexpr absl::string_view kAccept = "; that must be accepted by name: protocol.accept_risks: ";
  if (open("protocol.budget", config::v1::PROTOCOL_RISK_BUDGET_ABOVE_ZOHO_LIMIT)) {
    if (const int64_t sends = SendsWithin(kZohoWindow, limits.budget); sends > kZohoSends) {
      context.Refuse("protocol.budget",
                     absl::StrCat("allows ", sends, " sends in ", absl::FormatDuration(kZohoWindow),
                                  ", and Zoho ", kZohoSends, kAccept, "[BUDGET_ABOVE_ZOHO_LIMIT]"));
    }
  }
  if (limits.throttle_cooldown < kZohoWindow &&
      open("protocol.throttle_cooldown",
           config::v1::PROTOCOL_RISK_THROTTLE_COOLDOWN_BELOW_ZOHO_LIMIT)) {
    context.Refuse(
        "protocol.throttle_cooldown",
        absl::StrCat("is less than the ", absl::FormatDuration(kZohoWindow),
                     " for which Zoho throttles", kAccept, "[THROTTLE_COOLDOWN_BELOW_ZOHO_LIMIT]"));
  }
}

}  // namespace

GrpcSettings LoadGrpc(LoadContext& context) {
  const config::v1::GrpcListener& grpc = context.config().grpc();
  GrpcSettings settings;
  settings.listen = grpc.listen();
  settings.tls = LoadTls(context);
  const std::optional<HostPort> address = CheckListen(context, "grpc.listen", grpc.listen());
  if (address && !settings.tls && !IsLoopbackHost(address->host) && !context.line.insecure) {
    context.Refuse("grpc.listen",
                   "access tokens would cross the network in clear text: set grpc.tls, listen on a "
                   "loopback address, or say --insecure");
  }
  settings.max_request_bytes = grpc.max_request_bytes();
  settings.max_concurrent_streams = grpc.max_concurrent_streams();
  settings.max_connection_age = ToAbslDuration(grpc.max_connection_age());
  settings.max_connection_age_grace = ToAbslDuration(grpc.max_connection_age_grace());
  settings.keepalive_time = ToAbslDuration(grpc.keepalive_time());
  settings.keepalive_timeout = ToAbslDuration(grpc.keepalive_timeout());
  settings.memory_quota_mib = grpc.memory_quota_mib();
  settings.drain_timeout = ToAbslDuration(grpc.drain_timeout());
  return settings;
}

OpsSettings LoadOps(LoadContext& context) {
  const config::v1::OpsListener& ops = context.config().ops();
  CheckListen(context, "ops.listen", ops.listen());
  if (!ops.callback_listen().empty()) {
    CheckListen(context, "ops.callback_listen", ops.callback_listen());
    if (!context.config().has_consent()) {
      context.Refuse("ops.callback_listen", "serves nothing unless consent is configured");
    }
  }
  return {ops.listen(), ops.callback_listen()};
}

IssuingSettings LoadIssuing(LoadContext& context) {
  const config::v1::Issuing& issuing = context.config().issuing();
  IssuingSettings settings;
  settings.refresh_ahead = ToAbslDuration(issuing.refresh_ahead());
  settings.refresh_ahead_jitter = ToAbslDuration(issuing.refresh_ahead_jitter());
  settings.forced_refresh = ToAbslDuration(issuing.forced_refresh());
  settings.min_lifetime = ToAbslDuration(issuing.min_lifetime());
  settings.lane_threads = issuing.lane_threads();
  settings.lane_queue = issuing.lane_queue();
  settings.cache_entries = issuing.cache_entries();
  settings.default_deadline = ToAbslDuration(issuing.default_deadline());
  settings.unheard_recheck = ToAbslDuration(issuing.unheard_recheck());
  settings.breaker_failures = issuing.breaker_failures();
  settings.breaker_open = ToAbslDuration(issuing.breaker_open());

  // What could not be read is zero.
  const auto exceeds = [&context](absl::Duration value, absl::Duration limit,
                                  std::string_view limit_path) {
    return value > limit && !context.problems.Has(limit_path);
  };
  if (exceeds(settings.forced_refresh, settings.refresh_ahead, "issuing.refresh_ahead")) {
    context.Refuse("issuing.forced_refresh",
                   "must not be greater than issuing.refresh_ahead: callers would wait for "
                   "refreshes that the background has not begun");
  }
  if (exceeds(settings.min_lifetime, settings.forced_refresh, "issuing.forced_refresh")) {
    context.Refuse("issuing.min_lifetime",
                   "must not be greater than issuing.forced_refresh: tokens would be refused that "
                   "nobody refreshes yet");
  }
  // Zoho's access tokens live 3600 s (facts, section 4).
  if (settings.refresh_ahead + settings.refresh_ahead_jitter > absl::Minutes(50)) {
    context.Refuse("issuing.refresh_ahead",
                   "plus issuing.refresh_ahead_jitter must be at most 50m: tokens live one hour, "
                   "and would be due again as soon as they come");
  }
  return settings;
}

LogSettings LoadLog(LoadContext& context) {
  const config::v1::Log& log = context.config().log();
  LogSettings settings;
  switch (log.level()) {
    case config::v1::LOG_LEVEL_DEBUG:
      settings.level = LogLevel::kDebug;
      break;
    case config::v1::LOG_LEVEL_WARNING:
      settings.level = LogLevel::kWarning;
      break;
    case config::v1::LOG_LEVEL_ERROR:
      settings.level = LogLevel::kError;
      break;
    default:
      settings.level = LogLevel::kInfo;
  }
  settings.cached_calls = log.cached_calls();
  return settings;
}

ProtocolLimits LoadProtocol(LoadContext& context) {
  const config::v1::Protocol& protocol = context.config().protocol();
  ProtocolLimits limits;
  limits.pre_send_lease = ToAbslDuration(protocol.pre_send_lease());
  limits.sent_lease = ToAbslDuration(protocol.sent_lease());
  limits.connect_timeout = ToAbslDuration(protocol.connect_timeout());
  limits.response_timeout = ToAbslDuration(protocol.response_timeout());
  limits.commit_budget = ToAbslDuration(protocol.commit_budget());
  limits.clock_drift = ToAbslDuration(protocol.clock_drift());
  limits.budget.clear();
  for (int i = 0; i < protocol.budget_size(); ++i) {
    const config::v1::BudgetWindow& window = protocol.budget(i);
    const std::string path = absl::StrCat("protocol.budget[", i, "]");
    if (window.sends() == 0 && !context.problems.Has(path + ".sends")) {
      context.Refuse(path + ".sends", "is required: the sends that the window allows");
    }
    if (!window.has_length() && !context.problems.Has(path + ".length")) {
      context.Refuse(path + ".length", "is required: the window's length");
    }
    limits.budget.push_back({window.sends(), ToAbslDuration(window.length())});
  }
  limits.background_reserve = protocol.background_reserve();
  limits.failure_backoff.clear();
  for (const auto& cooldown : protocol.failure_backoff()) {
    limits.failure_backoff.push_back(ToAbslDuration(cooldown));
  }
  limits.throttle_cooldown = ToAbslDuration(protocol.throttle_cooldown());
  // What could not be read is zero, which makes no sum longer than it is.
  for (const ProtocolLimits::Violation& violation : limits.Violations()) {
    const std::string path = absl::StrCat("protocol.", violation.field);
    if (!context.problems.Has(path)) context.Refuse(path, violation.rule);
  }
  CheckZohosLimits(context, limits);
  return limits;
}

}  // namespace tokenbroker
