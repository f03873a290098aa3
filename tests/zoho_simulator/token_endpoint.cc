// The token endpoint: code exchange, refresh, client_credentials. The table of errors is in
// tests/zoho_simulator/README.md.

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/zoho_simulator/accounts_state.h"
#include "tests/zoho_simulator/text.h"

namespace tokenbroker::zoho_simulator {

std::optional<AccountsReply> AccountsState::RefuseClient(std::string_view dc,
                                                         const Parameters& parameters) const {
  const ClientConfig* client = ClientIn(dc, Get(parameters, "client_id"));
  if (client == nullptr) return JsonError("invalid_client");
  if (Get(parameters, "client_secret") != SecretIn(dc, *client)) {
    AccountsReply reply = JsonError(DcOf(dc).behaviour.wrong_secret_error);
    reply.outcome = "invalid_client_secret";
    return reply;
  }
  return std::nullopt;
}

AccountsReply AccountsState::Token(std::string_view dc, const Parameters& parameters,
                                   absl::Time now) {
  const std::string& grant_type = Get(parameters, "grant_type");
  if (grant_type.empty()) {
    return BadRequestPage();
  }
  MutexLock lock(mutex_);
  const bool known = grant_type == "authorization_code" || grant_type == "refresh_token" ||
                     grant_type == "client_credentials";
  if (!known) return JsonError("invalid_client");
  if (std::optional<AccountsReply> refused = RefuseClient(dc, parameters)) return *refused;
  if (grant_type == "authorization_code") return ExchangeCode(dc, parameters, now);
  if (grant_type == "refresh_token") return RefreshGrant(dc, parameters, now);
  return ClientCredentials(dc, parameters, now);
}

AccountsReply AccountsState::ExchangeCode(std::string_view dc, const Parameters& parameters,
                                          absl::Time now) {
  const auto it = codes_.find(Get(parameters, "code"));
  if (it == codes_.end()) return JsonError("invalid_code");
  Code& code = it->second;
  AccountsReply refusal = JsonError("invalid_code");
  refusal.grant = {0, code.user_id, code.org_id, code.environment};
  if (code.used || code.dc != dc || code.client_id != Get(parameters, "client_id") ||
      code.expire_time <= now) {
    return refusal;
  }
  if (!code.redirect_uri.empty() && Get(parameters, "redirect_uri") != code.redirect_uri) {
    AccountsReply reply = JsonError("invalid_redirect_uri");
    reply.grant = refusal.grant;
    return reply;
  }
  if (!code.code_challenge.empty()) {
    const std::string& verifier = Get(parameters, "code_verifier");
    const std::string challenge = code.challenge_is_s256 ? S256Challenge(verifier) : verifier;
    if (verifier.empty() || challenge != code.code_challenge) {
      code.used = true;  // whoever holds it is not who asked for it
      return refusal;
    }
  }
  const Dc& issuer = DcOf(dc);
  if (code.gives_refresh_token &&
      !recent_refresh_tokens_[{code.client_id, code.user_id}].Admit(
          issuer.behaviour.limits.refresh_tokens_per_window, issuer.behaviour.limits.window, now)) {
    AccountsReply reply = ThrottledLocked(dc);
    reply.grant = refusal.grant;
    return reply;
  }
  code.used = true;
  Grant grant;
  grant.dc = code.dc;
  grant.client_id = code.client_id;
  grant.user_id = code.user_id;
  grant.org_id = code.org_id;
  grant.environment = code.environment;
  grant.scopes = code.scopes;
  grant.prefix = "1000";
  Grant& made = NewGrant(std::move(grant), code.gives_refresh_token, now);
  const std::string access_token = NewAccessToken(made, issuer.behaviour, now);
  return TokenReply(made, issuer, access_token, made.refresh_token);
}

AccountsReply AccountsState::RefreshGrant(std::string_view dc, const Parameters& parameters,
                                          absl::Time now) {
  const auto it = refresh_tokens_.find(Get(parameters, "refresh_token"));
  if (it == refresh_tokens_.end()) return JsonError("invalid_code");
  RefreshToken& presented = it->second;
  Grant& grant = grants_.at(presented.grant);
  const Dc& issuer = DcOf(dc);
  const Behaviour& behaviour = issuer.behaviour;
  AccountsReply refusal = JsonError("invalid_code");
  refusal.grant = IdentityOf(grant);
  if (!grant.alive || grant.dc != dc || grant.client_id != Get(parameters, "client_id")) {
    return refusal;
  }
  if (presented.valid_until <= now) {
    if (behaviour.rotation_reuse_revokes) Kill(grant);
    return refusal;
  }
  if (!AdmitMint(grant, behaviour, now)) {
    AccountsReply reply = ThrottledLocked(dc);
    reply.grant = IdentityOf(grant);
    return reply;
  }
  std::string new_refresh_token;
  if (behaviour.rotate_refresh_tokens) {
    // A predecessor that still works gets the successor that there already is.
    if (it->first == grant.refresh_token) {
      presented.valid_until = now + behaviour.rotation_leeway;
      grant.refresh_token = RandomToken(grant.prefix);
      refresh_tokens_[grant.refresh_token] = {grant.number, absl::InfiniteFuture()};
    }
    new_refresh_token = grant.refresh_token;
  }
  const std::string access_token = NewAccessToken(grant, behaviour, now);
  return TokenReply(grant, issuer, access_token, new_refresh_token);
}

AccountsReply AccountsState::ClientCredentials(std::string_view dc, const Parameters& parameters,
                                               absl::Time now) {
  const std::string& client_id = Get(parameters, "client_id");
  if (ClientIn(dc, client_id)->type != ClientType::kSelfClient) return JsonError("invalid_client");
  std::vector<std::string> scopes = ParseScopes(Get(parameters, "scope"));
  if (scopes.empty() || !std::all_of(scopes.begin(), scopes.end(),
                                     [](const std::string& s) { return IsKnownScope(s); })) {
    return JsonError("invalid_scope");
  }
  const std::string& soid = Get(parameters, "soid");
  const size_t dot = soid.find('.');
  if (dot == std::string::npos || dot == 0) return JsonError("missing_org_info");
  const auto org = zsoids_.find({std::string(dc), soid.substr(dot + 1)});
  if (org == zsoids_.end()) return JsonError("missing_org_info");

  const auto& [org_id, environment] = org->second;
  std::sort(scopes.begin(), scopes.end());
  const std::string key =
      absl::StrCat(std::string(dc), "\n", client_id, "\n", org_id, "\n",
                   std::string(EnvironmentName(environment)), "\n", absl::StrJoin(scopes, ","));
  uint64_t& number = credential_grants_[key];
  if (number == 0 || !grants_.at(number).alive) {
    Grant grant;
    grant.dc = std::string(dc);
    grant.client_id = client_id;
    grant.org_id = org_id;
    grant.environment = environment;
    grant.scopes = scopes;
    grant.prefix = "1000";
    number = NewGrant(std::move(grant), false, now).number;
  }
  Grant& grant = grants_.at(number);
  const Dc& issuer = DcOf(dc);
  if (!AdmitMint(grant, issuer.behaviour, now)) {
    AccountsReply reply = ThrottledLocked(dc);
    reply.grant = IdentityOf(grant);
    return reply;
  }
  const std::string access_token = NewAccessToken(grant, issuer.behaviour, now);
  return TokenReply(grant, issuer, access_token, "");
}

bool AccountsState::AdmitMint(Grant& grant, const Behaviour& behaviour, absl::Time now) {
  const Limits& limits = behaviour.limits;
  bool admitted = true;
  if (now < grant.blocked_until) {
    admitted = false;
  } else if (!grant.window_start.has_value() || *grant.window_start + limits.window <= now) {
    grant.window_start = now;
    grant.window_mints = 0;
  } else if (limits.mints > 0 && grant.window_mints >= limits.mints) {
    grant.blocked_until = *grant.window_start + limits.window;
    admitted = false;
  }
  if (!admitted) {
    if (behaviour.retries_extend_block) grant.blocked_until = now + limits.window;
    return false;
  }
  ++grant.window_mints;
  ++grant.mints;
  return true;
}

std::string AccountsState::NewAccessToken(Grant& grant, const Behaviour& behaviour,
                                          absl::Time now) {
  while (!grant.access_tokens.empty() &&
         access_tokens_.at(grant.access_tokens.front()).expire_time + behaviour.limits.window <=
             now) {
    access_tokens_.erase(grant.access_tokens.front());
    grant.access_tokens.pop_front();
  }
  const int limit = behaviour.limits.active_access_tokens;
  int active = 0;
  for (const std::string& token : grant.access_tokens) {
    if (now < access_tokens_.at(token).expire_time) ++active;
  }
  // The oldest go first, and with them those that have expired before it.
  for (; limit > 0 && active >= limit; grant.access_tokens.pop_front()) {
    const auto oldest = access_tokens_.find(grant.access_tokens.front());
    if (now < oldest->second.expire_time) --active;
    access_tokens_.erase(oldest);
  }
  std::string token = RandomToken(grant.prefix);
  access_tokens_[token] = {grant.number, now + behaviour.access_token_life};
  grant.access_tokens.push_back(token);
  return token;
}

AccountsReply AccountsState::TokenReply(const Grant& grant, const Dc& dc,
                                        const std::string& access_token,
                                        const std::string& refresh_token) const {
  const Behaviour& behaviour = dc.behaviour;
  std::string api_domain = behaviour.api_domain;
  if (api_domain.empty()) {
    const DataCentre* real = FindRealDataCentre(grant.dc);
    api_domain = real == nullptr ? dc.accounts_server : real->api_domain;
    const size_t www = api_domain.find("://www.");
    if (www != std::string::npos && grant.environment != Environment::kProduction) {
      const char* host = grant.environment == Environment::kSandbox ? "sandbox." : "developer.";
      api_domain.replace(www + 3, 4, host);
    }
  }
  nlohmann::ordered_json body;
  body["access_token"] = access_token;
  if (!refresh_token.empty()) body["refresh_token"] = refresh_token;
  if (behaviour.scope_in_replies) body["scope"] = absl::StrJoin(grant.scopes, " ");
  body["api_domain"] = api_domain;
  body["token_type"] = "Bearer";
  const int64_t milliseconds = absl::ToInt64Milliseconds(behaviour.access_token_life);
  switch (behaviour.expires_in) {
    case ExpiresInStyle::kSeconds:
      body["expires_in"] = milliseconds / 1000;
      break;
    case ExpiresInStyle::kMillisecondsWithSeconds:
      body["expires_in_sec"] = milliseconds / 1000;
      body["expires_in"] = milliseconds;
      break;
    case ExpiresInStyle::kMillisecondsOnly:
      body["expires_in"] = milliseconds;
      break;
    case ExpiresInStyle::kAbsent:
      break;
  }
  AccountsReply reply;
  reply.body = body.dump();
  reply.outcome = "minted";
  reply.grant = IdentityOf(grant);
  return reply;
}

}  // namespace tokenbroker::zoho_simulator
