#include "clients/zoho/revoke_reply.h"

#include <utility>

#include "clients/zoho/reply_fields.h"
#include "clients/zoho/token_reply.h"

namespace tokenbroker {
namespace {

bool IsServersOwnError(std::string_view code) {
  return code == "general_error" || code == "server_error" || code == "temporarily_unavailable";
}

bool IsUnknownToken(std::string_view code) {
  return code == "invalid_token" || code == "invalid_code" || code == "invalid_grant";
}

bool IsDead(int http_status, const ReplyFields& fields) {
  const bool empty = fields.shape == ReplyFields::Shape::kEmpty;
  if (!empty && fields.shape != ReplyFields::Shape::kObject) return false;
  const std::string_view code = fields.error.string();
  if (http_status == 200) {
    if (fields.error.present()) return IsUnknownToken(code);
    // Only absent or "success": a failure without a code is one of the server's.
    return !fields.status.present() || fields.status.string() == "success";
  }
  return http_status == 400 && !IsServersOwnError(code);
}

}  // namespace

RevokeReply ClassifyRevokeReply(int http_status, std::string_view body) {
  // The general signs are those of the token endpoint: throttle, pages, HTTP errors.
  TokenReply general = ClassifyTokenReply(http_status, body);
  if (general.kind == ReplyKind::kThrottled) return {false, std::move(general.error)};
  if (IsDead(http_status, ParseReplyFields(body))) return {true, ""};
  if (general.error.empty()) general.error = "unknown_error";
  return {false, std::move(general.error)};
}

}  // namespace tokenbroker
