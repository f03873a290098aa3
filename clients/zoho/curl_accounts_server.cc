#include "clients/zoho/curl_accounts_server.h"

#include <initializer_list>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/strings/ascii.h"
#include "clients/zoho/revoke_reply.h"
#include "clients/zoho/single_post.h"
#include "common/errors.h"
#include "common/status_macros.h"

namespace tokenbroker {
namespace {

constexpr std::string_view kTokenPath = "/oauth/v2/token";
constexpr std::string_view kRevokePath = "/oauth/v2/token/revoke";

// What callers are told to wait: the first step of the grant's cooldowns after a failure.
constexpr absl::Duration kRetryAfter = absl::Seconds(5);

struct FormField {
  std::string_view name;
  std::string_view value;
};

bool IsUnreserved(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' || c == '_' ||
         c == '~';
}

// The fields as application/x-www-form-urlencoded.
Secret EncodeForm(const std::vector<FormField>& fields) {
  constexpr char kHex[] = "0123456789ABCDEF";
  size_t bytes = 0;
  for (const FormField& field : fields) bytes += field.name.size() + 3 * field.value.size() + 2;
  std::string body;
  body.reserve(bytes);  // or each growth leaves a copy of the secrets behind
  for (const FormField& field : fields) {
    if (!body.empty()) body.push_back('&');
    body.append(field.name);
    body.push_back('=');
    for (const char c : field.value) {
      if (IsUnreserved(c)) {
        body.push_back(c);
        continue;
      }
      const auto byte = static_cast<unsigned char>(c);
      body.push_back('%');
      body.push_back(kHex[byte >> 4]);
      body.push_back(kHex[byte & 15]);
    }
  }
  return Secret(std::move(body));
}

std::vector<FormField> FieldsOf(const TokenRequest& request) {
  std::vector<FormField> fields;
  const auto begin = [&](std::string_view grant_type) {
    fields = {{"grant_type", grant_type},
              {"client_id", request.client_id},
              {"client_secret", request.client_secret.Reveal()}};
  };
  switch (request.grant_type) {
    case TokenRequest::GrantType::kAuthorizationCode:
      begin("authorization_code");
      fields.push_back({"code", request.code.Reveal()});
      if (!request.redirect_uri.empty()) fields.push_back({"redirect_uri", request.redirect_uri});
      if (request.code_verifier) {
        fields.push_back({"code_verifier", request.code_verifier->Reveal()});
      }
      break;
    case TokenRequest::GrantType::kRefreshToken:
      begin("refresh_token");
      fields.push_back({"refresh_token", request.refresh_token.Reveal()});
      break;
    case TokenRequest::GrantType::kClientCredentials:
      begin("client_credentials");
      fields.push_back({"scope", request.scope});
      fields.push_back({"soid", request.soid});
      break;
  }
  return fields;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CurlAccountsServer>> CurlAccountsServer::Create(Options options) {
  TB_ASSIGN_OR_RETURN(TrustAnchors anchors, TrustAnchors::Load(options.ca_file));
  return absl::WrapUnique(new CurlAccountsServer(std::move(options), std::move(anchors)));
}

CurlAccountsServer::CurlAccountsServer(Options options, TrustAnchors anchors)
    : options_(std::move(options)), anchors_(std::move(anchors)) {}

FormPost CurlAccountsServer::PostTo(const DataCenter& dc, std::string_view path,
                                    Secret body) const {
  FormPost post;
  post.url = dc.accounts_server;
  post.url.append(path);
  post.body = std::move(body);
  post.user_agent = options_.user_agent;
  post.max_reply_bytes = options_.max_reply_bytes;
  post.allow_plaintext_loopback = options_.allow_plaintext_loopback;
  return post;
}

TokenResponse CurlAccountsServer::RequestToken(const TokenRequest& request,
                                               BeforeSend before_send) {
  FormPost post = PostTo(request.dc, kTokenPath, EncodeForm(FieldsOf(request)));
  post.connect_timeout = request.connect_timeout;
  post.response_timeout = request.response_timeout;
  PostResult result = PostOnce(post, anchors_, before_send);

  TokenResponse response;
  response.delivery = result.delivery;
  if (result.delivery != TokenResponse::Delivery::kAnswered) {
    response.status = result.refused.ok()
                          ? ZohoUnavailableError(request.dc.name, result.error, kRetryAfter)
                          : std::move(result.refused);
    return response;
  }
  TokenReply reply = ClassifyTokenReply(result.http_status, result.body.Reveal());
  if (!result.length_known && (reply.error == "not_json" || reply.error == "empty_reply")) {
    // The connection's end was the reply's end, and half a reply is all that there is: the rest may
    // have held a token.
    response.delivery = TokenResponse::Delivery::kUnknown;
    response.status = ZohoUnavailableError(request.dc.name, "reply_cut_off", kRetryAfter);
    return response;
  }
  if (!IsApiDomainOf(request.dc, reply.api_domain)) reply.api_domain.clear();
  response.reply = std::move(reply);
  return response;
}

absl::Status CurlAccountsServer::RevokeToken(const DataCenter& dc, const Secret& token,
                                             absl::Duration timeout) {
  FormPost post = PostTo(dc, kRevokePath, EncodeForm({{"token", token.Reveal()}}));
  post.connect_timeout = post.response_timeout = post.total_timeout = timeout;
  const PostResult result = PostOnce(post, anchors_, [] { return absl::OkStatus(); });
  if (result.delivery != TokenResponse::Delivery::kAnswered) {
    return ZohoUnavailableError(dc.name, result.error, kRetryAfter);
  }
  const RevokeReply reply = ClassifyRevokeReply(result.http_status, result.body.Reveal());
  return reply.dead ? absl::OkStatus() : ZohoUnavailableError(dc.name, reply.error, kRetryAfter);
}

}  // namespace tokenbroker
