// The sections that concern Zoho: data centres, OAuth clients, consent, accounts servers.
#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "clients/zoho/origin.h"
#include "common/ids.h"
#include "server/config/config_reader.h"
#include "server/config/settings_sections.h"

namespace tokenbroker {
namespace {

using Type = config::v1::ClientType;

std::optional<OAuthClientType> ToClientType(Type type) {
  switch (type) {
    case config::v1::CLIENT_TYPE_SERVER_BASED:
      return OAuthClientType::kServerBased;
    case config::v1::CLIENT_TYPE_CLIENT_BASED:
      return OAuthClientType::kClientBased;
    case config::v1::CLIENT_TYPE_MOBILE:
      return OAuthClientType::kMobile;
    case config::v1::CLIENT_TYPE_NON_BROWSER:
      return OAuthClientType::kNonBrowser;
    case config::v1::CLIENT_TYPE_SELF_CLIENT:
      return OAuthClientType::kSelfClient;
    default:
      return std::nullopt;
  }
}

std::vector<std::string> KnownDcs(const config::v1::Config& config) {
  std::set<std::string> names;
  for (const DataCenter& dc : DataCenterTable::BuiltIn()) names.insert(dc.name);
  for (const config::v1::DataCenter& dc : config.data_centers()) {
    if (!dc.name().empty()) names.insert(dc.name());
  }
  return {names.begin(), names.end()};
}

bool IsClientName(std::string_view name) {
  if (name.empty() || name.size() > kMaxOAuthClientBytes) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '-';
  });
}

// Stands in for a secret that could not be read, so that no rule calls it missing a second time.
Secret Unreadable() { return Secret("unreadable"); }

void LoadSecrets(LoadContext& context, const std::string& path, const config::v1::OAuthClient& in,
                 const std::vector<std::string>& known_dcs, OAuthClient* client) {
  const std::string shared_path = path + ".client_secret_file";
  if (!in.client_secret_file().empty()) {
    client->shared_secret =
        context.files.ReadToken(shared_path, in.client_secret_file()).value_or(Unreadable());
    if (in.dc_secrets_size() > 0) {
      context.Refuse(shared_path,
                     "give either client_secret_file, for all DCs, or dc_secrets, not both");
    }
  }
  std::map<std::string, Secret, std::less<>> secrets;
  for (int i = 0; i < in.dc_secrets_size(); ++i) {
    const config::v1::DcSecret& entry = in.dc_secrets(i);
    const std::string at = absl::StrCat(path, ".dc_secrets[", i, "]");
    const bool named = context.Require(at + ".dc", entry.dc(), "the DC's name");
    if (named && std::find(known_dcs.begin(), known_dcs.end(), entry.dc()) == known_dcs.end()) {
      context.Refuse(at + ".dc", absl::StrCat("unknown DC '", absl::Utf8SafeCHexEscape(entry.dc()),
                                              "'; known: ", absl::StrJoin(known_dcs, ", ")));
    }
    if (named && secrets.contains(entry.dc())) {
      context.Refuse(at + ".dc", absl::StrCat("'", absl::Utf8SafeCHexEscape(entry.dc()),
                                              "' has a secret already"));
    }
    Secret secret = Unreadable();
    if (context.Require(at + ".client_secret_file", entry.client_secret_file(),
                        "the file with the client secret in this DC")) {
      secret = context.files.ReadToken(at + ".client_secret_file", entry.client_secret_file())
                   .value_or(Unreadable());
    }
    secrets.emplace(entry.dc(), std::move(secret));
  }
  if (!client->shared_secret) client->secrets = std::move(secrets);
}

// The console's rules, in the schema's words. Of a client whose type is not known those that hold
// for all types: the operator is to see everything that is wrong at once.
void CheckConsoleRules(LoadContext& context, const std::string& path, const OAuthClient& client,
                       bool type_known, const std::vector<std::string>& known_dcs) {
  for (const OAuthClientProblem& problem : type_known
                                               ? CheckOAuthClient(client, known_dcs)
                                               : CheckUntypedOAuthClient(client, known_dcs)) {
    // Checked above, with the entry's own line.
    if (problem.field == "name" || problem.field.starts_with("secrets[")) continue;
    std::string at = JoinPath(path, problem.field == "secrets" ? "dc_secrets" : problem.field);
    if (!context.problems.Has(at)) context.Refuse(at, problem.description);
  }
}

OAuthClient LoadOAuthClient(LoadContext& context, const std::string& path,
                            const config::v1::OAuthClient& in,
                            const std::vector<std::string>& known_dcs) {
  OAuthClient client;
  client.name = in.name();
  if (context.Require(path + ".name", in.name(), "the broker's own name for the client") &&
      !IsClientName(in.name())) {
    context.Refuse(path + ".name", "must be 1 to 128 characters of A-Z a-z 0-9 _ . -");
  }
  client.client_name = in.client_name();
  client.client_id = in.client_id();
  client.homepage_url = in.homepage_url();
  client.redirect_uris = {in.redirect_uris().begin(), in.redirect_uris().end()};
  client.javascript_domains = {in.javascript_domains().begin(), in.javascript_domains().end()};
  LoadSecrets(context, path, in, known_dcs, &client);
  const std::optional<OAuthClientType> type = ToClientType(in.type());
  if (type) {
    client.type = *type;
  } else if (!context.problems.Has(path + ".type")) {
    context.Refuse(
        path + ".type",
        "is required: SERVER_BASED, CLIENT_BASED, MOBILE, NON_BROWSER or SELF_CLIENT, as "
        "in Zoho's developer console");
  }
  CheckConsoleRules(context, path, client, type.has_value(), known_dcs);
  return client;
}

}  // namespace

DataCenterTable LoadDataCenters(LoadContext& context) {
  const config::v1::Config& config = context.config();
  const bool plaintext = config.zoho().allow_plaintext_loopback();
  std::vector<DataCenter> given;
  std::set<std::string> names;
  for (int i = 0; i < config.data_centers_size(); ++i) {
    const config::v1::DataCenter& in = config.data_centers(i);
    const std::string path = absl::StrCat("data_centers[", i, "]");
    if (!context.Require(path + ".name", in.name(), "the DC's name")) continue;
    if (!names.insert(in.name()).second) {
      context.Refuse(path + ".name", "is the name of another data centre of this list");
      continue;
    }
    const DataCenter dc{in.name(), in.accounts_server(), in.api_domain(), in.people_host()};
    for (const DataCenterProblem& problem : CheckDataCenter(dc, plaintext)) {
      const std::string at = JoinPath(path, problem.field);
      if (!context.problems.Has(at)) context.Refuse(at, problem.rule);
    }
    given.push_back(dc);
  }
  absl::StatusOr<DataCenterTable> table = DataCenterTable::Create(given, plaintext);
  return table.ok() ? *std::move(table) : DataCenterTable();
}

OAuthClientRegistry LoadOAuthClients(LoadContext& context) {
  const config::v1::Config& config = context.config();
  if (config.oauth_clients().empty() && !context.problems.Has("oauth_clients")) {
    context.Refuse("oauth_clients", "is required: at least one OAuth client");
  }
  const std::vector<std::string> known_dcs = KnownDcs(config);
  std::vector<OAuthClient> clients;
  std::set<std::string> names;
  for (int i = 0; i < config.oauth_clients_size(); ++i) {
    const std::string path = absl::StrCat("oauth_clients[", i, "]");
    OAuthClient client = LoadOAuthClient(context, path, config.oauth_clients(i), known_dcs);
    if (!client.name.empty() && !names.insert(client.name).second) {
      context.Refuse(path + ".name", absl::StrCat("two OAuth clients are called '",
                                                  absl::Utf8SafeCHexEscape(client.name), "'"));
      continue;
    }
    clients.push_back(std::move(client));
  }
  absl::StatusOr<OAuthClientRegistry> registry = OAuthClientRegistry::Create(std::move(clients));
  return registry.ok() ? *std::move(registry) : OAuthClientRegistry();
}

ZohoSettings LoadZoho(LoadContext& context) {
  const config::v1::Zoho& zoho = context.config().zoho();
  ZohoSettings settings;
  settings.allow_plaintext_loopback = zoho.allow_plaintext_loopback();
  if (!zoho.ca_file().empty() &&
      context.files.ReadPem("zoho.ca_file", zoho.ca_file(), "CERTIFICATE")) {
    settings.ca_file = context.files.Locate(zoho.ca_file());
  }
  settings.user_agent = zoho.user_agent();
  constexpr size_t kMaxUserAgentBytes = 200;
  if (settings.user_agent.size() > kMaxUserAgentBytes ||
      !std::all_of(settings.user_agent.begin(), settings.user_agent.end(),
                   [](char c) { return absl::ascii_isprint(static_cast<unsigned char>(c)); })) {
    context.Refuse("zoho.user_agent", "must be at most 200 printable ASCII characters");
  }
  return settings;
}

std::optional<ConsentSettings> LoadConsent(LoadContext& context) {
  if (!context.config().has_consent()) return std::nullopt;
  const config::v1::Consent& consent = context.config().consent();
  ConsentSettings settings;
  settings.callback_url = consent.callback_url();
  settings.state_lifetime = ToAbslDuration(consent.state_lifetime());
  if (context.Require("consent.callback_url", consent.callback_url(),
                      "the redirect URI of the broker's own callback page")) {
    const std::optional<WebUrl> url = ParseWebUrl(consent.callback_url());
    const bool fine = url && (url->origin.scheme == "https" || IsLoopback(url->origin)) &&
                      url->rest.starts_with('/') &&
                      url->rest.find_first_of("?#") == std::string_view::npos;
    if (!fine) {
      context.Refuse("consent.callback_url",
                     "must be https://host/path (http:// on localhost only), without a query or "
                     "fragment");
    } else {
      settings.callback_path = std::string(url->rest);
      for (const std::string_view taken : {"/livez", "/readyz", "/metrics"}) {
        if (url->rest == taken) {
          context.Refuse("consent.callback_url",
                         "has a path that the ops listener uses: /livez, /readyz or /metrics");
        }
      }
    }
    const auto& clients = context.config().oauth_clients();
    const bool registered = std::any_of(clients.begin(), clients.end(), [&](const auto& client) {
      return std::find(client.redirect_uris().begin(), client.redirect_uris().end(),
                       consent.callback_url()) != client.redirect_uris().end();
    });
    if (fine && !registered) {
      context.Refuse("consent.callback_url",
                     "is among the redirect_uris of no OAuth client, so Zoho would refuse it");
    }
  }
  if (context.Require("consent.state_key_file", consent.state_key_file(),
                      "32 random bytes in base64, the same in all replicas")) {
    if (auto key = context.files.ReadKey("consent.state_key_file", consent.state_key_file())) {
      settings.state_key = *std::move(key);
    }
  }
  return settings;
}

}  // namespace tokenbroker
