// Set-up, what happens behind an app's back, reports. The endpoints are in consent.cc,
// token_endpoint.cc, revocation.cc, device_flow.cc and people.cc.

#include "tests/zoho_simulator/accounts_state.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/zoho_simulator/text.h"

namespace tokenbroker::zoho_simulator {

AccountsState::AccountsState(uint64_t seed)
    : random_(seed != 0 ? seed
                        : (uint64_t{std::random_device{}()} << 32) | std::random_device{}()) {}

absl::Status AccountsState::AddDc(std::string name, Behaviour behaviour) {
  MutexLock lock(mutex_);
  if (name.empty()) return absl::InvalidArgumentError("a DC needs a name");
  Dc dc;
  dc.behaviour = std::move(behaviour);
  if (const DataCentre* real = FindRealDataCentre(name)) dc.accounts_server = real->accounts_server;
  if (!dcs_.emplace(name, std::move(dc)).second) {
    return absl::AlreadyExistsError(absl::StrCat("DC ", name, " exists"));
  }
  return absl::OkStatus();
}

void AccountsState::SetAccountsServer(std::string_view dc, std::string url) {
  MutexLock lock(mutex_);
  if (const auto it = dcs_.find(dc); it != dcs_.end()) it->second.accounts_server = std::move(url);
}

std::vector<std::string> AccountsState::dc_names() const {
  MutexLock lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, dc] : dcs_) names.push_back(name);
  return names;
}

absl::Status AccountsState::AddClient(ClientConfig client) {
  MutexLock lock(mutex_);
  const auto invalid = [&](const char* what) {
    return absl::InvalidArgumentError(absl::StrCat("client ", client.client_id, ": ", what));
  };
  if (client.client_id.empty()) return invalid("needs a client_id");
  if (dcs_.find(client.home_dc) == dcs_.end()) return invalid("its home_dc is not simulated");
  if (client.secrets[client.home_dc].empty()) return invalid("needs a secret for its home_dc");
  for (const auto& [dc, secret] : client.secrets) {
    if (dcs_.find(dc) == dcs_.end()) return invalid("has a secret for a DC that is not simulated");
  }
  if (client.type == ClientType::kSelfClient) {
    if (client.multi_dc) return invalid("Multi-DC is not available to Self Clients");
    if (!client.redirect_uris.empty()) return invalid("a Self Client has no redirect URIs");
  }
  if (!client.multi_dc && client.secrets.size() > 1)
    return invalid("several secrets need Multi-DC");
  const std::string id = client.client_id;
  if (!clients_.emplace(id, std::move(client)).second) {
    return absl::AlreadyExistsError(absl::StrCat("client ", id, " exists"));
  }
  return absl::OkStatus();
}

absl::Status AccountsState::DeleteClient(std::string_view client_id) {
  MutexLock lock(mutex_);
  const auto client = clients_.find(client_id);
  if (client == clients_.end()) return absl::NotFoundError("no such client");
  for (auto& [number, grant] : grants_) {
    if (grant.client_id == client_id) Kill(grant);
  }
  for (auto& [text, code] : codes_) {
    if (code.client_id == client_id) code.used = true;
  }
  std::erase_if(devices_, [&](const auto& entry) { return entry.second.client_id == client_id; });
  clients_.erase(client);
  return absl::OkStatus();
}

absl::Status AccountsState::AddUser(UserConfig user) {
  MutexLock lock(mutex_);
  const auto invalid = [&](const char* what) {
    return absl::InvalidArgumentError(absl::StrCat("user ", user.user_id, ": ", what));
  };
  if (user.user_id.empty()) return invalid("needs a user_id");
  if (dcs_.find(user.dc) == dcs_.end()) return invalid("its dc is not simulated");
  if (user.orgs.empty()) return invalid("needs an org");
  if (users_.find(user.user_id) != users_.end()) {
    return absl::AlreadyExistsError(absl::StrCat("user ", user.user_id, " exists"));
  }
  for (OrgConfig& org : user.orgs) {
    if (org.org_id.empty()) return invalid("has an org without org_id");
    if (org.environments.empty()) org.environments = {{Environment::kProduction, org.org_id}};
    for (const auto& [environment, zsoid] : org.environments) {
      zsoids_[{user.dc, zsoid}] = {org.org_id, environment};
    }
  }
  std::string id = user.user_id;
  users_.emplace(std::move(id), std::move(user));
  return absl::OkStatus();
}

absl::StatusOr<Behaviour> AccountsState::GetBehaviour(std::string_view dc) const {
  MutexLock lock(mutex_);
  const auto it = dcs_.find(dc);
  if (it == dcs_.end()) return absl::NotFoundError("no such DC");
  return it->second.behaviour;
}

absl::Status AccountsState::SetBehaviour(std::string_view dc, Behaviour behaviour) {
  MutexLock lock(mutex_);
  if (dc.empty()) {
    for (auto& [name, entry] : dcs_) entry.behaviour = behaviour;
    return absl::OkStatus();
  }
  const auto it = dcs_.find(dc);
  if (it == dcs_.end()) return absl::NotFoundError("no such DC");
  it->second.behaviour = std::move(behaviour);
  return absl::OkStatus();
}

void AccountsState::SetDefaultConsent(std::optional<ConsentChoice> choice) {
  MutexLock lock(mutex_);
  default_consent_ = std::move(choice);
}

absl::StatusOr<std::vector<SeededGrant>> AccountsState::SeedGrants(std::string_view dc,
                                                                   std::string_view client_id,
                                                                   int count, SeedOptions options,
                                                                   absl::Time now) {
  MutexLock lock(mutex_);
  if (dcs_.find(dc) == dcs_.end()) return absl::NotFoundError("no such DC");
  if (clients_.find(client_id) == clients_.end()) return absl::NotFoundError("no such client");
  if (ClientIn(dc, client_id) == nullptr) {
    return absl::FailedPreconditionError("the client is unknown in that DC");
  }
  std::vector<SeededGrant> seeded;
  seeded.reserve(static_cast<size_t>(std::max(count, 0)));
  for (int i = 0; i < count; ++i) {
    const uint64_t n = next_seed_++;
    UserConfig user;
    user.user_id = absl::StrCat(options.prefix, "user-", n);
    user.dc = std::string(dc);
    const std::string org_id = absl::StrCat(options.prefix, n);
    user.orgs.push_back({org_id, absl::StrCat("Org ", n), {{options.environment, org_id}}});
    zsoids_[{user.dc, org_id}] = {org_id, options.environment};

    Grant grant;
    grant.dc = std::string(dc);
    grant.client_id = std::string(client_id);
    grant.user_id = user.user_id;
    grant.org_id = org_id;
    grant.environment = options.environment;
    grant.scopes = ParseScopes(options.scopes);
    grant.prefix = "1000";
    const Grant& made = NewGrant(std::move(grant), true, now);
    seeded.push_back(
        {IdentityOf(made), std::string(dc), std::string(client_id), made.refresh_token});
    std::string user_id = user.user_id;
    users_.insert_or_assign(std::move(user_id), std::move(user));
  }
  return seeded;
}

int AccountsState::TerminateUserTokens(std::string_view user_id) {
  MutexLock lock(mutex_);
  int killed = 0;
  for (auto& [number, grant] : grants_) {
    if (!grant.alive || grant.user_id != user_id) continue;
    Kill(grant);
    ++killed;
  }
  return killed;
}

int AccountsState::RemoveConnectedApp(std::string_view user_id, std::string_view client_id) {
  MutexLock lock(mutex_);
  int killed = 0;
  for (auto& [number, grant] : grants_) {
    if (!grant.alive || grant.user_id != user_id || grant.client_id != client_id) continue;
    Kill(grant);
    ++killed;
  }
  const std::string key = absl::StrCat(std::string(client_id), "\n", std::string(user_id), "\n");
  std::erase_if(consents_, [&](const std::string& consent) {
    return consent.compare(0, key.size(), key) == 0;
  });
  return killed;
}

int AccountsState::KillAccessTokens(std::string_view org_id) {
  MutexLock lock(mutex_);
  int killed = 0;
  for (auto& [number, grant] : grants_) {
    if (!org_id.empty() && grant.org_id != org_id) continue;
    killed += static_cast<int>(grant.access_tokens.size());
    DropAccessTokens(grant);
  }
  return killed;
}

absl::Status AccountsState::KillGrant(uint64_t grant_number) {
  MutexLock lock(mutex_);
  const auto it = grants_.find(grant_number);
  if (it == grants_.end()) return absl::NotFoundError("no such grant");
  Kill(it->second);
  return absl::OkStatus();
}

AccountsReply AccountsState::ServerInfo(std::string_view dc) const {
  MutexLock lock(mutex_);
  nlohmann::ordered_json locations = nlohmann::ordered_json::object();
  for (const auto& [name, entry] : dcs_) {
    // China runs apart: it is in no other DC's list, and lists no other.
    const bool listed = dc == "cn" ? name == "cn" : name != "cn";
    if (listed) locations[name] = entry.accounts_server;
  }
  AccountsReply reply;
  reply.body = nlohmann::ordered_json{{"result", "success"}, {"locations", locations}}.dump();
  reply.outcome = "server_info";
  return reply;
}

AccountsReply AccountsState::Throttled(std::string_view dc) const {
  MutexLock lock(mutex_);
  return ThrottledLocked(dc);
}

AccountsReply AccountsState::ThrottledLocked(std::string_view dc) const {
  AccountsReply reply;
  reply.status = 400;
  reply.outcome = "throttled";
  if (DcOf(dc).behaviour.throttle_language == Language::kChinese) {
    reply.body =
        "{\"error_description\":\"您连续发出的请求过多。请稍后重试。\","
        "\"error\":\"拒绝访问\",\"status\":\"failure\"}";
  } else {
    reply.body =
        "{\"error_description\":\"You have made too many requests continuously. Please try again "
        "after some time.\",\"error\":\"Access Denied\",\"status\":\"failure\"}";
  }
  return reply;
}

GrantIdentity AccountsState::Identify(std::string_view dc, const Parameters& parameters,
                                      std::string_view authorization) const {
  MutexLock lock(mutex_);
  const auto parameter = [&](std::string_view name) {
    const auto it = parameters.find(name);
    return it == parameters.end() ? std::string() : it->second;
  };
  for (const char* name : {"refresh_token", "token"}) {
    const std::string token = parameter(name);
    if (token.empty()) continue;
    if (const auto it = refresh_tokens_.find(token); it != refresh_tokens_.end()) {
      return IdentityOf(grants_.at(it->second.grant));
    }
    if (const auto it = access_tokens_.find(token); it != access_tokens_.end()) {
      return IdentityOf(grants_.at(it->second.grant));
    }
  }
  if (const auto it = codes_.find(parameter("code")); it != codes_.end()) {
    return {0, it->second.user_id, it->second.org_id, it->second.environment};
  }
  if (parameter("grant_type") == "client_credentials") {
    const std::string soid = parameter("soid");
    if (const size_t dot = soid.find('.'); dot != std::string::npos) {
      const auto org = zsoids_.find({std::string(dc), soid.substr(dot + 1)});
      if (org != zsoids_.end()) return {0, "", org->second.first, org->second.second};
    }
  }
  const size_t space = authorization.find(' ');
  if (space != std::string_view::npos) {
    const auto it = access_tokens_.find(std::string(authorization.substr(space + 1)));
    if (it != access_tokens_.end()) return IdentityOf(grants_.at(it->second.grant));
  }
  return {};
}

std::optional<GrantReport> AccountsState::FindGrant(uint64_t grant_number, absl::Time now) const {
  MutexLock lock(mutex_);
  const auto it = grants_.find(grant_number);
  if (it == grants_.end()) return std::nullopt;
  return Report(it->second, now);
}

std::optional<GrantReport> AccountsState::FindGrant(std::string_view dc, std::string_view client_id,
                                                    std::string_view org_id,
                                                    Environment environment, absl::Time now) const {
  MutexLock lock(mutex_);
  const Grant* newest = nullptr;
  for (const auto& [number, grant] : grants_) {
    if (grant.dc == dc && grant.client_id == client_id && grant.org_id == org_id &&
        grant.environment == environment && (newest == nullptr || number > newest->number)) {
      newest = &grant;
    }
  }
  if (newest == nullptr) return std::nullopt;
  return Report(*newest, now);
}

std::optional<std::string> AccountsState::RefreshTokenOf(uint64_t grant_number) const {
  MutexLock lock(mutex_);
  const auto it = grants_.find(grant_number);
  if (it == grants_.end() || !it->second.alive || it->second.refresh_token.empty()) {
    return std::nullopt;
  }
  return it->second.refresh_token;
}

std::string_view AccountsState::AccessTokenState(std::string_view access_token,
                                                 absl::Time now) const {
  MutexLock lock(mutex_);
  const auto it = access_tokens_.find(std::string(access_token));
  if (it == access_tokens_.end()) return "unknown";
  return now < it->second.expire_time ? "live" : "expired";
}

const AccountsState::Dc& AccountsState::DcOf(std::string_view name) const {
  static const Dc* const kNone = new Dc();
  const auto it = dcs_.find(name);
  return it == dcs_.end() ? *kNone : it->second;
}

const ClientConfig* AccountsState::ClientIn(std::string_view dc, std::string_view client_id) const {
  const auto it = clients_.find(client_id);
  if (it == clients_.end()) return nullptr;
  const ClientConfig& client = it->second;
  if (client.home_dc == dc) return &client;
  if (!client.multi_dc) return nullptr;
  const bool has_secret =
      client.same_secret_everywhere || client.secrets.count(std::string(dc)) != 0;
  return has_secret ? &client : nullptr;
}

const std::string& AccountsState::SecretIn(std::string_view dc, const ClientConfig& client) const {
  const auto it = client.secrets.find(std::string(dc));
  if (it != client.secrets.end()) return it->second;
  return client.secrets.at(client.home_dc);
}

AccountsState::Grant& AccountsState::NewGrant(Grant grant, bool with_refresh_token,
                                              absl::Time now) {
  grant.number = next_grant_++;
  grant.create_time = now;
  if (with_refresh_token) {
    grant.refresh_token = RandomToken(grant.prefix);
    refresh_tokens_[grant.refresh_token] = {grant.number, absl::InfiniteFuture()};
    std::deque<uint64_t>& living = grants_of_[{grant.client_id, grant.user_id}];
    const int limit = DcOf(grant.dc).behaviour.limits.refresh_tokens;
    while (limit > 0 && living.size() >= static_cast<size_t>(limit)) {
      Kill(grants_.at(living.front()));  // takes itself off the list
    }
    living.push_back(grant.number);
  }
  const uint64_t number = grant.number;
  return grants_.emplace(number, std::move(grant)).first->second;
}

void AccountsState::Kill(Grant& grant) {
  DropAccessTokens(grant);
  if (!grant.alive) return;
  grant.alive = false;
  const auto living = grants_of_.find({grant.client_id, grant.user_id});
  if (living != grants_of_.end()) std::erase(living->second, grant.number);
}

void AccountsState::DropAccessTokens(Grant& grant) {
  for (const std::string& token : grant.access_tokens) access_tokens_.erase(token);
  grant.access_tokens.clear();
}

GrantReport AccountsState::Report(const Grant& grant, absl::Time now) const {
  GrantReport report;
  report.identity = IdentityOf(grant);
  report.dc = grant.dc;
  report.client_id = grant.client_id;
  report.alive = grant.alive;
  report.has_refresh_token = !grant.refresh_token.empty();
  report.mints = grant.mints;
  for (const std::string& token : grant.access_tokens) {
    if (now < access_tokens_.at(token).expire_time) ++report.active_access_tokens;
  }
  if (now < grant.blocked_until) report.throttled_until = grant.blocked_until;
  return report;
}

GrantIdentity AccountsState::IdentityOf(const Grant& grant) {
  return {grant.number, grant.user_id, grant.org_id, grant.environment};
}

bool AccountsState::Recent::Admit(int limit, absl::Duration window, absl::Time now) {
  while (!times.empty() && times.front() + window <= now) times.pop_front();
  if (limit > 0 && times.size() >= static_cast<size_t>(limit)) return false;
  times.push_back(now);
  return true;
}

std::string AccountsState::RandomHex(int digits) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(static_cast<size_t>(digits));
  uint64_t bits = 0;
  for (int i = 0; i < digits; ++i, bits >>= 4) {
    if (i % 16 == 0) bits = random_();
    text += kDigits[bits & 15];
  }
  return text;
}

std::string AccountsState::RandomToken(std::string_view prefix) {
  std::string token(prefix);
  token += '.';
  token += RandomHex(32);
  token += '.';
  token += RandomHex(32);
  return token;
}

}  // namespace tokenbroker::zoho_simulator
