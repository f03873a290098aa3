#include "clients/zoho/token_reply.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/types/span.h"
#include "clients/zoho/origin.h"
#include "clients/zoho/reply_fields.h"

namespace tokenbroker {
namespace {

// Zoho's tokens have about 70 bytes, signed ones of other servers up to 2 kB. The limit keeps a
// broken server from filling the store.
constexpr size_t kMaxTokenBytes = 4096;
constexpr size_t kMaxScopeBytes = 256;

// The guide: an access token is valid for an hour. Taken where the reply does not say it usably:
// a lifetime of nothing would be refreshed at once, again and again, into Zoho's throttle.
constexpr absl::Duration kDefaultLifetime = absl::Hours(1);
constexpr double kShortestLifetimeSeconds = 1;
// Nothing longer is known; and what is larger in `expires_in` is in milliseconds.
constexpr double kLongestLifetimeSeconds = 86400;

struct KnownError {
  std::string_view code;
  ReplyKind kind;
  std::string_view advice;
};

// What accounts servers send in `error`.
constexpr KnownError kZohoErrors[] = {
    {"invalid_code", ReplyKind::kGrantDead,
     "Zoho does not accept this authorization code or refresh token. A code is good once, and only "
     "for a minute after the redirect (a Self Client's for as long as was chosen in the console): "
     "ask for consent again and exchange the code at once. A refresh token is wrong, was revoked, "
     "was pushed out by the user's 21st one, or belongs to another DC: the org has to consent "
     "again."},
    {"invalid_grant", ReplyKind::kGrantDead,
     "The accounts server does not accept this authorization code or refresh token: it is used up, "
     "expired, revoked or of another client. The org has to consent again."},
    {"invalid_client", ReplyKind::kClientRejected,
     "Zoho does not know this client ID with this secret at this DC. The usual cause is the wrong "
     "DC or the wrong DC's secret: unless Multi-DC is enabled, a client is known only in the DC "
     "where it was registered, and code and tokens must come from that DC; with Multi-DC each DC "
     "has a secret of its own. Then check the client ID and the secret themselves."},
    {"invalid_client_secret", ReplyKind::kClientRejected,
     "The client secret is missing or wrong for this DC. The usual cause is the wrong DC's secret: "
     "with Multi-DC each DC has a secret of its own, unless the console's option to use the same "
     "credentials everywhere is ticked."},
    {"invalid_redirect_uri", ReplyKind::kClientRejected,
     "The redirect URI of the request is not, character by character, one that is registered for "
     "this client in Zoho's developer console. A Self Client's code is exchanged without one."},
    {"invalid_scope", ReplyKind::kClientRejected,
     "One of the scopes does not exist or is not available to this client. Scopes look like "
     "ZOHOPEOPLE.forms.READ and are separated by commas."},
    {"missing_org_info", ReplyKind::kClientRejected,
     "The client_credentials request does not name the org, or names one that this Self Client "
     "cannot use at this DC: soid must be the service and the org's zsoid, as in "
     "ZohoPeople.12345."},
    // Of the authorization page; here so that their resolution is found by their code.
    {"invalid_response_type", ReplyKind::kTransient,
     "The authorization URL does not have response_type=code, or lacks another mandatory "
     "parameter: client_id, scope, redirect_uri."},
    {"access_denied", ReplyKind::kTransient, "The user refused the consent: ask again."},
    {"general_error", ReplyKind::kTransient,
     "Zoho's accounts server had an error of its own. It says nothing about the grant and usually "
     "passes."},
    // Of RFC 6749, from other servers than Zoho's.
    {"invalid_request", ReplyKind::kTransient,
     "The accounts server finds the request incomplete or malformed: check that the DC's accounts "
     "server is one that speaks Zoho's protocol."},
    {"unauthorized_client", ReplyKind::kTransient,
     "The accounts server does not allow this client this kind of request: check the client's type "
     "in the developer console."},
    {"unsupported_grant_type", ReplyKind::kTransient,
     "The accounts server does not know this grant type: check that the DC's accounts server is "
     "one that speaks Zoho's protocol."},
    {"server_error", ReplyKind::kTransient,
     "The accounts server had an error of its own. It says nothing about the grant and usually "
     "passes."},
    {"temporarily_unavailable", ReplyKind::kTransient,
     "The accounts server is overloaded or under maintenance. It says nothing about the grant and "
     "usually passes."},
};

// The broker's own words for what was seen where no known error was named.
constexpr KnownError kSeen[] = {
    {"throttled", ReplyKind::kThrottled,
     "Zoho throttles: too many requests for this refresh token or client in a short time (about 10 "
     "per 10 minutes are allowed). Wait until the window is over, and look for other programs that "
     "use the same refresh token or client: retries may extend the block."},
    {"contradictory_reply", ReplyKind::kTransient,
     "The reply held an access token and said that the request failed. The token was not taken."},
    {"bad_access_token", ReplyKind::kTransient,
     "The reply's access token cannot be used in a header: not a text, empty, too long, or with "
     "white space or control characters."},
    {"ambiguous_reply", ReplyKind::kTransient,
     "The reply named a field twice. Look for a proxy or gateway that changes replies."},
};

constexpr std::string_view kOtherAdvice =
    "The accounts server gave no usable answer. It says nothing about the grant. If it lasts, "
    "check "
    "that the DC's accounts server is the right one and that no proxy or firewall answers in its "
    "place.";

const KnownError* Find(absl::Span<const KnownError> table, std::string_view code) {
  const auto it = std::find_if(table.begin(), table.end(),
                               [&](const KnownError& known) { return known.code == code; });
  return it == table.end() ? nullptr : &*it;
}

// In both tables.
const KnownError* FindAny(std::string_view code) {
  const KnownError* known = Find(kZohoErrors, code);
  return known != nullptr ? known : Find(kSeen, code);
}

bool IsVisible(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_isgraph(static_cast<unsigned char>(c)); });
}

// Visible ASCII only: the token is put into a header, where a line break would start another one.
bool IsToken(const ReplyField& field) {
  const std::string_view token = field.string();
  return field.type == ReplyField::Type::kString && !token.empty() &&
         token.size() <= kMaxTokenBytes && IsVisible(token);
}

// A number above zero, also where it is written as a text.
std::optional<double> PositiveNumber(const ReplyField& field) {
  double value = 0;
  if (field.type == ReplyField::Type::kNumber) {
    value = field.number;
  } else if (!absl::SimpleAtod({field.string().data(), field.string().size()}, &value)) {
    return std::nullopt;
  }
  if (!std::isfinite(value) || value <= 0) return std::nullopt;
  return value;
}

absl::Duration Lifetime(const ReplyFields& fields) {
  std::optional<double> seconds = PositiveNumber(fields.expires_in_sec);
  if (!seconds) {
    seconds = PositiveNumber(fields.expires_in);
    if (!seconds) return kDefaultLifetime;
    if (fields.expires_in_sec.present() || *seconds > kLongestLifetimeSeconds) *seconds /= 1000;
  }
  if (*seconds < kShortestLifetimeSeconds) return kDefaultLifetime;
  return absl::Seconds(std::min(*seconds, kLongestLifetimeSeconds));
}

std::vector<std::string> RepliedScopes(const ReplyField& field) {
  std::vector<std::string> scopes = ParseScopes(field.string());
  std::erase_if(scopes, [](const std::string& scope) {
    return scope.size() > kMaxScopeBytes || !IsVisible(scope);
  });
  return scopes;
}

// A failed request may still carry a text that looks like a verdict; what a server says while it
// fails, and what a redirect says, is not believed.
bool SpeaksForZoho(int http_status) {
  if (http_status >= 200 && http_status < 300) return true;
  return http_status >= 400 && http_status < 500 && http_status != 408 && http_status != 425;
}

bool Succeeded(int http_status) { return http_status >= 200 && http_status < 300; }

std::string HttpWord(int http_status) {
  if (http_status < 100 || http_status > 599) return "http_invalid";
  return absl::StrCat("http_", http_status);
}

// Zoho's code in the spelling of the table: its authorization page writes ERROR_invalid_scope.
std::string NormalCode(std::string_view text) {
  std::string code = absl::AsciiStrToLower({text.data(), text.size()});
  constexpr absl::string_view kPrefix = "error_";
  if (absl::StartsWith(code, kPrefix)) code.erase(0, kPrefix.size());
  return code;
}

bool HasError(const ReplyFields& fields) {
  return fields.error.present() &&
         !(fields.error.type == ReplyField::Type::kString && fields.error.string().empty());
}

bool HasFailureStatus(const ReplyFields& fields) {
  return absl::EqualsIgnoreCase({fields.status.string().data(), fields.status.string().size()},
                                "failure");
}

// The code for a reply without access token, and without a throttle's marks.
std::string FailureCode(int http_status, const ReplyFields& fields) {
  if (HasError(fields)) {
    const std::string code = NormalCode(fields.error.string());
    const KnownError* known = Find(kZohoErrors, code);
    if (known == nullptr) return Succeeded(http_status) ? "unknown_error" : HttpWord(http_status);
    const bool verdict = known->kind != ReplyKind::kTransient;
    return verdict && !SpeaksForZoho(http_status) ? HttpWord(http_status) : code;
  }
  if (!Succeeded(http_status)) return HttpWord(http_status);
  switch (fields.shape) {
    case ReplyFields::Shape::kObject:
      return "no_access_token";
    case ReplyFields::Shape::kEmpty:
      return "empty_reply";
    case ReplyFields::Shape::kHtml:
      return "html";
    case ReplyFields::Shape::kNotJson:
      return "not_json";
    case ReplyFields::Shape::kNotObject:
      return "not_an_object";
    case ReplyFields::Shape::kAmbiguous:
      return "ambiguous_reply";
  }
  return "not_json";
}

TokenReply Failure(int http_status, std::string code) {
  const KnownError* known = FindAny(code);
  TokenReply reply;
  reply.http_status = http_status;
  reply.kind = known != nullptr ? known->kind : ReplyKind::kTransient;
  reply.advice = ZohoErrorAdvice(code);
  reply.error = std::move(code);
  return reply;
}

}  // namespace

std::string_view ReplyKindName(ReplyKind kind) {
  switch (kind) {
    case ReplyKind::kSuccess:
      return "success";
    case ReplyKind::kGrantDead:
      return "grant_dead";
    case ReplyKind::kClientRejected:
      return "client_rejected";
    case ReplyKind::kThrottled:
      return "throttled";
    case ReplyKind::kTransient:
      return "transient";
  }
  return "unknown";
}

std::string_view ZohoErrorAdvice(std::string_view code) {
  const KnownError* known = FindAny(code);
  return known != nullptr ? known->advice : kOtherAdvice;
}

TokenReply ClassifyTokenReply(int http_status, std::string_view body) {
  const ReplyFields fields = ParseReplyFields(body);
  if (http_status == 429 || (http_status == 400 && HasFailureStatus(fields))) {
    return Failure(http_status, "throttled");
  }
  if (!fields.access_token.present()) {
    return Failure(http_status, FailureCode(http_status, fields));
  }
  if (!Succeeded(http_status) || HasError(fields) || HasFailureStatus(fields)) {
    return Failure(http_status, "contradictory_reply");
  }
  if (!IsToken(fields.access_token)) return Failure(http_status, "bad_access_token");

  TokenReply reply;
  reply.kind = ReplyKind::kSuccess;
  reply.http_status = http_status;
  reply.access_token = fields.access_token.text;
  if (IsToken(fields.refresh_token)) reply.refresh_token = fields.refresh_token.text;
  reply.lifetime = Lifetime(fields);
  reply.scopes = RepliedScopes(fields.scope);
  if (ParseOrigin(fields.api_domain.string())) reply.api_domain = fields.api_domain.string();
  return reply;
}

std::vector<std::string> ParseScopes(std::string_view text) {
  std::vector<std::string> scopes;
  std::set<std::string> seen;
  for (const absl::string_view scope :
       absl::StrSplit(absl::string_view(text.data(), text.size()), absl::ByAnyChar(", \t\r\n\f\v"),
                      absl::SkipEmpty())) {
    if (seen.insert(absl::AsciiStrToLower(scope)).second) scopes.emplace_back(scope);
  }
  std::sort(scopes.begin(), scopes.end());
  return scopes;
}

bool ScopeCovers(std::string_view granted, std::string_view wanted) {
  const std::string have = absl::AsciiStrToLower({granted.data(), granted.size()});
  const std::string want = absl::AsciiStrToLower({wanted.data(), wanted.size()});
  if (have == want) return true;
  const size_t dot = want.rfind('.');
  // `service.name`: a scope of one part has no operations.
  if (dot == std::string::npos || want.find('.') == dot) return false;
  const std::string operation = want.substr(dot + 1);
  return (operation == "create" || operation == "read" || operation == "update" ||
          operation == "delete") &&
         have == absl::StrCat(want.substr(0, dot), ".all");
}

std::vector<std::string> MissingScopes(const std::vector<std::string>& granted,
                                       const std::vector<std::string>& wanted) {
  std::vector<std::string> missing;
  std::copy_if(
      wanted.begin(), wanted.end(), std::back_inserter(missing), [&](const std::string& scope) {
        return std::none_of(granted.begin(), granted.end(),
                            [&](const std::string& have) { return ScopeCovers(have, scope); });
      });
  return missing;
}

}  // namespace tokenbroker
