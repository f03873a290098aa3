#include "server/rpc/validate.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "common/status_macros.h"
#include "server/rpc/page_token.h"

namespace tokenbroker {
namespace {

// The limits of the protos' comments.
constexpr int kMaxScopes = 100;
constexpr size_t kMaxScopeBytes = 256;
constexpr absl::Duration kMaxMinLifetime = absl::Seconds(3000);
constexpr size_t kMaxCredentialBytes = 2048;  // codes and refresh tokens
constexpr size_t kMinVerifierBytes = 43;      // RFC 7636, section 4.1
constexpr size_t kMaxVerifierBytes = 128;
constexpr size_t kMaxSoidBytes = 256;
constexpr size_t kMaxDisplayNameBytes = 256;
constexpr int kMaxLabels = 32;
constexpr size_t kMaxLabelKeyBytes = 63;
constexpr size_t kMaxLabelValueBytes = 256;
constexpr size_t kMaxRequestIdBytes = 128;
constexpr int kMaxPageSize = 1000;
constexpr int kDefaultPageSize = 100;

using Labels = google::protobuf::Map<std::string, std::string>;
using Scopes = google::protobuf::RepeatedPtrField<std::string>;

// Collects what is wrong with a request. Costs nothing while nothing is.
class Violations {
 public:
  void Add(std::string field, std::string description) {
    found_.push_back({std::move(field), std::move(description)});
  }
  // Takes over those of another INVALID_REQUEST.
  void AddAll(const absl::Status& status) {
    const ErrorDetail detail = GetErrorDetail(status).value_or(ErrorDetail{});
    for (const FieldViolation& violation : detail.violations) {
      found_.push_back(violation);
    }
  }
  bool empty() const { return found_.empty(); }
  absl::Status Take() { return InvalidRequestError(std::move(found_)); }

 private:
  std::vector<FieldViolation> found_;
};

std::string AtMost(size_t bytes) { return absl::StrCat("must be at most ", bytes, " bytes"); }

void CheckOrgId(const std::string& org_id, Violations& violations) {
  if (org_id.empty() || org_id.size() > kMaxOrgIdBytes) {
    violations.Add("org_id", absl::StrCat("must be 1 to ", kMaxOrgIdBytes, " bytes"));
  }
}

Environment CheckEnvironment(v1::Environment environment, Violations& violations) {
  switch (environment) {
    case v1::ENVIRONMENT_UNSPECIFIED:
    case v1::ENVIRONMENT_PRODUCTION:
      return Environment::kProduction;
    case v1::ENVIRONMENT_SANDBOX:
      return Environment::kSandbox;
    case v1::ENVIRONMENT_DEVELOPER:
      return Environment::kDeveloper;
    default:
      violations.Add("environment", "must be PRODUCTION, SANDBOX or DEVELOPER");
      return Environment::kProduction;
  }
}

void CheckScopes(const std::string& field, const Scopes& scopes, bool required,
                 Violations& violations) {
  if (required && scopes.empty()) violations.Add(field, "is required");
  if (scopes.size() > kMaxScopes) {
    violations.Add(field, absl::StrCat("must be at most ", kMaxScopes));
    return;
  }
  for (int i = 0; i < scopes.size(); ++i) {
    const std::string& scope = scopes[i];
    if (scope.empty() || scope.size() > kMaxScopeBytes) {
      violations.Add(absl::StrCat(field, "[", i, "]"),
                     absl::StrCat("must be 1 to ", kMaxScopeBytes, " bytes"));
    } else if (std::any_of(scope.begin(), scope.end(), [](unsigned char c) {
                 return c == ',' || absl::ascii_isspace(c) || absl::ascii_iscntrl(c);
               })) {
      // Zoho separates scopes by commas and by white space.
      violations.Add(absl::StrCat(field, "[", i, "]"),
                     "must be one scope, without commas and white space");
    }
  }
}

void CheckLabels(const std::string& field, const Labels& labels, Violations& violations) {
  if (labels.size() > kMaxLabels) {
    violations.Add(field, absl::StrCat("must be at most ", kMaxLabels));
    return;
  }
  for (const auto& [key, value] : labels) {
    const bool good_key = !key.empty() && key.size() <= kMaxLabelKeyBytes &&
                          std::all_of(key.begin(), key.end(), [](unsigned char c) {
                            return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '_' ||
                                   c == '.' || c == '-';
                          });
    if (!good_key) {
      violations.Add(
          field, absl::StrCat("keys must be 1 to ", kMaxLabelKeyBytes, " bytes of [a-z0-9_.-]"));
    } else if (value.size() > kMaxLabelValueBytes) {
      violations.Add(absl::StrCat(field, "[\"", key, "\"]"), AtMost(kMaxLabelValueBytes));
    }
  }
}

void CheckDisplayName(const std::string& display_name, Violations& violations) {
  if (display_name.size() > kMaxDisplayNameBytes) {
    violations.Add("display_name", AtMost(kMaxDisplayNameBytes));
  }
}

void CheckOAuthClientName(const std::string& field, const std::string& name,
                          Violations& violations) {
  if (name.size() > kMaxOAuthClientBytes) violations.Add(field, AtMost(kMaxOAuthClientBytes));
}

// nullptr: `name` is at fault, and it was said.
const OAuthClient* CheckOAuthClient(const std::string& name, const ZohoSetup& setup,
                                    Violations& violations) {
  if (name.empty()) {
    violations.Add("oauth_client", "is required");
    return nullptr;
  }
  const OAuthClient* client = setup.oauth_clients.Find(name);
  if (client == nullptr) {
    violations.Add("oauth_client", "is not an OAuth client of the broker's configuration");
  }
  return client;
}

// The DC that the request names; nullptr: none that can be believed, and it was said.
const DataCenter* CheckDc(const std::string& name, const ZohoSetup& setup, Violations& violations) {
  if (name.empty()) {
    violations.Add("dc", "is required");
    return nullptr;
  }
  const DataCenter* dc = setup.data_centers.Find(name);
  if (dc == nullptr) violations.Add("dc", "is not a data centre of the broker's table");
  return dc;
}

const DataCenter* CheckDcOrRedirect(const v1::RegisterGrantRequest& request, const ZohoSetup& setup,
                                    Violations& violations) {
  if (request.location().empty() && request.accounts_server().empty()) {
    if (request.dc().empty()) {
      violations.Add("dc", "is required, or else location and accounts_server");
      return nullptr;
    }
    return CheckDc(request.dc(), setup, violations);
  }
  if (request.location().empty() || request.accounts_server().empty()) {
    violations.Add(request.location().empty() ? "location" : "accounts_server",
                   "location and accounts_server go together");
    return nullptr;
  }
  const absl::StatusOr<const DataCenter*> dc =
      setup.data_centers.FromRedirect(request.location(), request.accounts_server());
  if (!dc.ok()) {
    violations.AddAll(dc.status());
    return nullptr;
  }
  if (!request.dc().empty() && request.dc() != (*dc)->name) {
    violations.Add("dc", "must be empty or the same as location");
  }
  return *dc;
}

void CheckCode(const v1::AuthorizationCode& code, const OAuthClient* client,
               Violations& violations) {
  if (code.code().empty() || code.code().size() > kMaxCredentialBytes) {
    violations.Add("authorization_code.code",
                   absl::StrCat("must be 1 to ", kMaxCredentialBytes, " bytes"));
  }
  const std::string& verifier = code.code_verifier();
  if (!verifier.empty()) {
    const bool unreserved = std::all_of(verifier.begin(), verifier.end(), [](unsigned char c) {
      return absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_' || c == '~';
    });
    if (!unreserved || verifier.size() < kMinVerifierBytes || verifier.size() > kMaxVerifierBytes) {
      violations.Add("authorization_code.code_verifier",
                     absl::StrCat("must be ", kMinVerifierBytes, " to ", kMaxVerifierBytes,
                                  " characters of [A-Za-z0-9-._~]"));
    }
  }
  if (client == nullptr) return;
  const std::string& uri = code.redirect_uri();
  const std::string field = "authorization_code.redirect_uri";
  if (client->type == OAuthClientType::kSelfClient) {
    if (!uri.empty()) violations.Add(field, "must be empty: Self Clients have none");
  } else if (uri.empty()) {
    violations.Add(field, "is required");
  } else if (std::find(client->redirect_uris.begin(), client->redirect_uris.end(), uri) ==
             client->redirect_uris.end()) {
    violations.Add(field, "must be exactly one of the OAuth client's redirect URIs");
  }
}

void CheckClientCredentials(const v1::ClientCredentials& credentials, const OAuthClient* client,
                            Violations& violations) {
  // Zoho's documentation writes "Service." for the name of whichever service, so any is taken.
  const std::string& soid = credentials.soid();
  const size_t dot = soid.find('.');
  if (soid.empty() || soid.size() > kMaxSoidBytes || dot == std::string::npos || dot == 0 ||
      dot + 1 == soid.size() || std::any_of(soid.begin(), soid.end(), [](unsigned char c) {
        return absl::ascii_isspace(c) || absl::ascii_iscntrl(c);
      })) {
    violations.Add(
        "client_credentials.soid",
        absl::StrCat("must be like ZohoPeople.12345678, at most ", kMaxSoidBytes, " bytes"));
  }
  CheckScopes("client_credentials.scopes", credentials.scopes(), /*required=*/true, violations);
  if (client != nullptr && client->type != OAuthClientType::kSelfClient) {
    violations.Add("client_credentials", "only Self Clients have them");
  }
}

void CheckCredential(const v1::RegisterGrantRequest& request, const OAuthClient* client,
                     Violations& violations) {
  switch (request.credential_case()) {
    case v1::RegisterGrantRequest::kAuthorizationCode:
      CheckCode(request.authorization_code(), client, violations);
      break;
    case v1::RegisterGrantRequest::kRefreshToken:
      if (request.refresh_token().empty() || request.refresh_token().size() > kMaxCredentialBytes) {
        violations.Add("refresh_token",
                       absl::StrCat("must be 1 to ", kMaxCredentialBytes, " bytes"));
      }
      break;
    case v1::RegisterGrantRequest::kClientCredentials:
      CheckClientCredentials(request.client_credentials(), client, violations);
      break;
    case v1::RegisterGrantRequest::CREDENTIAL_NOT_SET:
      violations.Add("credential",
                     "one of authorization_code, refresh_token and client_credentials is required");
      break;
  }
}

void TakeCredential(const v1::RegisterGrantRequest& request, Registration& registration) {
  registration.scopes.assign(request.scopes().begin(), request.scopes().end());
  if (request.has_authorization_code()) {
    const v1::AuthorizationCode& code = request.authorization_code();
    CodeCredential credential{.code = Secret(code.code()), .redirect_uri = code.redirect_uri()};
    if (!code.code_verifier().empty()) credential.code_verifier = Secret(code.code_verifier());
    registration.credential = std::move(credential);
  } else if (request.has_refresh_token()) {
    registration.credential = ImportCredential{Secret(request.refresh_token())};
  } else {
    const v1::ClientCredentials& credentials = request.client_credentials();
    registration.credential = ClientCredentialsCredential{credentials.soid()};
    registration.scopes.assign(credentials.scopes().begin(), credentials.scopes().end());
  }
}

absl::Status CheckSecret(const OAuthClient& client, const DataCenter& dc) {
  if (client.SecretFor(dc.name) != nullptr) return absl::OkStatus();
  return ClientSecretMissingError(dc.name, client.name);
}

std::optional<GrantState> CheckState(v1::GrantState state, Violations& violations) {
  switch (state) {
    case v1::GRANT_STATE_UNSPECIFIED:
      return std::nullopt;
    case v1::GRANT_STATE_ACTIVE:
      return GrantState::kActive;
    case v1::GRANT_STATE_NEEDS_CONSENT:
      return GrantState::kNeedsConsent;
    case v1::GRANT_STATE_REVOKED:
      return GrantState::kRevoked;
    default:
      violations.Add("filter.state", "must be ACTIVE, NEEDS_CONSENT or REVOKED");
      return std::nullopt;
  }
}

}  // namespace

absl::StatusOr<TokenQuery> ValidateGetAccessToken(const v1::GetAccessTokenRequest& request,
                                                  const ZohoSetup& setup,
                                                  absl::Duration default_min_lifetime) {
  Violations violations;
  TokenQuery query;
  CheckOrgId(request.org_id(), violations);
  query.org_id = request.org_id();
  query.environment = CheckEnvironment(request.environment(), violations);
  if (!request.oauth_client().empty()) {
    CheckOAuthClient(request.oauth_client(), setup, violations);
    query.oauth_client = request.oauth_client();
  }
  CheckScopes("scopes", request.scopes(), /*required=*/false, violations);
  query.min_lifetime = default_min_lifetime;
  if (request.has_min_lifetime()) {
    const google::protobuf::Duration& wanted = request.min_lifetime();
    query.min_lifetime = absl::Seconds(wanted.seconds()) + absl::Nanoseconds(wanted.nanos());
    if (query.min_lifetime < absl::ZeroDuration() || query.min_lifetime > kMaxMinLifetime) {
      violations.Add("min_lifetime", "must be 0 s to 3000 s");
    }
  }
  query.rejected_version = request.rejected_version();
  if (query.rejected_version < 0) violations.Add("rejected_version", "must be at least 1 if set");
  if (!violations.empty()) return violations.Take();
  query.scopes.assign(request.scopes().begin(), request.scopes().end());
  return query;
}

absl::StatusOr<Registration> ValidateRegisterGrant(const v1::RegisterGrantRequest& request,
                                                   const ZohoSetup& setup) {
  Violations violations;
  Registration registration;
  CheckOrgId(request.org_id(), violations);
  registration.key.environment = CheckEnvironment(request.environment(), violations);
  const OAuthClient* client = CheckOAuthClient(request.oauth_client(), setup, violations);
  const DataCenter* dc = CheckDcOrRedirect(request, setup, violations);
  CheckCredential(request, client, violations);
  CheckDisplayName(request.display_name(), violations);
  CheckLabels("labels", request.labels(), violations);
  if (request.request_id().size() > kMaxRequestIdBytes) {
    violations.Add("request_id", AtMost(kMaxRequestIdBytes));
  }
  CheckScopes("scopes", request.scopes(), /*required=*/false, violations);
  if (!violations.empty()) return violations.Take();
  TB_RETURN_IF_ERROR(CheckSecret(*client, *dc));

  registration.key.org_id = request.org_id();
  registration.key.oauth_client = request.oauth_client();
  registration.dc = dc->name;
  TakeCredential(request, registration);
  registration.display_name = request.display_name();
  registration.labels = {request.labels().begin(), request.labels().end()};
  registration.keep_warm = request.keep_warm();
  registration.request_id = request.request_id();
  return registration;
}

absl::StatusOr<OrgListing> ValidateListOrgs(const v1::ListOrgsRequest& request) {
  Violations violations;
  OrgListing listing;
  listing.page_size = request.page_size() == 0 ? kDefaultPageSize : request.page_size();
  if (listing.page_size < 1 || listing.page_size > kMaxPageSize) {
    violations.Add("page_size", absl::StrCat("must be 1 to ", kMaxPageSize));
  }
  const v1::GrantFilter& filter = request.filter();
  if (filter.dc().size() > kMaxDcNameBytes) {
    violations.Add("filter.dc", AtMost(kMaxDcNameBytes));
  }
  listing.filter.dc = filter.dc();
  if (filter.environment() != v1::ENVIRONMENT_UNSPECIFIED) {
    Violations of_filter;
    listing.filter.environment = CheckEnvironment(filter.environment(), of_filter);
    if (!of_filter.empty()) {
      violations.Add("filter.environment", "must be PRODUCTION, SANDBOX or DEVELOPER");
    }
  }
  listing.filter.state = CheckState(filter.state(), violations);
  CheckLabels("filter.labels", filter.labels(), violations);
  listing.filter.labels = {filter.labels().begin(), filter.labels().end()};
  CheckOAuthClientName("filter.oauth_client", filter.oauth_client(), violations);
  listing.filter.oauth_client = filter.oauth_client();
  if (!request.page_token().empty()) {
    if (std::optional<std::string> after = DecodePageToken(request.page_token(), listing.filter)) {
      listing.after = *std::move(after);
    } else {
      violations.Add("page_token", "must be next_page_token of a page with the same filter");
    }
  }
  if (!violations.empty()) return violations.Take();
  return listing;
}

absl::StatusOr<std::string> ValidateGetOrg(const v1::GetOrgRequest& request) {
  Violations violations;
  CheckOrgId(request.org_id(), violations);
  if (!violations.empty()) return violations.Take();
  return request.org_id();
}

absl::StatusOr<GrantKey> ValidateRevokeGrant(const v1::RevokeGrantRequest& request) {
  Violations violations;
  GrantKey key;
  CheckOrgId(request.org_id(), violations);
  key.environment = CheckEnvironment(request.environment(), violations);
  if (request.oauth_client().empty()) violations.Add("oauth_client", "is required");
  CheckOAuthClientName("oauth_client", request.oauth_client(), violations);
  if (!violations.empty()) return violations.Take();
  key.org_id = request.org_id();
  key.oauth_client = request.oauth_client();
  return key;
}

absl::StatusOr<AuthorizationRequest> ValidateCreateAuthorizationUrl(
    const v1::CreateAuthorizationUrlRequest& request, const ZohoSetup& setup) {
  Violations violations;
  AuthorizationRequest wanted;
  CheckOrgId(request.org_id(), violations);
  wanted.key.environment = CheckEnvironment(request.environment(), violations);
  const OAuthClient* client = CheckOAuthClient(request.oauth_client(), setup, violations);
  if (client != nullptr && client->redirect_uris.empty()) {
    violations.Add("oauth_client", "must be an OAuth client that has redirect URIs");
  }
  const DataCenter* dc = CheckDc(request.dc(), setup, violations);
  CheckScopes("scopes", request.scopes(), /*required=*/true, violations);
  CheckDisplayName(request.display_name(), violations);
  CheckLabels("labels", request.labels(), violations);
  if (!violations.empty()) return violations.Take();
  TB_RETURN_IF_ERROR(CheckSecret(*client, *dc));

  wanted.key.org_id = request.org_id();
  wanted.key.oauth_client = request.oauth_client();
  wanted.dc = dc->name;
  wanted.scopes.assign(request.scopes().begin(), request.scopes().end());
  wanted.display_name = request.display_name();
  wanted.labels = {request.labels().begin(), request.labels().end()};
  wanted.keep_warm = request.keep_warm();
  return wanted;
}

}  // namespace tokenbroker
