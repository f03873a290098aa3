// The People API, as far as tokens go.

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/zoho_simulator/accounts_state.h"
#include "tests/zoho_simulator/text.h"

namespace tokenbroker::zoho_simulator {
namespace {

constexpr std::string_view kRoot = "/people/api/";

std::string Body(const nlohmann::ordered_json& response) {
  const nlohmann::ordered_json body = {{"response", response}};
  // Paths and ids may be no UTF-8.
  return body.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

AccountsReply Refusal(std::string_view path, int code, const char* message, const char* outcome) {
  AccountsReply reply;
  reply.status = 401;
  nlohmann::ordered_json errors = {{"code", code}, {"message", message}};
  nlohmann::ordered_json response = {{"message", "Error occurred"},
                                     {"uri", std::string(path.substr(kRoot.size() - 5))},
                                     {"errors", errors},
                                     {"status", 1}};
  reply.body = Body(response);
  reply.outcome = outcome;
  return reply;
}

}  // namespace

AccountsReply AccountsState::People(std::string_view dc, std::string_view method,
                                    std::string_view path, std::string_view authorization,
                                    absl::Time now) {
  MutexLock lock(mutex_);
  constexpr std::string_view kScheme = "Zoho-oauthtoken ";
  if (!absl::StartsWithIgnoreCase({authorization.data(), authorization.size()},
                                  {kScheme.data(), kScheme.size()})) {
    return Refusal(path, 7202, "Authentication credential is missing.", "credential_missing");
  }
  const auto it = access_tokens_.find(std::string(authorization.substr(kScheme.size())));
  if (it == access_tokens_.end() || it->second.expire_time <= now) {
    AccountsReply reply = Refusal(path, 7213, "The provided OAuth token is invalid.", "token_dead");
    if (it != access_tokens_.end()) reply.grant = IdentityOf(grants_.at(it->second.grant));
    return reply;
  }
  const Grant& grant = grants_.at(it->second.grant);
  if (grant.dc != dc) {
    AccountsReply reply = Refusal(path, 7213, "The provided OAuth token is invalid.", "token_dead");
    reply.grant = IdentityOf(grant);
    return reply;
  }
  const std::string_view rest = path.substr(kRoot.size());
  const std::string name(rest.substr(0, rest.find('/')));
  const char* operation = method == "POST"     ? "CREATE"
                          : method == "PUT"    ? "UPDATE"
                          : method == "DELETE" ? "DELETE"
                                               : "READ";
  if (!ScopesAllow(grant.scopes, absl::StrCat("ZOHOPEOPLE.", name, ".", operation))) {
    AccountsReply reply =
        Refusal(path, 7218, "The OAuth token does not have the required scope.", "scope_missing");
    reply.grant = IdentityOf(grant);
    return reply;
  }
  nlohmann::ordered_json result = {{"org_id", grant.org_id},
                                   {"environment", std::string(EnvironmentName(grant.environment))},
                                   {"dc", grant.dc},
                                   {"user_id", grant.user_id},
                                   {"name", name}};
  nlohmann::ordered_json response = {{"message", "Data fetched successfully"},
                                     {"uri", std::string(path.substr(kRoot.size() - 5))},
                                     {"status", 0},
                                     {"result", nlohmann::ordered_json::array({result})}};
  AccountsReply reply;
  reply.body = Body(response);
  reply.outcome = "data";
  reply.grant = IdentityOf(grant);
  return reply;
}

}  // namespace tokenbroker::zoho_simulator
