// The device flow's two endpoints for the device. What the user sees is in consent.cc.

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "tests/zoho_simulator/accounts_state.h"
#include "tests/zoho_simulator/text.h"

namespace tokenbroker::zoho_simulator {

AccountsReply AccountsState::DeviceCode(std::string_view dc, const Parameters& parameters,
                                        absl::Time now) {
  MutexLock lock(mutex_);
  const ClientConfig* client = ClientIn(dc, Get(parameters, "client_id"));
  if (Get(parameters, "grant_type") != "device_request" || client == nullptr ||
      client->type != ClientType::kNonBrowser) {
    return JsonError("invalid_client");
  }
  const std::vector<std::string> scopes = ParseScopes(Get(parameters, "scope"));
  if (scopes.empty() || !std::all_of(scopes.begin(), scopes.end(),
                                     [](const std::string& s) { return IsKnownScope(s); })) {
    return JsonError("invalid_scope");
  }
  const Dc& issuer = DcOf(dc);
  DeviceRequest request;
  request.user_code = absl::AsciiStrToUpper(RandomHex(8));
  request.client_id = client->client_id;
  request.scopes = scopes;
  request.offline = Get(parameters, "access_type") == "offline";
  request.expire_time = now + issuer.behaviour.device_code_life;
  const std::string device_code = RandomToken("1004");
  const std::string page = absl::StrCat(issuer.accounts_server, "/oauth/v3/device");

  nlohmann::ordered_json body;
  body["user_code"] = request.user_code;
  body["device_code"] = device_code;
  body["verification_url"] = page;
  body["verification_uri_complete"] = absl::StrCat(page, "?user_code=", request.user_code);
  // Milliseconds, both.
  body["interval"] = absl::ToInt64Milliseconds(issuer.behaviour.device_interval);
  body["expires_in"] = absl::ToInt64Milliseconds(issuer.behaviour.device_code_life);
  devices_.emplace(device_code, std::move(request));

  AccountsReply reply;
  reply.body = body.dump();
  reply.outcome = "device_code_issued";
  return reply;
}

AccountsReply AccountsState::DeviceToken(std::string_view dc, const Parameters& parameters,
                                         absl::Time now) {
  MutexLock lock(mutex_);
  if (Get(parameters, "grant_type") != "device_token") return JsonError("invalid_client");
  if (std::optional<AccountsReply> refused = RefuseClient(dc, parameters)) return *refused;
  const auto it = devices_.find(Get(parameters, "code"));
  if (it == devices_.end() || it->second.client_id != Get(parameters, "client_id") ||
      it->second.decision == DeviceRequest::Decision::kUsed) {
    return JsonError("invalid_code");
  }
  DeviceRequest& request = it->second;
  if (request.expire_time <= now) return JsonError("expired");
  const Dc& issuer = DcOf(dc);
  const bool too_soon = now < request.last_poll + issuer.behaviour.device_interval;
  request.last_poll = now;
  if (request.decision == DeviceRequest::Decision::kRefused) return JsonError("access_denied");
  if (request.decision == DeviceRequest::Decision::kPending) {
    return JsonError(too_soon ? "slow_down" : "authorization_pending");
  }
  const UserConfig& user = users_.find(request.choice.user_id)->second;
  if (user.dc != dc) {
    AccountsReply reply;
    reply.body = nlohmann::ordered_json{{"error", "other_dc"}, {"user_location", user.dc}}.dump();
    reply.outcome = "other_dc";
    return reply;
  }
  if (request.offline &&
      !recent_refresh_tokens_[{request.client_id, user.user_id}].Admit(
          issuer.behaviour.limits.refresh_tokens_per_window, issuer.behaviour.limits.window, now)) {
    return ThrottledLocked(dc);
  }
  request.decision = DeviceRequest::Decision::kUsed;
  Grant grant;
  grant.dc = std::string(dc);
  grant.client_id = request.client_id;
  grant.user_id = user.user_id;
  grant.org_id = request.choice.org_id;
  grant.environment = request.choice.environment;
  grant.scopes = request.scopes;
  grant.prefix = "1004";
  Grant& made = NewGrant(std::move(grant), request.offline, now);
  const std::string access_token = NewAccessToken(made, issuer.behaviour, now);
  return TokenReply(made, issuer, access_token, made.refresh_token);
}

}  // namespace tokenbroker::zoho_simulator
