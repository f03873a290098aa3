#include "common/errors.h"

#include <cstdint>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tokenbroker {
namespace {

constexpr char kPayloadType[] = "type.tokenbroker.internal/ErrorDetail";

// The payload never leaves the process: a list of length-prefixed strings.
class PayloadWriter {
 public:
  void Add(std::string_view field) { absl::StrAppend(&out_, field.size(), ":", View(field)); }
  std::string Take() { return std::move(out_); }

 private:
  static absl::string_view View(std::string_view s) { return {s.data(), s.size()}; }
  std::string out_;
};

class PayloadReader {
 public:
  explicit PayloadReader(std::string_view in) : in_(in) {}
  bool done() const { return in_.empty(); }
  std::string Next() {
    const size_t colon = in_.find(':');
    uint64_t size = 0;
    if (colon == std::string_view::npos ||
        !absl::SimpleAtoi(absl::string_view(in_.data(), colon), &size) ||
        size > in_.size() - colon - 1) {
      in_ = {};
      return "";
    }
    std::string field(in_.substr(colon + 1, size));
    in_.remove_prefix(colon + 1 + size);
    return field;
  }

 private:
  std::string_view in_;
};

absl::string_view View(std::string_view s) { return {s.data(), s.size()}; }

absl::Status Make(absl::StatusCode code, std::string_view message, ErrorDetail detail) {
  return WithDetail(absl::Status(code, View(message)), detail);
}

}  // namespace

absl::Status WithDetail(absl::Status status, const ErrorDetail& detail) {
  PayloadWriter writer;
  writer.Add(detail.reason);
  writer.Add(detail.retry_after ? absl::StrCat(absl::ToInt64Nanoseconds(*detail.retry_after)) : "");
  writer.Add(absl::StrCat(detail.metadata.size()));
  for (const auto& [key, value] : detail.metadata) {
    writer.Add(key);
    writer.Add(value);
  }
  for (const FieldViolation& violation : detail.violations) {
    writer.Add(violation.field);
    writer.Add(violation.description);
  }
  status.SetPayload(kPayloadType, absl::Cord(writer.Take()));
  return status;
}

std::optional<ErrorDetail> GetErrorDetail(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kPayloadType);
  if (!payload) return std::nullopt;
  const std::string bytes(*payload);
  PayloadReader reader(bytes);
  ErrorDetail detail;
  detail.reason = reader.Next();
  if (int64_t nanoseconds = 0; absl::SimpleAtoi(reader.Next(), &nanoseconds)) {
    detail.retry_after = absl::Nanoseconds(nanoseconds);
  }
  int count = 0;
  if (!absl::SimpleAtoi(reader.Next(), &count)) return detail;
  for (int i = 0; i < count; ++i) {
    std::string key = reader.Next();
    detail.metadata[std::move(key)] = reader.Next();
  }
  while (!reader.done()) {
    std::string field = reader.Next();
    detail.violations.push_back({std::move(field), reader.Next()});
  }
  return detail;
}

std::string ErrorReason(const absl::Status& status) {
  std::optional<ErrorDetail> detail = GetErrorDetail(status);
  return detail ? std::move(detail->reason) : "";
}

absl::Status WithMetadata(const absl::Status& status, std::string_view key,
                          std::string_view value) {
  ErrorDetail detail = GetErrorDetail(status).value_or(ErrorDetail{});
  detail.metadata[std::string(key)] = std::string(value);
  return WithDetail(status, detail);
}

absl::Status WithRetryAfter(const absl::Status& status, absl::Duration wait) {
  ErrorDetail detail = GetErrorDetail(status).value_or(ErrorDetail{});
  detail.retry_after = wait;
  return WithDetail(status, detail);
}

absl::Status InvalidRequestError(std::vector<FieldViolation> violations) {
  const std::string message =
      absl::StrJoin(violations, "; ", [](std::string* out, const FieldViolation& violation) {
        absl::StrAppend(out, violation.field, ": ", violation.description);
      });
  return Make(absl::StatusCode::kInvalidArgument, message,
              {.reason = "INVALID_REQUEST", .violations = std::move(violations)});
}

absl::Status CallerUnauthenticatedError() {
  return Make(absl::StatusCode::kUnauthenticated, "the caller's own identity is not proven",
              {.reason = "CALLER_UNAUTHENTICATED"});
}

absl::Status CallerNotAllowedError() {
  return Make(absl::StatusCode::kPermissionDenied, "the caller may not do this",
              {.reason = "CALLER_NOT_ALLOWED"});
}

absl::Status DeadlineExceededError() {
  return Make(absl::StatusCode::kDeadlineExceeded,
              "the deadline came before the answer; a refresh under way goes on",
              {.reason = "DEADLINE_EXCEEDED"});
}

absl::Status OrgNotFoundError() {
  return Make(absl::StatusCode::kNotFound,
              "no grant is registered for this org, environment and OAuth client",
              {.reason = "ORG_NOT_FOUND"});
}

absl::Status ConsentRequiredError(std::string_view cause) {
  return Make(absl::StatusCode::kFailedPrecondition,
              absl::StrCat("the org's consent no longer stands (", View(cause),
                           "): someone of the org has to consent again"),
              {.reason = "CONSENT_REQUIRED", .metadata = {{"cause", std::string(cause)}}});
}

absl::Status ScopeNotGrantedError(const std::vector<std::string>& missing_scopes) {
  const std::string missing = absl::StrJoin(missing_scopes, ",");
  return Make(absl::StatusCode::kFailedPrecondition,
              absl::StrCat("the org has not consented to: ", missing),
              {.reason = "SCOPE_NOT_GRANTED", .metadata = {{"missing_scopes", missing}}});
}

absl::Status GrantChangedError() {
  return Make(absl::StatusCode::kAborted, "the grant was changed while the call was under way",
              {.reason = "GRANT_CHANGED"});
}

absl::Status ClientRejectedError(std::string_view dc, std::string_view oauth_client,
                                 std::string_view zoho_error, std::string_view advice) {
  return Make(absl::StatusCode::kFailedPrecondition,
              absl::StrCat("Zoho's ", View(dc), " accounts server refused OAuth client '",
                           View(oauth_client), "' with ", View(zoho_error), ": ", View(advice)),
              {.reason = "CLIENT_REJECTED",
               .metadata = {{"dc", std::string(dc)},
                            {"oauth_client", std::string(oauth_client)},
                            {"zoho_error", std::string(zoho_error)}}});
}

absl::Status ClientSecretMissingError(std::string_view dc, std::string_view oauth_client) {
  return Make(absl::StatusCode::kFailedPrecondition,
              absl::StrCat("OAuth client '", View(oauth_client), "' has no client secret for DC '",
                           View(dc), "' in the broker's configuration"),
              {.reason = "CLIENT_SECRET_MISSING",
               .metadata = {{"dc", std::string(dc)}, {"oauth_client", std::string(oauth_client)}}});
}

absl::Status OAuthClientNotConfiguredError(std::string_view oauth_client) {
  return Make(
      absl::StatusCode::kFailedPrecondition,
      absl::StrCat("OAuth client '", View(oauth_client), "' is not in the broker's configuration"),
      {.reason = "OAUTH_CLIENT_NOT_CONFIGURED",
       .metadata = {{"oauth_client", std::string(oauth_client)}}});
}

absl::Status DcNotConfiguredError(std::string_view dc) {
  return Make(absl::StatusCode::kFailedPrecondition,
              absl::StrCat("DC '", View(dc), "' is not in the broker's table"),
              {.reason = "DC_NOT_CONFIGURED", .metadata = {{"dc", std::string(dc)}}});
}

absl::Status ConsentNotConfiguredError(std::string_view what) {
  return Make(absl::StatusCode::kFailedPrecondition,
              absl::StrCat("authorization URLs cannot be made: ", View(what)),
              {.reason = "CONSENT_NOT_CONFIGURED"});
}

absl::Status AuthorizationCodeRejectedError(std::string_view zoho_error) {
  return Make(absl::StatusCode::kFailedPrecondition,
              absl::StrCat("Zoho refused the authorization code (", View(zoho_error),
                           "): it is good once, for one minute, at the DC that issued it"),
              {.reason = "AUTHORIZATION_CODE_REJECTED",
               .metadata = {{"zoho_error", std::string(zoho_error)}}});
}

absl::Status RefreshTokenRejectedError(std::string_view zoho_error) {
  return Make(
      absl::StatusCode::kFailedPrecondition,
      absl::StrCat("Zoho refused the refresh token (", View(zoho_error),
                   "): it is wrong, revoked, evicted or of another DC"),
      {.reason = "REFRESH_TOKEN_REJECTED", .metadata = {{"zoho_error", std::string(zoho_error)}}});
}

absl::Status RefreshTokenMissingError() {
  return Make(absl::StatusCode::kFailedPrecondition,
              "Zoho gave no refresh token for this code: ask for consent with "
              "access_type=offline and prompt=consent",
              {.reason = "REFRESH_TOKEN_MISSING"});
}

absl::Status MintBudgetExhaustedError(absl::Duration retry_after) {
  return Make(absl::StatusCode::kResourceExhausted,
              "this grant's budget of refreshes and registrations is used up for now",
              {.reason = "MINT_BUDGET_EXHAUSTED", .retry_after = retry_after});
}

absl::Status ZohoThrottledError(absl::Duration retry_after) {
  return Make(absl::StatusCode::kResourceExhausted, "Zoho throttles this grant",
              {.reason = "ZOHO_THROTTLED", .retry_after = retry_after});
}

absl::Status OverloadedError(absl::Duration retry_after) {
  return Make(absl::StatusCode::kResourceExhausted, "too many refreshes wait for this DC",
              {.reason = "OVERLOADED", .retry_after = retry_after});
}

absl::Status ZohoUnavailableError(std::string_view dc, std::string_view last_error,
                                  absl::Duration retry_after) {
  ErrorDetail detail{.reason = "ZOHO_UNAVAILABLE",
                     .metadata = {{"dc", std::string(dc)}},
                     .retry_after = retry_after};
  if (!last_error.empty()) detail.metadata["last_error"] = std::string(last_error);
  return Make(absl::StatusCode::kUnavailable,
              absl::StrCat("Zoho's ", View(dc), " accounts server gives no usable answer",
                           last_error.empty() ? "" : ": ", View(last_error)),
              std::move(detail));
}

absl::Status StoreUnavailableError(std::string_view what) {
  return Make(absl::StatusCode::kUnavailable,
              absl::StrCat("the token store cannot be used: ", View(what)),
              {.reason = "STORE_UNAVAILABLE", .retry_after = absl::Seconds(1)});
}

absl::Status StoreNotAcknowledgedError() {
  return Make(absl::StatusCode::kUnavailable,
              "too few replicas of the token store acknowledged the write",
              {.reason = "STORE_NOT_ACKNOWLEDGED", .retry_after = absl::Seconds(1)});
}

absl::Status ShuttingDownError(std::string_view more) {
  std::string message = "this replica is shutting down";
  if (!more.empty()) message.append("; ").append(more);
  return Make(absl::StatusCode::kUnavailable, message,
              {.reason = "SHUTTING_DOWN", .retry_after = absl::Milliseconds(100)});
}

absl::Status InternalError(std::string_view what) {
  return Make(absl::StatusCode::kInternal, what, {.reason = "INTERNAL"});
}

absl::Status RecordUnreadableError(std::string_view what) {
  return Make(absl::StatusCode::kDataLoss,
              absl::StrCat("a stored record cannot be read: ", View(what)),
              {.reason = "RECORD_UNREADABLE"});
}

}  // namespace tokenbroker
