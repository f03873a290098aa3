// The authorization endpoint: validation, the user's choice, codes.

#include "absl/strings/str_cat.h"
#include "tests/zoho_simulator/accounts_state.h"
#include "tests/zoho_simulator/text.h"

namespace tokenbroker::zoho_simulator {
namespace {

// Users that the HTML page offers. More are for scripts.
constexpr int kUsersOnPage = 20;

// Zoho shows these errors to the user; the app never learns of them.
AccountsReply ErrorPage(const std::string& error) {
  AccountsReply reply =
      HtmlPage(400, "Error Occurred", absl::StrCat("<p>ERROR_", HtmlEscape(error), "</p>\n"));
  reply.outcome = error;
  return reply;
}

AccountsReply Redirect(const std::string& redirect_uri, const std::string& query) {
  AccountsReply reply;
  reply.status = 302;
  reply.content_type = "text/html;charset=UTF-8";
  reply.location =
      absl::StrCat(redirect_uri, redirect_uri.find('?') == std::string::npos ? "?" : "&", query);
  return reply;
}

}  // namespace

std::optional<ConsentChoice> AccountsState::ChoiceOf(const Parameters& parameters) const {
  if (!Has(parameters, "sim_user") && !Has(parameters, "sim_org") &&
      !Has(parameters, "sim_environment") && !Has(parameters, "sim_decision")) {
    return default_consent_;
  }
  ConsentChoice choice = default_consent_.value_or(ConsentChoice());
  if (Has(parameters, "sim_user")) {
    choice.user_id = Get(parameters, "sim_user");
    choice.org_id.clear();
  }
  if (Has(parameters, "sim_org")) choice.org_id = Get(parameters, "sim_org");
  if (Has(parameters, "sim_environment")) {
    choice.environment =
        ParseEnvironment(Get(parameters, "sim_environment")).value_or(Environment::kProduction);
  }
  if (Has(parameters, "sim_decision")) choice.accept = Get(parameters, "sim_decision") == "accept";
  // An org without its user: whoever belongs to it.
  if (choice.user_id.empty() && !choice.org_id.empty()) {
    for (const auto& [user_id, user] : users_) {
      for (const OrgConfig& org : user.orgs) {
        if (org.org_id == choice.org_id) {
          choice.user_id = user_id;
          return choice;
        }
      }
    }
  }
  return choice;
}

absl::StatusOr<AccountsState::UserAndOrg> AccountsState::FindUser(
    const ConsentChoice& choice) const {
  const auto user = users_.find(choice.user_id);
  if (user == users_.end()) return absl::NotFoundError("no such user");
  for (const OrgConfig& org : user->second.orgs) {
    if (!choice.org_id.empty() && org.org_id != choice.org_id) continue;
    if (org.environments.count(choice.environment) == 0) {
      return absl::NotFoundError("the org has no such environment");
    }
    return UserAndOrg{&user->second, &org};
  }
  return absl::NotFoundError("the user has no such org");
}

AccountsReply AccountsState::Authorize(std::string_view dc, const Parameters& parameters,
                                       std::string_view path_and_query, absl::Time now) {
  MutexLock lock(mutex_);
  if (Get(parameters, "response_type") != "code") return ErrorPage("invalid_response_type");
  for (const char* mandatory : {"client_id", "redirect_uri", "scope"}) {
    if (!Has(parameters, mandatory)) return ErrorPage("invalid_response_type");
  }
  const ClientConfig* client = ClientIn(dc, Get(parameters, "client_id"));
  if (client == nullptr) return ErrorPage("invalid_client");
  const std::string& redirect_uri = Get(parameters, "redirect_uri");
  bool registered = false;
  for (const std::string& uri : client->redirect_uris) registered |= uri == redirect_uri;
  if (!registered) return ErrorPage("invalid_redirect_uri");
  const std::vector<std::string> scopes = ParseScopes(Get(parameters, "scope"));
  if (scopes.empty()) return ErrorPage("invalid_scope");
  for (const std::string& scope : scopes) {
    if (!IsKnownScope(scope)) return ErrorPage("invalid_scope");
  }
  const std::string& method = Get(parameters, "code_challenge_method");
  if (!method.empty() && method != "S256" && method != "plain") return ErrorPage("invalid_request");

  const std::optional<ConsentChoice> choice = ChoiceOf(parameters);
  if (!choice.has_value()) {
    AccountsReply reply = HtmlPage(200, "Zoho Accounts (simulated)",
                                   ConsentPage(*client, dc, scopes, path_and_query));
    reply.outcome = "consent_page";
    return reply;
  }
  const std::string state_pair =
      Has(parameters, "state") ? absl::StrCat("state=", PercentEncode(Get(parameters, "state")))
                               : std::string();
  if (!choice->accept) {
    AccountsReply reply =
        Redirect(redirect_uri,
                 absl::StrCat("error=access_denied", state_pair.empty() ? "" : "&", state_pair));
    reply.outcome = "access_denied";
    return reply;
  }
  const absl::StatusOr<UserAndOrg> who = FindUser(*choice);
  if (!who.ok()) return ErrorPage("unknown_simulated_user");
  const std::string& user_dc = who->user->dc;
  // A user of another DC is served there, where the client must be known too. China runs apart.
  if (user_dc != dc && (user_dc == "cn" || dc == "cn")) return ErrorPage("invalid_client");
  if (ClientIn(user_dc, client->client_id) == nullptr) return ErrorPage("invalid_client");

  const Dc& issuer = DcOf(user_dc);
  if (!recent_codes_[{client->client_id, user_dc}].Admit(issuer.behaviour.limits.codes_per_window,
                                                         issuer.behaviour.limits.window, now)) {
    AccountsReply reply = ErrorPage("too_many_requests");
    reply.outcome = "throttled";
    return reply;
  }
  Code code;
  code.dc = user_dc;
  code.client_id = client->client_id;
  code.user_id = who->user->user_id;
  code.org_id = who->org->org_id;
  code.environment = choice->environment;
  code.scopes = scopes;
  code.redirect_uri = redirect_uri;
  code.code_challenge = Get(parameters, "code_challenge");
  code.challenge_is_s256 = method == "S256";
  code.expire_time = now + issuer.behaviour.code_life;
  const std::string text = NewCode(std::move(code), Get(parameters, "access_type") == "offline",
                                   Get(parameters, "prompt") == "consent", "1000");

  // As observed: state first, and an ampersand at the end.
  std::string query = state_pair.empty() ? "" : absl::StrCat(state_pair, "&");
  const Behaviour& behaviour = issuer.behaviour;
  absl::StrAppend(
      &query, "code=", PercentEncode(text), "&location=",
      PercentEncode(behaviour.redirect_location.empty() ? user_dc : behaviour.redirect_location),
      "&accounts-server=",
      PercentEncode(behaviour.redirect_accounts_server.empty()
                        ? issuer.accounts_server
                        : behaviour.redirect_accounts_server),
      "&");
  for (const auto& [name, value] : behaviour.extra_redirect_parameters) {
    absl::StrAppend(&query, PercentEncode(name), "=", PercentEncode(value), "&");
  }
  AccountsReply reply = Redirect(redirect_uri, query);
  reply.outcome = "code_issued";
  reply.grant = {0, who->user->user_id, who->org->org_id, choice->environment};
  return reply;
}

std::string AccountsState::ConsentPage(const ClientConfig& client, std::string_view dc,
                                       const std::vector<std::string>& scopes,
                                       std::string_view path_and_query) const {
  std::string page = absl::StrCat("<p>", HtmlEscape(client.client_id), " (", std::string(dc),
                                  ") would like to access:</p>\n<ul>\n");
  for (const std::string& scope : scopes) {
    absl::StrAppend(&page, "<li>", HtmlEscape(scope), "</li>\n");
  }
  absl::StrAppend(&page, "</ul>\n<p>Choose the organization:</p>\n<ul>\n");
  const std::string base = absl::StrCat(
      std::string(path_and_query), path_and_query.find('?') == std::string_view::npos ? "?" : "&");
  int shown = 0;
  for (const auto& [user_id, user] : users_) {
    if (ClientIn(user.dc, client.client_id) == nullptr) continue;
    if (shown++ == kUsersOnPage) break;
    for (const OrgConfig& org : user.orgs) {
      for (const auto& [environment, zsoid] : org.environments) {
        const std::string environment_name(EnvironmentName(environment));
        const std::string link = absl::StrCat(
            base, "sim_user=", PercentEncode(user_id), "&sim_org=", PercentEncode(org.org_id),
            "&sim_environment=", environment_name, "&sim_decision=accept");
        absl::StrAppend(&page, "<li>", HtmlEscape(org.name.empty() ? org.org_id : org.name), " (",
                        HtmlEscape(org.org_id), ", ", environment_name, "), as ",
                        HtmlEscape(user_id), ": <a href=\"", HtmlEscape(link),
                        "\">Accept</a></li>\n");
      }
    }
  }
  absl::StrAppend(&page, "</ul>\n<p><a href=\"", HtmlEscape(base), "sim_decision=refuse",
                  "\">Refuse</a></p>\n");
  return page;
}

std::string AccountsState::ConsentKey(const Behaviour& behaviour, const Code& code) const {
  std::string key = absl::StrCat(code.client_id, "\n", code.user_id, "\n");
  if (behaviour.first_consent_per_org) {
    absl::StrAppend(&key, code.org_id, "\n", std::string(EnvironmentName(code.environment)));
  }
  return key;
}

std::string AccountsState::NewCode(Code code, bool offline, bool prompt_consent,
                                   std::string_view prefix) {
  const bool first = offline && consents_.insert(ConsentKey(DcOf(code.dc).behaviour, code)).second;
  code.gives_refresh_token = offline && (first || prompt_consent);
  std::string text = RandomToken(prefix);
  codes_.emplace(text, std::move(code));
  return text;
}

absl::StatusOr<std::string> AccountsState::CreateCode(const CodeRequest& request, absl::Time now) {
  MutexLock lock(mutex_);
  const auto it = clients_.find(request.client_id);
  if (it == clients_.end()) return absl::NotFoundError("no such client");
  const ClientConfig& client = it->second;
  const absl::StatusOr<UserAndOrg> who =
      FindUser({request.user_id, request.org_id, request.environment, true});
  if (!who.ok()) return who.status();
  if (ClientIn(who->user->dc, request.client_id) == nullptr) {
    return absl::FailedPreconditionError("the client is unknown in the user's DC");
  }
  const std::vector<std::string> scopes = ParseScopes(request.scopes);
  if (scopes.empty()) return absl::InvalidArgumentError("Enter a valid scope");
  for (const std::string& scope : scopes) {
    if (!IsKnownScope(scope)) return absl::InvalidArgumentError("Enter a valid scope");
  }
  const Behaviour& behaviour = DcOf(who->user->dc).behaviour;
  if (!recent_codes_[{client.client_id, who->user->dc}].Admit(behaviour.limits.codes_per_window,
                                                              behaviour.limits.window, now)) {
    return absl::ResourceExhaustedError("too many codes for this client");
  }
  const bool self_client = client.type == ClientType::kSelfClient;
  Code code;
  code.dc = who->user->dc;
  code.client_id = client.client_id;
  code.user_id = who->user->user_id;
  code.org_id = who->org->org_id;
  code.environment = request.environment;
  code.scopes = scopes;
  if (!self_client) {
    code.redirect_uri = request.redirect_uri.empty() && !client.redirect_uris.empty()
                            ? client.redirect_uris.front()
                            : request.redirect_uri;
  }
  code.expire_time = now + request.life.value_or(self_client ? behaviour.self_client_code_life
                                                             : behaviour.code_life);
  return NewCode(std::move(code), request.offline, request.prompt_consent || self_client, "1000");
}

AccountsReply AccountsState::DevicePage(std::string_view dc, const Parameters& parameters,
                                        std::string_view path_and_query, absl::Time now) {
  MutexLock lock(mutex_);
  DeviceRequest* request = nullptr;
  for (auto& [device_code, candidate] : devices_) {
    if (candidate.user_code == Get(parameters, "user_code")) request = &candidate;
  }
  if (request == nullptr || request->expire_time <= now ||
      request->decision != DeviceRequest::Decision::kPending) {
    return ErrorPage("invalid_user_code");
  }
  const std::optional<ConsentChoice> choice = ChoiceOf(parameters);
  if (!choice.has_value()) {
    AccountsReply reply =
        HtmlPage(200, "Zoho Accounts (simulated)",
                 ConsentPage(clients_.at(request->client_id), dc, request->scopes, path_and_query));
    reply.outcome = "consent_page";
    return reply;
  }
  AccountsReply reply = HtmlPage(200, "You may close this page", "");
  if (!choice->accept) {
    request->decision = DeviceRequest::Decision::kRefused;
    reply.outcome = "access_denied";
    return reply;
  }
  const absl::StatusOr<UserAndOrg> who = FindUser(*choice);
  if (!who.ok()) return ErrorPage("unknown_simulated_user");
  request->decision = DeviceRequest::Decision::kAccepted;
  request->choice = *choice;
  request->choice.org_id = who->org->org_id;
  reply.outcome = "device_accepted";
  reply.grant = {0, who->user->user_id, who->org->org_id, choice->environment};
  return reply;
}

}  // namespace tokenbroker::zoho_simulator
