#include "server/config/settings.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "tests/server/config/fake_files.h"

namespace tokenbroker {
namespace {

FakeFiles Files(const std::string& yaml) {
  return FakeFiles()
      .Add("broker.yaml", yaml)
      .Add("own-org-us", std::string(kSecretText) + "\n")
      .Add("secret", std::string(kSecretText))
      .Add("key", kKeyText)
      .Add("tls.crt", kCertificateText)
      .Add("tls.key", kPrivateKeyText);
}

CommandLine Line(std::vector<ConfigOverride> overrides = {}) {
  CommandLine line;
  line.config_file = "broker.yaml";
  line.overrides = std::move(overrides);
  return line;
}

absl::StatusOr<Settings> Load(const std::string& yaml, std::vector<ConfigOverride> overrides = {}) {
  return LoadSettings(Line(std::move(overrides)), Files(yaml).Reader());
}

std::string Report(const std::string& yaml) {
  const auto settings = Load(yaml);
  return settings.ok() ? "" : std::string(settings.status().message());
}

// kMinimal with more sections after it; their lines begin at 10.
std::string With(const std::string& more) { return kMinimal + more; }

TEST(SettingsTest, MinimalFileHasAllDefaults) {
  const auto settings = Load(kMinimal);
  ASSERT_EQ(settings.status(), absl::OkStatus());
  EXPECT_EQ(settings->grpc.listen, "127.0.0.1:8443");
  EXPECT_EQ(settings->grpc.max_connection_age, absl::Minutes(5));
  EXPECT_FALSE(settings->grpc.tls.has_value());
  EXPECT_EQ(settings->ops.listen, "127.0.0.1:9090");
  EXPECT_EQ(settings->store.sqlite->path, "grants.db");
  EXPECT_EQ(settings->store.sqlite->busy_timeout, absl::Seconds(2));
  EXPECT_FALSE(settings->store.redis.has_value());
  EXPECT_TRUE(settings->store.keyring.empty());
  EXPECT_EQ(settings->data_centers.all().size(), 11u);
  const OAuthClient* client = settings->oauth_clients.Find("own-org");
  ASSERT_NE(client, nullptr);
  ASSERT_NE(client->SecretFor("us"), nullptr);
  EXPECT_TRUE(client->SecretFor("us")->Reveal() == kSecretText);
  EXPECT_EQ(client->SecretFor("eu"), nullptr);
  EXPECT_EQ(settings->issuing.refresh_ahead, absl::Seconds(600));
  EXPECT_FALSE(settings->consent.has_value());
  EXPECT_EQ(settings->log.level, LogLevel::kInfo);
  EXPECT_TRUE(settings->log.cached_calls);
  const ProtocolLimits defaults;
  EXPECT_EQ(settings->protocol.sent_lease, defaults.sent_lease);
  EXPECT_EQ(settings->protocol.failure_backoff, defaults.failure_backoff);
  ASSERT_EQ(settings->protocol.budget.size(), defaults.budget.size());
  EXPECT_EQ(settings->protocol.budget[1].sends, defaults.budget[1].sends);
  EXPECT_EQ(settings->protocol.budget[1].length, defaults.budget[1].length);
  EXPECT_EQ(settings->protocol.background_reserve, defaults.background_reserve);
}

TEST(SettingsTest, ReadsEverySectionAndFile) {
  const auto settings = Load(R"(grpc:
  listen: 0.0.0.0:1
  tls: {cert_file: tls.crt, key_file: tls.key, client_ca_file: tls.crt}
ops: {listen: 0.0.0.0:2, callback_listen: 0.0.0.0:3}
store:
  redis:
    address: "[::1]:6379"
    username: u
    password_file: secret
    replica_acks: 1
    key_prefix: "x:"
    tls: {ca_file: tls.crt, certificate_file: tls.crt, key_file: tls.key, server_name: redis.example}
    quarantine: 30s
    accept_risks: [EVICTION, REDIS_RISK_NO_PERSISTENCE, too_few_replicas]
  keyring: {keys: [{id: k1, key_file: key}]}
oauth_clients:
  - name: web
    type: CLIENT_TYPE_SERVER_BASED
    client_name: Web
    client_id: "1000.A"
    homepage_url: https://example.com
    redirect_uris: [https://b.example.com/cb]
    client_secret_file: secret
data_centers:
  - {name: lab, accounts_server: "http://127.0.0.1:1", api_domain: "http://127.0.0.1:2", people_host: "127.0.0.1:3"}
zoho: {allow_plaintext_loopback: true, ca_file: tls.crt}
issuing: {refresh_ahead: 20s, refresh_ahead_jitter: 0s, forced_refresh: 10s, min_lifetime: 5s}
consent: {callback_url: "https://b.example.com/cb", state_key_file: key}
log: {level: WARNING, cached_calls: false}
)");
  ASSERT_EQ(settings.status(), absl::OkStatus());
  EXPECT_EQ(settings->grpc.tls->cert_chain_pem.substr(0, 10), "-----BEGIN");
  EXPECT_FALSE(settings->grpc.tls->private_key_pem.empty());
  EXPECT_FALSE(settings->grpc.tls->client_ca_pem.empty());
  EXPECT_EQ(settings->store.redis->address->host, "::1");
  EXPECT_EQ(settings->store.redis->address->port, 6379);
  EXPECT_FALSE(settings->store.redis->sentinel || settings->store.redis->cluster);
  EXPECT_EQ(settings->store.redis->tls->ca_file, "tls.crt");
  EXPECT_EQ(settings->store.redis->tls->certificate_file, "tls.crt");
  EXPECT_EQ(settings->store.redis->tls->key_file, "tls.key");
  EXPECT_EQ(settings->store.redis->tls->server_name, "redis.example");
  EXPECT_EQ(settings->store.redis->quarantine, absl::Seconds(30));
  EXPECT_EQ(settings->store.redis->accepted_risks,
            (std::vector<RedisRisk>{RedisRisk::kEviction, RedisRisk::kNoPersistence,
                                    RedisRisk::kTooFewReplicas}));
  EXPECT_EQ(settings->store.redis->username, "u");
  EXPECT_TRUE(settings->store.redis->password()->Reveal() == kSecretText);
  EXPECT_EQ(settings->store.redis->replica_acks, 1);
  EXPECT_EQ(settings->store.redis->replica_ack_timeout, absl::Milliseconds(200));
  ASSERT_EQ(settings->store.keyring.size(), 1u);
  EXPECT_EQ(settings->store.keyring[0].key.size(), 32u);
  EXPECT_EQ(settings->data_centers.Find("lab")->accounts_server, "http://127.0.0.1:1");
  EXPECT_TRUE(settings->oauth_clients.Find("web")->shared_secret.has_value());
  EXPECT_EQ(settings->zoho.ca_file, "tls.crt");
  EXPECT_EQ(settings->consent->callback_path, "/cb");
  EXPECT_EQ(settings->consent->state_key.size(), 32u);
  EXPECT_EQ(settings->consent->state_lifetime, absl::Hours(1));
  EXPECT_EQ(settings->log.level, LogLevel::kWarning);
  EXPECT_FALSE(settings->log.cached_calls);
}

struct BadConfig {
  std::string name;
  std::string yaml;
  std::string message;
};

void PrintTo(const BadConfig& config, std::ostream* out) { *out << config.name; }

class BadConfigTest : public testing::TestWithParam<BadConfig> {};

TEST_P(BadConfigTest, SaysWhereAndWhat) { EXPECT_EQ(Report(GetParam().yaml), GetParam().message); }

constexpr char kClient[] =
    "oauth_clients:\n"
    "  - {name: a, type: SELF_CLIENT, client_id: x, dc_secrets: [{dc: us, client_secret_file: "
    "secret}]}\n";
// Ends in line 2.
std::string Store(const std::string& store) { return kClient + store; }
// The client is line 3.
std::string Client(const std::string& client) {
  return "store: {sqlite: {path: x}, allow_unsealed: true}\noauth_clients:\n  - " + client + "\n";
}
const std::string kWeb =
    "name: a, type: SERVER_BASED, client_name: A, client_id: x, homepage_url: 'https://e.com', "
    "redirect_uris: ['https://e.com/cb'], ";

const BadConfig kBadConfigs[] = {
    {"NoStore", kClient,
     "broker.yaml:1: store: exactly one of sqlite and redis is required\n"
     "broker.yaml:1: store.keyring: is required: without it tokens are stored in clear text, which "
     "store.allow_unsealed must allow"},
    {"BothStores",
     Store("store: {sqlite: {path: x}, redis: {address: 'r:1', replica_acks: 0}, "
           "allow_unsealed: true}\n"),
     "broker.yaml:3: store: has both sqlite and redis; exactly one is required"},
    {"NoSqlitePath", Store("store: {sqlite: {}, allow_unsealed: true}\n"),
     "broker.yaml:3: store.sqlite.path: is required: the database file"},
    {"KeyIds",
     Store("store:\n  sqlite: {path: x}\n  keyring:\n    keys:\n      - {id: 'a b', key_file: "
           "key}\n      - {id: k, key_file: key}\n      - {id: k, key_file: key}\n"),
     "broker.yaml:7: store.keyring.keys[0].id: must be 1 to 32 characters of A-Z a-z 0-9 _ -\n"
     "broker.yaml:9: store.keyring.keys[2].id: is the id of another key"},
    {"KeyIsNotAKey",
     Store("store: {sqlite: {path: x}, keyring: {keys: [{id: k, key_file: secret}]}}\n"),
     "broker.yaml:3: store.keyring.keys[0].key_file: file 'secret' must hold 32 random bytes in "
     "base64; make them by: openssl rand -base64 32"},
    {"EmptyKeyring", Store("store: {sqlite: {path: x}, keyring: {keys: []}}\n"),
     "broker.yaml:3: store.keyring.keys: is required: at least one key"},
    {"NoClients", "store: {sqlite: {path: x}, allow_unsealed: true}\n",
     "broker.yaml:1: oauth_clients: is required: at least one OAuth client"},
    {"TwoClientsOfOneName",
     Client("{" + kWeb + "client_secret_file: secret}\n  - {" + kWeb +
            "client_secret_file: secret}"),
     "broker.yaml:4: oauth_clients[1].name: two OAuth clients are called 'a'"},
    {"ClientName",
     Client("{name: 'a b', type: SELF_CLIENT, client_id: x, dc_secrets: [{dc: us, "
            "client_secret_file: secret}]}"),
     "broker.yaml:3: oauth_clients[0].name: must be 1 to 128 characters of A-Z a-z 0-9 _ . -"},
    {"NoClientType", Client("{name: a, client_id: x, client_secret_file: secret}"),
     "broker.yaml:3: oauth_clients[0].type: is required: SERVER_BASED, CLIENT_BASED, MOBILE, "
     "NON_BROWSER or SELF_CLIENT, as in Zoho's developer console"},
    {"BadClientTypeIsNotAlsoMissing",
     Client("{name: a, type: WEB, client_id: x, client_secret_file: secret}"),
     "broker.yaml:3: oauth_clients[0].type: must be one of SERVER_BASED, CLIENT_BASED, MOBILE, "
     "NON_BROWSER, SELF_CLIENT, not 'WEB'"},
    {"NoClientTypeAndNoClientId", Client("{name: a, client_secret_file: secret}"),
     "broker.yaml:3: oauth_clients[0].type: is required: SERVER_BASED, CLIENT_BASED, MOBILE, "
     "NON_BROWSER or SELF_CLIENT, as in Zoho's developer console\n"
     "broker.yaml:3: oauth_clients[0].client_id: is mandatory: copy the Client ID from Zoho's "
     "developer console"},
    {"BadClientTypeAndBadEntries",
     Client("{name: a, type: WEB_BASED, client_name: 'Web$app', client_id: x, homepage_url: "
            "'ftp://app', redirect_uris: ['app'], client_secret_file: secret}"),
     "broker.yaml:3: oauth_clients[0].type: must be one of SERVER_BASED, CLIENT_BASED, MOBILE, "
     "NON_BROWSER, SELF_CLIENT, not 'WEB_BASED'\n"
     "broker.yaml:3: oauth_clients[0].client_name: has a special character: besides letters, "
     "digits and spaces the console takes only '_' and '&'\n"
     "broker.yaml:3: oauth_clients[0].homepage_url: must look like https://www.yourdomain.com\n"
     "broker.yaml:3: oauth_clients[0].redirect_uris[0]: must look like "
     "https://www.your-domain.com/callback (http:// on localhost only), without a fragment"},
    {"BadClientTypeAndNoSecret", Client("{name: a, type: WEB, client_id: x}"),
     "broker.yaml:3: oauth_clients[0].type: must be one of SERVER_BASED, CLIENT_BASED, MOBILE, "
     "NON_BROWSER, SELF_CLIENT, not 'WEB'\n"
     "broker.yaml:3: oauth_clients[0].dc_secrets: need one secret per DC (each DC has its own), or "
     "one shared by all DCs"},
    {"UnknownDc",
     Client("{name: a, type: SELF_CLIENT, client_id: x, dc_secrets: [{dc: xx, client_secret_file: "
            "secret}]}"),
     "broker.yaml:3: oauth_clients[0].dc_secrets[0].dc: unknown DC 'xx'; known: ae, au, ca, cn, "
     "eu, in, jp, sa, sg, uk, us"},
    {"DcTwice",
     Client("{" + kWeb +
            "dc_secrets: [{dc: us, client_secret_file: secret}, {dc: us, client_secret_file: "
            "secret}]}"),
     "broker.yaml:3: oauth_clients[0].dc_secrets[1].dc: 'us' has a secret already"},
    {"SharedAndPerDc",
     Client("{" + kWeb +
            "client_secret_file: secret, dc_secrets: [{dc: us, client_secret_file: secret}]}"),
     "broker.yaml:3: oauth_clients[0].client_secret_file: give either client_secret_file, for all "
     "DCs, or dc_secrets, not both"},
    {"SecretFileMissing", Client("{" + kWeb + "client_secret_file: nowhere}"),
     "broker.yaml:3: oauth_clients[0].client_secret_file: file 'nowhere' cannot be read: no such "
     "file"},
    {"DcWithoutFile", Client("{" + kWeb + "dc_secrets: [{dc: us}]}"),
     "broker.yaml:3: oauth_clients[0].dc_secrets[0].client_secret_file: is required: the file with "
     "the client secret in this DC"},
    {"PlaintextOnTheNetwork", With("grpc: {listen: '0.0.0.0:1'}\n"),
     "broker.yaml:10: grpc.listen: access tokens would cross the network in clear text: set "
     "grpc.tls, listen on a loopback address, or say --insecure"},
    {"NotLoopbackThoughItLooksSo", With("grpc: {listen: '127.0.0.1.example.com:1'}\n"),
     "broker.yaml:10: grpc.listen: access tokens would cross the network in clear text: set "
     "grpc.tls, listen on a loopback address, or say --insecure"},
    {"ListenWithoutPort", With("grpc: {listen: localhost}\n"),
     "broker.yaml:10: grpc.listen: must be host:port, e.g. 127.0.0.1:8443, 0.0.0.0:8443 or "
     "[::]:8443"},
    {"ListenPortTooLarge", With("ops: {listen: 'localhost:65536'}\n"),
     "broker.yaml:10: ops.listen: must be host:port, e.g. 127.0.0.1:8443, 0.0.0.0:8443 or "
     "[::]:8443"},
    {"SameAddress", With("ops: {listen: '127.0.0.1:8443'}\n"),
     "broker.yaml:10: ops.listen: is the same address as grpc.listen"},
    {"TlsHalf", With("grpc: {tls: {cert_file: tls.crt}}\n"),
     "broker.yaml:10: grpc.tls.key_file: is required: a PEM private key"},
    {"TlsSwapped", With("grpc: {tls: {cert_file: tls.key, key_file: tls.crt}}\n"),
     "broker.yaml:10: grpc.tls.cert_file: file 'tls.key' must hold PEM: -----BEGIN "
     "CERTIFICATE-----\n"
     "broker.yaml:10: grpc.tls.key_file: file 'tls.crt' must hold PEM: -----BEGIN PRIVATE "
     "KEY-----"},
    {"CallbackListenWithoutConsent", With("ops: {callback_listen: '127.0.0.1:1'}\n"),
     "broker.yaml:10: ops.callback_listen: serves nothing unless consent is configured"},
    {"DcRules",
     With("data_centers:\n  - {name: lab}\n  - {name: us, people_host: p.us}\n  - {name: "
          "us, people_host: p.us}\n"),
     "broker.yaml:11: data_centers[0].accounts_server: must be https://host[:port] with nothing "
     "after it\n"
     "broker.yaml:11: data_centers[0].api_domain: must be https://host[:port] with nothing after "
     "it\n"
     "broker.yaml:11: data_centers[0].people_host: must be host[:port] without a scheme\n"
     "broker.yaml:13: data_centers[2].name: is the name of another data centre of this list"},
    {"PlaintextAccountsServer",
     With("data_centers: [{name: us, accounts_server: 'http://127.0.0.1:1'}]\n"),
     "broker.yaml:10: data_centers[0].accounts_server: must be https://host[:port] with nothing "
     "after it"},
    {"ForcedAboveAhead",
     With("issuing: {refresh_ahead: 1m, refresh_ahead_jitter: 0s, forced_refresh: 2m}\n"),
     "broker.yaml:10: issuing.forced_refresh: must not be greater than issuing.refresh_ahead: "
     "callers would wait for refreshes that the background has not begun"},
    {"MinLifetimeAboveForced", With("issuing: {min_lifetime: 3m}\n"),
     "broker.yaml:10: issuing.min_lifetime: must not be greater than issuing.forced_refresh: "
     "tokens would be refused that nobody refreshes yet"},
    {"AlwaysDue", With("issuing: {refresh_ahead: 30m, refresh_ahead_jitter: 30m}\n"),
     "broker.yaml:10: issuing.refresh_ahead: plus issuing.refresh_ahead_jitter must be at most "
     "50m: tokens live one hour, and would be due again as soon as they come"},
    {"ConsentIncomplete", With("consent: {state_lifetime: 5m}\n"),
     "broker.yaml:10: consent.callback_url: is required: the redirect URI of the broker's own "
     "callback page\n"
     "broker.yaml:10: consent.state_key_file: is required: 32 random bytes in base64, the same in "
     "all replicas"},
    {"CallbackUnregistered",
     With("consent: {callback_url: 'https://e.com/cb', state_key_file: key}\n"),
     "broker.yaml:10: consent.callback_url: is among the redirect_uris of no OAuth client, so Zoho "
     "would refuse it"},
    {"CallbackNotHttps", With("consent: {callback_url: 'http://e.com/cb', state_key_file: key}\n"),
     "broker.yaml:10: consent.callback_url: must be https://host/path (http:// on localhost only), "
     "without a query or fragment"},
    {"CallbackWithQuery",
     With("consent: {callback_url: 'https://e.com/cb?a=b', state_key_file: key}\n"),
     "broker.yaml:10: consent.callback_url: must be https://host/path (http:// on localhost only), "
     "without a query or fragment"},
    {"BudgetWindowIncomplete", With("protocol: {budget: [{sends: 3}, {length: 5s}]}\n"),
     "broker.yaml:10: protocol.budget[0].length: is required: the window's length\n"
     "broker.yaml:10: protocol.budget[1].sends: is required: the sends that the window allows"},
};

INSTANTIATE_TEST_SUITE_P(All, BadConfigTest, testing::ValuesIn(kBadConfigs),
                         [](const auto& info) { return info.param.name; });

TEST(SettingsTest, ConsoleRulesAreReportedInTheSchemasWords) {
  const std::string report =
      Report(Client("{name: a, type: CLIENT_BASED, client_name: 'A!', homepage_url: x, "
                    "redirect_uris: ['https://e.com/cb', 'ftp://e.com']}"));
  for (const char* key : {"client_name: ", "client_id: ", "homepage_url: ", "redirect_uris[1]: ",
                          "javascript_domains: ", "dc_secrets: "}) {
    EXPECT_NE(report.find(std::string("broker.yaml:3: oauth_clients[0].") + key), std::string::npos)
        << key << " in\n"
        << report;
  }
}

TEST(SettingsTest, ReportsProblemsOfAllKindsAtOnce) {
  EXPECT_EQ(Report(R"(grpc: {listen: "0.0.0.0:1", lisen: x}
store: {sqlite: {path: x}}
oauth_clients:
  - name: own-org
    type: SELF_CLIENT
    client_id: x
    dc_secrets: [{dc: us, client_secret_file: nowhere}]
issuing: {lane_threads: 0}
)"),
            "broker.yaml:1: grpc.lisen: unknown key; did you mean 'listen'?\n"
            "broker.yaml:1: grpc.listen: access tokens would cross the network in clear text: set "
            "grpc.tls, listen on a loopback address, or say --insecure\n"
            "broker.yaml:2: store.keyring: is required: without it tokens are stored in clear "
            "text, which store.allow_unsealed must allow\n"
            "broker.yaml:7: oauth_clients[0].dc_secrets[0].client_secret_file: file 'nowhere' "
            "cannot be read: no such file\n"
            "broker.yaml:8: issuing.lane_threads: must be between 1 and 1024");
}

TEST(SettingsTest, FlagsGoBeforeTheEnvironmentAndThatBeforeTheFile) {
  const std::string yaml =
      With("grpc: {listen: '127.0.0.1:1'}\nops: {listen: '127.0.0.1:2'}\nlog: {level: ERROR}\n");
  const auto line = ParseCommandLine(
      {"--config", "broker.yaml", "--listen", "127.0.0.1:31"},
      {{"TOKENBROKER_GRPC_LISTEN", "127.0.0.1:21"}, {"TOKENBROKER_OPS_LISTEN", "127.0.0.1:22"}});
  ASSERT_TRUE(line.problems.empty());
  const auto settings = LoadSettings(line, Files(yaml).Reader());
  ASSERT_EQ(settings.status(), absl::OkStatus());
  EXPECT_EQ(settings->grpc.listen, "127.0.0.1:31");
  EXPECT_EQ(settings->ops.listen, "127.0.0.1:22");
  EXPECT_EQ(settings->log.level, LogLevel::kError);
}

TEST(SettingsTest, ProblemsOfOverridesNameTheirOrigin) {
  const auto settings = Load(
      kMinimal, {{"--listen", "grpc.listen", "0.0.0.0:1"}, {"--set", "issuing.lane_threads", "0"}});
  EXPECT_EQ(settings.status().message(),
            "--set: issuing.lane_threads: must be between 1 and 1024\n"
            "--listen: grpc.listen: access tokens would cross the network in clear text: set "
            "grpc.tls, listen on a loopback address, or say --insecure");
}

TEST(SettingsTest, InsecureAllowsPlaintextAnywhere) {
  CommandLine line = Line();
  line.insecure = true;
  const auto settings = LoadSettings(line, Files(With("grpc: {listen: '0.0.0.0:1'}\n")).Reader());
  EXPECT_EQ(settings.status(), absl::OkStatus());
}

TEST(SettingsTest, LoopbackAddressesNeedNoTls) {
  for (const char* address : {"127.0.0.1:0", "127.9.9.9:1", "localhost:1", "[::1]:1"}) {
    EXPECT_EQ(Report(With(std::string("grpc: {listen: '") + address + "'}\n")), "") << address;
  }
}

TEST(SettingsTest, BadSecretFilesAreNamedAndNeverQuoted) {
  const std::string yaml = Client("{" + kWeb + "client_secret_file: bad}");
  const struct {
    std::string content;
    std::string text;
  } cases[] = {
      {"", "is empty"},
      {"\n", "is empty"},
      {std::string(kSecretText) + "\n\n", "must hold one line without white space"},
      {std::string(kSecretText) + " ", "must hold one line without white space"},
      {std::string("id\n") + kSecretText, "must hold one line without white space"},
      {std::string(5000, 'x'), "cannot be read: is too large"},
  };
  for (const auto& bad : cases) {
    const auto settings = LoadSettings(Line(), Files(yaml).Add("bad", bad.content).Reader());
    EXPECT_EQ(settings.status().message(),
              "broker.yaml:3: oauth_clients[0].client_secret_file: file 'bad' " + bad.text);
  }
  const auto windows =
      LoadSettings(Line(), Files(yaml).Add("bad", std::string(kSecretText) + "\r\n").Reader());
  ASSERT_EQ(windows.status(), absl::OkStatus());
  EXPECT_TRUE(windows->oauth_clients.Find("a")->shared_secret->Reveal() == kSecretText);
}

TEST(SettingsTest, FilesAreSoughtBesideTheConfigurationOrBelowTheFileRoot) {
  FakeFiles files;
  files.Add("/etc/broker/broker.yaml", kMinimal).Add("/etc/broker/own-org-us", "s");
  CommandLine line;
  line.config_file = "/etc/broker/broker.yaml";
  const auto beside = LoadSettings(line, files.Reader());
  ASSERT_EQ(beside.status(), absl::OkStatus());
  EXPECT_EQ(beside->store.sqlite->path, "/etc/broker/grants.db");

  line.file_root = "/rendered";
  EXPECT_EQ(LoadSettings(line, files.Reader()).status().message(),
            "/etc/broker/broker.yaml:9: oauth_clients[0].dc_secrets[0].client_secret_file: file "
            "'/rendered/own-org-us' cannot be read: no such file");
  files.Add("/rendered/own-org-us", "s");
  EXPECT_EQ(LoadSettings(line, files.Reader()).status(), absl::OkStatus());
}

TEST(SettingsTest, ConfigurationFileMissing) {
  EXPECT_EQ(LoadSettings(Line(), FakeFiles().Reader()).status().message(),
            "broker.yaml: cannot be read: no such file");
}

TEST(SettingsTest, EffectiveConfigLoadsAgainAndHoldsNoSecret) {
  const std::string yaml = With(
      "log: {level: DEBUG, cached_calls: false}\n"
      "protocol: {failure_backoff: [1s, 250ms]}\n"
      "zoho: {user_agent: 'quote \" colon: x'}\n");
  const auto settings = Load(yaml);
  ASSERT_EQ(settings.status(), absl::OkStatus());
  const std::string& printed = settings->effective_yaml;
  EXPECT_EQ(printed.find("canary"), std::string::npos);
  EXPECT_NE(printed.find("client_secret_file: \"own-org-us\""), std::string::npos) << printed;
  EXPECT_NE(printed.find("level: DEBUG"), std::string::npos) << printed;
  EXPECT_NE(printed.find("cached_calls: false"), std::string::npos) << printed;
  EXPECT_NE(printed.find("drain_timeout: 25s"), std::string::npos) << printed;
  EXPECT_NE(printed.find("- 250ms"), std::string::npos) << printed;
  const auto again = Load(printed);
  ASSERT_EQ(again.status(), absl::OkStatus());
  EXPECT_EQ(again->effective_yaml, printed);
  EXPECT_EQ(again->zoho.user_agent, "quote \" colon: x");
}

TEST(ReadFileFromDiskTest, ReadsAndRefuses) {
  std::string folder = testing::TempDir() + "/token-broker-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  std::ofstream(folder + "/file") << std::string("a\0b", 3);
  const auto content = ReadFileFromDisk(folder + "/file", 3);
  ASSERT_EQ(content.status(), absl::OkStatus());
  EXPECT_EQ(*content, std::string("a\0b", 3));
  EXPECT_EQ(ReadFileFromDisk(folder + "/file", 2).status().message(), "is larger than 2 bytes");
  EXPECT_EQ(ReadFileFromDisk(folder + "/none", 9).status(), absl::NotFoundError("no such file"));
  EXPECT_EQ(ReadFileFromDisk(folder, 9).status().code(), absl::StatusCode::kFailedPrecondition);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace tokenbroker
