#include "server/rpc/convert.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "common/utf8.h"
#include "storage/protocol.h"

namespace tokenbroker {
namespace {

// Zoho says so in every reply (facts, section 4); the word it wants in the header is another one.
constexpr char kTokenType[] = "Bearer";

v1::GrantType ToProto(GrantType type) {
  switch (type) {
    case GrantType::kRefreshToken:
      return v1::GRANT_TYPE_REFRESH_TOKEN;
    case GrantType::kClientCredentials:
      return v1::GRANT_TYPE_CLIENT_CREDENTIALS;
  }
  return v1::GRANT_TYPE_UNSPECIFIED;
}

v1::TokenSource ToProto(TokenSource source) {
  switch (source) {
    case TokenSource::kCache:
      return v1::TOKEN_SOURCE_CACHE;
    case TokenSource::kStore:
      return v1::TOKEN_SOURCE_STORE;
    case TokenSource::kRefreshed:
      return v1::TOKEN_SOURCE_REFRESHED;
    case TokenSource::kJoined:
      return v1::TOKEN_SOURCE_JOINED;
    case TokenSource::kStale:
      return v1::TOKEN_SOURCE_STALE;
  }
  return v1::TOKEN_SOURCE_UNSPECIFIED;
}

// "": nothing that a caller could learn from. An attempt that was given up before it was sent is no
// failure of the grant's.
std::string_view FailureName(FailureKind kind) {
  switch (kind) {
    case FailureKind::kNone:
    case FailureKind::kNotSent:
    case FailureKind::kOtherCredential:
      return "";
    case FailureKind::kUnreachable:
      return "UNREACHABLE";
    case FailureKind::kTransient:
      return "TRANSIENT";
    case FailureKind::kAmbiguous:
      return "AMBIGUOUS";
    case FailureKind::kThrottled:
      return "THROTTLED";
    case FailureKind::kClientRejected:
      return "CLIENT_REJECTED";
    case FailureKind::kDoubtedInvalid:
      return "DOUBTED_INVALID";
    case FailureKind::kNeedsConsent:
      return "NEEDS_CONSENT";
  }
  return "";
}

class GrantFiller {
 public:
  GrantFiller(const GrantRecord& record, const GrantView& view, v1::Grant& out)
      : record_(record), view_(view), out_(out) {}

  void FillIdentity() {
    // A record that was tampered with must not make the whole answer invalid.
    out_.set_org_id(ToUtf8(record_.key.org_id));
    out_.set_environment(tokenbroker::ToProto(record_.key.environment));
    out_.set_oauth_client(ToUtf8(record_.key.oauth_client));
    out_.set_dc(ToUtf8(record_.info.dc));
    for (const std::string& scope : record_.info.scopes) out_.add_scopes(ToUtf8(scope));
    out_.set_state(tokenbroker::ToProto(record_.state));
    out_.set_type(ToProto(record_.info.type));
    out_.set_display_name(ToUtf8(record_.info.display_name));
    for (const auto& [key, value] : record_.info.labels) {
      (*out_.mutable_labels())[ToUtf8(key)] = ToUtf8(value);
    }
    out_.set_keep_warm(record_.info.keep_warm);
    out_.set_version(record_.generation);
  }

  void FillHistory() {
    if (const std::optional<absl::Time> end = record_.AccessEnd()) {
      SetTimestamp(ToWall(*end), *out_.mutable_access_token_expire_time());
    }
    if (const std::string_view kind = FailureName(record_.last_failure); !kind.empty()) {
      v1::RefreshFailure& failure = *out_.mutable_last_failure();
      failure.set_kind(std::string(kind));
      failure.set_error(ToUtf8(record_.last_error));
      if (Known(record_.last_failure_time)) {
        SetTimestamp(ToWall(record_.last_failure_time), *failure.mutable_fail_time());
      }
      failure.set_consecutive_count(record_.consecutive_failures);
    }
    if (Known(record_.created)) SetTimestamp(ToWall(record_.created), *out_.mutable_create_time());
    if (Known(record_.updated)) SetTimestamp(ToWall(record_.updated), *out_.mutable_update_time());
    out_.set_recent_sends(static_cast<int32_t>(std::count_if(
        record_.sends.begin(), record_.sends.end(),
        [this](absl::Time sent) { return record_.store_now - sent < absl::Hours(1); })));
  }

  void FillNextAction() {
    if (record_.state == GrantState::kRevoked) {
      return out_.set_next_action(v1::NEXT_ACTION_NONE);
    }
    if (record_.state == GrantState::kNeedsConsent) {
      return out_.set_next_action(v1::NEXT_ACTION_AWAIT_CONSENT);
    }
    const absl::Time now = record_.store_now;
    if (LeaseIsLive(view_.limits, record_, now)) {
      return out_.set_next_action(v1::NEXT_ACTION_REFRESHING);
    }
    const absl::Duration cooldown = CooldownWait(view_.limits, record_, now);
    if (cooldown > absl::ZeroDuration()) {
      out_.set_next_action(v1::NEXT_ACTION_COOLDOWN);
      return SetTimestamp(ToWall(now + cooldown), *out_.mutable_next_action_time());
    }
    const std::optional<absl::Time> end = record_.AccessEnd();
    const bool alive = end && *end > now;
    const absl::Duration budget = BudgetWait(view_.limits, record_, Purpose::kCaller, now);
    // While the token lives longer than that, the budget stops nothing.
    if (budget > absl::ZeroDuration() && (!alive || *end - view_.refresh_ahead < now + budget)) {
      out_.set_next_action(v1::NEXT_ACTION_AWAIT_BUDGET);
      return SetTimestamp(ToWall(now + budget), *out_.mutable_next_action_time());
    }
    if (alive) {
      out_.set_next_action(v1::NEXT_ACTION_REFRESH_AHEAD);
      const absl::Time due = std::max(*end - view_.refresh_ahead, now);
      return SetTimestamp(ToWall(due), *out_.mutable_next_action_time());
    }
    out_.set_next_action(v1::NEXT_ACTION_ON_DEMAND);
  }

 private:
  static bool Known(absl::Time time) {
    return time != absl::InfinitePast() && time != absl::InfiniteFuture();
  }
  absl::Time ToWall(absl::Time store_time) const {
    const absl::Duration offset = view_.wall_now - record_.store_now;
    return store_time + absl::Floor(offset + absl::Milliseconds(500), absl::Seconds(1));
  }

  const GrantRecord& record_;
  const GrantView& view_;
  v1::Grant& out_;
};

}  // namespace

void SetDuration(absl::Duration duration, google::protobuf::Duration& out) {
  absl::Duration rest;
  out.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  out.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
}

void SetTimestamp(absl::Time time, google::protobuf::Timestamp& out) {
  // Floored, so that `nanos` counts forward before 1970 too, as the message demands.
  const int64_t seconds = absl::ToUnixSeconds(time);
  out.set_seconds(seconds);
  out.set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
}

v1::Environment ToProto(Environment environment) {
  switch (environment) {
    case Environment::kProduction:
      return v1::ENVIRONMENT_PRODUCTION;
    case Environment::kSandbox:
      return v1::ENVIRONMENT_SANDBOX;
    case Environment::kDeveloper:
      return v1::ENVIRONMENT_DEVELOPER;
  }
  return v1::ENVIRONMENT_UNSPECIFIED;
}

v1::GrantState ToProto(GrantState state) {
  switch (state) {
    case GrantState::kActive:
      return v1::GRANT_STATE_ACTIVE;
    case GrantState::kNeedsConsent:
      return v1::GRANT_STATE_NEEDS_CONSENT;
    case GrantState::kRevoked:
      return v1::GRANT_STATE_REVOKED;
    case GrantState::kReserved:  // the store gives none out
      break;
  }
  return v1::GRANT_STATE_UNSPECIFIED;
}

void FillGrant(const GrantRecord& record, const GrantView& view, v1::Grant& out) {
  GrantFiller filler(record, view, out);
  filler.FillIdentity();
  filler.FillHistory();
  filler.FillNextAction();
}

void FillToken(const TokenAnswer& answer, absl::Time wall_now, v1::GetAccessTokenResponse& out) {
  const IssuedToken& token = *answer.token;
  const std::string_view access_token = token.access_token.Reveal();
  const std::string_view header = token.authorization_header.Reveal();
  out.set_access_token(access_token.data(), access_token.size());
  out.set_authorization_header(header.data(), header.size());
  out.set_token_type(kTokenType);
  SetTimestamp(wall_now + answer.expires_in, *out.mutable_expire_time());
  SetDuration(answer.expires_in, *out.mutable_expires_in());
  out.set_api_domain(token.api_domain);
  out.set_people_host(token.people_host);
  out.set_dc(token.dc);
  out.mutable_scopes()->Add(token.scopes.begin(), token.scopes.end());
  out.set_version(token.version);
  out.set_source(ToProto(answer.source));
  out.set_oauth_client(token.key.oauth_client);
}

}  // namespace tokenbroker
