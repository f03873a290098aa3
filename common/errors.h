#ifndef TOKEN_BROKER_COMMON_ERRORS_H_
#define TOKEN_BROKER_COMMON_ERRORS_H_

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

// The one catalogue of errors that a caller of the broker can see: a named function per error. The
// code is the canonical status code; the reason, its metadata, how long to wait and the violated
// fields travel in the status as a payload, which the gRPC edge turns into google.rpc details.
// Texts never hold a secret, nor a reply's body.
namespace tokenbroker {

// `ErrorInfo.domain` of every error.
inline constexpr std::string_view kErrorDomain = "tokenbroker.v1";

struct FieldViolation {
  std::string field;        // path in the request, e.g. "min_lifetime"
  std::string description;  // the rule, e.g. "must be between 0 s and 3000 s"
};

struct ErrorDetail {
  std::string reason;  // UPPER_SNAKE_CASE, stable: callers may switch on it
  std::map<std::string, std::string> metadata;
  std::optional<absl::Duration> retry_after;  // waiting this long may help
  std::vector<FieldViolation> violations;     // INVALID_ARGUMENT only
};

// Adds (or replaces) the detail. `status` must not be OK.
absl::Status WithDetail(absl::Status status, const ErrorDetail& detail);
// nullopt: a status that did not come from this catalogue.
std::optional<ErrorDetail> GetErrorDetail(const absl::Status& status);
// The reason alone; "" where there is none.
std::string ErrorReason(const absl::Status& status);
// The same error with one more metadata entry.
absl::Status WithMetadata(const absl::Status& status, std::string_view key, std::string_view value);
// The same error; its caller is to wait for so long.
absl::Status WithRetryAfter(const absl::Status& status, absl::Duration wait);

// --- The request itself ---

// INVALID_ARGUMENT, reason INVALID_REQUEST. One status for all violations of a request.
absl::Status InvalidRequestError(std::vector<FieldViolation> violations);
// UNAUTHENTICATED, CALLER_UNAUTHENTICATED. Only ever about the caller's own identity.
absl::Status CallerUnauthenticatedError();
// PERMISSION_DENIED, CALLER_NOT_ALLOWED. Also for orgs that do not exist, so that a caller without
// rights cannot tell the difference.
absl::Status CallerNotAllowedError();
// DEADLINE_EXCEEDED, DEADLINE_EXCEEDED: the caller's deadline came first; the work goes on.
absl::Status DeadlineExceededError();

// --- The grant ---

// NOT_FOUND, ORG_NOT_FOUND: no grant of this org in this environment (and for this OAuth client).
absl::Status OrgNotFoundError();
// FAILED_PRECONDITION, CONSENT_REQUIRED. `cause` is "invalid_code" (the refresh token is dead),
// "revoked" (RevokeGrant) or another of Zoho's codes.
absl::Status ConsentRequiredError(std::string_view cause);
// FAILED_PRECONDITION, SCOPE_NOT_GRANTED. Metadata: missing_scopes, comma separated.
absl::Status ScopeNotGrantedError(const std::vector<std::string>& missing_scopes);
// ABORTED, GRANT_CHANGED: the grant was registered or revoked while the call was under way.
absl::Status GrantChangedError();

// --- The operator's configuration ---

// FAILED_PRECONDITION, CLIENT_REJECTED: Zoho refused the OAuth client, its secret or its redirect
// URI. Metadata: dc, oauth_client, zoho_error; `advice` names the likely cause.
absl::Status ClientRejectedError(std::string_view dc, std::string_view oauth_client,
                                 std::string_view zoho_error, std::string_view advice);
// FAILED_PRECONDITION, CLIENT_SECRET_MISSING: the configuration has no secret of this OAuth client
// for this DC; nothing was sent. Metadata: dc, oauth_client.
absl::Status ClientSecretMissingError(std::string_view dc, std::string_view oauth_client);
// FAILED_PRECONDITION, OAUTH_CLIENT_NOT_CONFIGURED: a stored grant names an OAuth client that the
// configuration no longer has. Metadata: oauth_client.
absl::Status OAuthClientNotConfiguredError(std::string_view oauth_client);
// FAILED_PRECONDITION, DC_NOT_CONFIGURED: a stored grant names a DC that the table no longer has.
absl::Status DcNotConfiguredError(std::string_view dc);
// FAILED_PRECONDITION, CONSENT_NOT_CONFIGURED: no public callback URL or no key for states.
absl::Status ConsentNotConfiguredError(std::string_view what);

// --- RegisterGrant ---

// FAILED_PRECONDITION, AUTHORIZATION_CODE_REJECTED: used, expired or foreign code.
absl::Status AuthorizationCodeRejectedError(std::string_view zoho_error);
// FAILED_PRECONDITION, REFRESH_TOKEN_REJECTED: the imported refresh token is dead or of another DC.
absl::Status RefreshTokenRejectedError(std::string_view zoho_error);
// FAILED_PRECONDITION, REFRESH_TOKEN_MISSING: Zoho exchanged the code but gave no refresh token
// (consent was asked without access_type=offline, or repeated without prompt=consent).
absl::Status RefreshTokenMissingError();

// --- Limits ---

// RESOURCE_EXHAUSTED, MINT_BUDGET_EXHAUSTED: the grant's own budget of refreshes and
// registrations is used up.
absl::Status MintBudgetExhaustedError(absl::Duration retry_after);
// RESOURCE_EXHAUSTED, ZOHO_THROTTLED: Zoho throttles this grant.
absl::Status ZohoThrottledError(absl::Duration retry_after);
// RESOURCE_EXHAUSTED, OVERLOADED: the queue of this DC's lane is full.
absl::Status OverloadedError(absl::Duration retry_after);

// --- Dependencies ---

// UNAVAILABLE, ZOHO_UNAVAILABLE: the accounts server is down, slow, answers nonsense, or the grant
// cools down after such a failure. Metadata: dc, and last_error where known.
absl::Status ZohoUnavailableError(std::string_view dc, std::string_view last_error,
                                  absl::Duration retry_after);
// UNAVAILABLE, STORE_UNAVAILABLE: Redis or the database file cannot be used now. `what` is for the
// operator: no key, no value.
absl::Status StoreUnavailableError(std::string_view what);
// UNAVAILABLE, STORE_NOT_ACKNOWLEDGED: too few replicas acknowledged a write; the primary has it.
absl::Status StoreNotAcknowledgedError();
// UNAVAILABLE, SHUTTING_DOWN: this replica drains; another one will answer. `more`: what else the
// caller has to know.
absl::Status ShuttingDownError(std::string_view more = "");
// INTERNAL, INTERNAL: a defect of the broker. `what` is for the log; the edge does not send it.
absl::Status InternalError(std::string_view what);
// DATA_LOSS, RECORD_UNREADABLE: a stored record cannot be decoded or unsealed (wrong keyring?).
absl::Status RecordUnreadableError(std::string_view what);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_COMMON_ERRORS_H_
