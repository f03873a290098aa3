// Both revocation endpoints.

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "tests/zoho_simulator/accounts_state.h"
#include "tests/zoho_simulator/text.h"

namespace tokenbroker::zoho_simulator {

AccountsReply AccountsState::Revoke(std::string_view dc, const Parameters& parameters,
                                    absl::Time now) {
  MutexLock lock(mutex_);
  return RevokeToken(dc, "", parameters, now);
}

AccountsReply AccountsState::RevokeWithBasicAuth(std::string_view dc,
                                                 std::string_view authorization,
                                                 const Parameters& parameters, absl::Time now) {
  MutexLock lock(mutex_);
  AccountsReply unauthorized;
  unauthorized.status = 401;
  unauthorized.body = nlohmann::json{{"error", "invalid_client"}}.dump();
  unauthorized.outcome = "invalid_client";

  constexpr std::string_view kScheme = "Basic ";
  if (!absl::StartsWithIgnoreCase({authorization.data(), authorization.size()},
                                  {kScheme.data(), kScheme.size()})) {
    return unauthorized;
  }
  const std::optional<std::string> pair = Base64Decode(authorization.substr(kScheme.size()));
  const size_t colon = pair.has_value() ? pair->find(':') : std::string::npos;
  if (colon == std::string::npos) return unauthorized;
  const std::string client_id = PercentDecode(pair->substr(0, colon));
  const ClientConfig* client = ClientIn(dc, client_id);
  if (client == nullptr || PercentDecode(pair->substr(colon + 1)) != SecretIn(dc, *client)) {
    return unauthorized;
  }
  return RevokeToken(dc, client_id, parameters, now);
}

AccountsReply AccountsState::RevokeToken(std::string_view dc, std::string_view client_id,
                                         const Parameters& parameters, absl::Time now) {
  AccountsReply success;
  success.body = nlohmann::json{{"status", "success"}}.dump();
  success.outcome = "revoked";
  // Not "status":"failure", which with HTTP 400 would be the throttle's mark.
  AccountsReply invalid;
  invalid.status = 400;
  invalid.body = nlohmann::json{{"error", "invalid_token"}}.dump();
  invalid.outcome = "invalid_token";

  const auto parameter = parameters.find("token");
  if (parameter == parameters.end()) return invalid;
  const auto belongs = [&](const Grant& grant) {
    return grant.dc == dc && (client_id.empty() || grant.client_id == client_id);
  };
  if (const auto it = refresh_tokens_.find(parameter->second); it != refresh_tokens_.end()) {
    Grant& grant = grants_.at(it->second.grant);
    success.grant = invalid.grant = IdentityOf(grant);
    if (!belongs(grant) || !grant.alive || it->second.valid_until <= now) return invalid;
    Kill(grant);
    return success;
  }
  if (const auto it = access_tokens_.find(parameter->second); it != access_tokens_.end()) {
    Grant& grant = grants_.at(it->second.grant);
    success.grant = invalid.grant = IdentityOf(grant);
    if (!belongs(grant) || it->second.expire_time <= now) return invalid;
    std::erase(grant.access_tokens, it->first);
    access_tokens_.erase(it);
    return success;
  }
  return invalid;
}

}  // namespace tokenbroker::zoho_simulator
