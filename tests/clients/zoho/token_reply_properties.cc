#include "tests/clients/zoho/token_reply_properties.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/time/time.h"
#include "clients/zoho/revoke_reply.h"
#include "clients/zoho/token_reply.h"

namespace tokenbroker {
namespace {

// Written down again on purpose: a new word must be added here too.
bool IsKnownError(const std::string& error) {
  static const auto& known = *new std::set<std::string>{
      "access_denied",
      "ambiguous_reply",
      "bad_access_token",
      "contradictory_reply",
      "empty_reply",
      "general_error",
      "html",
      "http_invalid",
      "invalid_client",
      "invalid_client_secret",
      "invalid_code",
      "invalid_grant",
      "invalid_redirect_uri",
      "invalid_request",
      "invalid_response_type",
      "invalid_scope",
      "missing_org_info",
      "no_access_token",
      "not_an_object",
      "not_json",
      "server_error",
      "temporarily_unavailable",
      "throttled",
      "unauthorized_client",
      "unknown_error",
      "unsupported_grant_type",
  };
  if (known.count(error) > 0) return true;
  return error.size() == 8 && error.compare(0, 5, "http_") == 0 && error[5] >= '1' &&
         error[5] <= '5' && std::isdigit(static_cast<unsigned char>(error[6])) != 0 &&
         std::isdigit(static_cast<unsigned char>(error[7])) != 0;
}

bool IsVisible(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

std::string BrokenOfSuccess(const TokenReply& reply) {
  if (reply.http_status < 200 || reply.http_status > 299) return "success with an HTTP error";
  if (reply.access_token.empty()) return "success without access token";
  if (reply.access_token.size() > 4096) return "huge access token";
  if (!IsVisible(reply.access_token.Reveal())) return "access token that no header can carry";
  if (!IsVisible(reply.refresh_token.Reveal())) return "refresh token with invisible characters";
  if (reply.lifetime < absl::Milliseconds(1) || reply.lifetime > absl::Hours(24)) {
    return "lifetime outside (0, 24 h]";
  }
  if (!std::is_sorted(reply.scopes.begin(), reply.scopes.end())) return "scopes are not sorted";
  if (!std::all_of(reply.scopes.begin(), reply.scopes.end(), IsVisible)) return "bad scope";
  if (!reply.api_domain.empty() && reply.api_domain.compare(0, 4, "http") != 0) {
    return "api_domain is no URL";
  }
  if (!reply.error.empty() || !reply.advice.empty()) return "success with an error";
  return "";
}

std::string BrokenOfFailure(const TokenReply& reply) {
  if (!reply.access_token.empty() || !reply.refresh_token.empty()) return "failure with a token";
  // Both come from fixed lists, so no text of the reply can be in them.
  if (!IsKnownError(reply.error)) return "error outside the list";
  if (reply.advice != ZohoErrorAdvice(reply.error)) return "advice is not the error's";
  const bool verdict =
      reply.kind == ReplyKind::kGrantDead || reply.kind == ReplyKind::kClientRejected;
  if (verdict && (reply.http_status < 200 || reply.http_status > 499)) {
    return "verdict of a failing server";
  }
  return "";
}

}  // namespace

std::string BrokenReplyProperty(std::string_view input) {
  int http_status = 200;
  if (const size_t end = input.find('\n'); end != std::string_view::npos && end < 12) {
    if (absl::SimpleAtoi({input.data(), end}, &http_status)) input.remove_prefix(end + 1);
  }
  const TokenReply reply = ClassifyTokenReply(http_status, input);
  if (reply.http_status != http_status) return "another HTTP status";
  const bool success = reply.kind == ReplyKind::kSuccess;
  std::string broken = success ? BrokenOfSuccess(reply) : BrokenOfFailure(reply);
  if (!broken.empty()) return broken;

  const RevokeReply revoked = ClassifyRevokeReply(http_status, input);
  if (revoked.dead != revoked.error.empty()) return "revocation: neither dead nor an error";
  if (!revoked.dead && !IsKnownError(revoked.error)) return "revocation: error outside the list";
  return "";
}

}  // namespace tokenbroker
