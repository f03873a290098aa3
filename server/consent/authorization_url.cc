#include "server/consent/authorization_url.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/errors.h"
#include "common/status_macros.h"
#include "server/consent/consent_state.h"
#include "storage/sealing/primitives.h"

namespace tokenbroker {
namespace {

// 43 characters of base64url: the least that RFC 7636, section 4.1, allows, and what it recommends.
constexpr size_t kVerifierRandomBytes = 32;
constexpr size_t kRequestIdRandomBytes = 16;

void AppendParameter(std::string_view name, std::string_view value, std::string& url) {
  absl::StrAppend(&url, absl::string_view(name.data(), name.size()), "=");
  for (unsigned char c : value) {
    // RFC 3986, section 2.3.
    if (absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_' || c == '~') {
      url.push_back(static_cast<char>(c));
    } else {
      absl::StrAppend(&url, "%", absl::Hex(c, absl::kZeroPad2));
    }
  }
  url.push_back('&');
}

// RFC 7636, section 4.2.
std::string S256Challenge(const Secret& verifier) {
  return absl::WebSafeBase64Escape(Sha256(verifier.Reveal()));
}

absl::Status TooLongError(const AuthorizationRequest& request) {
  size_t labels = 0;
  for (const auto& [key, value] : request.labels) labels += key.size() + value.size();
  const std::pair<size_t, std::string_view> fields[] = {
      {request.key.org_id.size(), "org_id"},
      {absl::StrJoin(request.scopes, ",").size(), "scopes"},
      {request.display_name.size(), "display_name"},
      {labels, "labels"}};
  const auto longest = std::max_element(std::begin(fields), std::end(fields));
  return InvalidRequestError({{std::string(longest->second),
                               absl::StrCat("is too long: the authorization URL must be at most ",
                                            AuthorizationUrls::kMaxUrlBytes, " bytes")}});
}

}  // namespace

AuthorizationUrls::AuthorizationUrls(Options options, const Keyring* state_keys,
                                     const ZohoSetup* setup, Clock clock)
    : options_(std::move(options)),
      state_keys_(state_keys),
      setup_(setup),
      clock_(std::move(clock)) {}

absl::StatusOr<AuthorizationUrl> AuthorizationUrls::Create(
    const AuthorizationRequest& request) const {
  const OAuthClient* client = setup_->oauth_clients.Find(request.key.oauth_client);
  if (client == nullptr) return OAuthClientNotConfiguredError(request.key.oauth_client);
  const DataCenter* dc = setup_->data_centers.Find(request.dc);
  if (dc == nullptr) return DcNotConfiguredError(request.dc);
  if (client->SecretFor(dc->name) == nullptr) {
    return ClientSecretMissingError(dc->name, client->name);
  }
  if (std::find(client->redirect_uris.begin(), client->redirect_uris.end(),
                options_.callback_url) == client->redirect_uris.end()) {
    return ConsentNotConfiguredError(
        absl::StrCat("the broker's callback URL is not among the "
                     "redirect URIs of OAuth client '",
                     client->name, "'"));
  }

  const ConsentState state{
      .request = request,
      .code_verifier = Secret(absl::WebSafeBase64Escape(RandomBytes(kVerifierRandomBytes))),
      .expire_time =
          absl::FromUnixSeconds(absl::ToUnixSeconds(clock_.wall() + options_.state_lifetime)),
      .request_id = absl::BytesToHexString(RandomBytes(kRequestIdRandomBytes))};
  TB_ASSIGN_OR_RETURN(const std::string sealed, SealConsentState(state, *state_keys_));

  std::string url = absl::StrCat(dc->accounts_server, "/oauth/v2/auth?");
  AppendParameter("response_type", "code", url);
  AppendParameter("client_id", client->client_id, url);
  AppendParameter("redirect_uri", options_.callback_url, url);
  AppendParameter("scope", absl::StrJoin(request.scopes, ","), url);
  // Without both, Zoho gives a refresh token only the first time (facts, section 3).
  AppendParameter("access_type", "offline", url);
  AppendParameter("prompt", "consent", url);
  AppendParameter("code_challenge", S256Challenge(state.code_verifier), url);
  AppendParameter("code_challenge_method", "S256", url);
  AppendParameter("state", sealed, url);
  url.pop_back();
  if (url.size() > kMaxUrlBytes) return TooLongError(request);
  return AuthorizationUrl{.url = std::move(url), .expire_time = state.expire_time};
}

}  // namespace tokenbroker
