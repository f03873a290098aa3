#include "tests/e2e/world.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "google/rpc/status.pb.h"

namespace tokenbroker::e2e {
namespace {

using testing::ChildProcess;
using zoho_simulator::Simulator;

constexpr absl::Duration kPatience = absl::Seconds(30);

void WriteFile(const std::string& path, const std::string& content) {
  std::ofstream(path) << content;
}

// Random base64 of 32 bytes, for keys.
std::string RandomKey() {
  std::ifstream random("/dev/urandom", std::ios::binary);
  std::string bytes(32, '\0');
  random.read(bytes.data(), 32);
  return absl::Base64Escape(bytes);
}

}  // namespace

CallError Explain(const grpc::Status& status) {
  CallError error;
  error.code = status.error_code();
  error.message = status.error_message();
  google::rpc::Status details;
  details.ParseFromString(status.error_details());
  for (const google::protobuf::Any& any : details.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::RetryInfo retry;
    google::rpc::BadRequest bad;
    if (any.UnpackTo(&info)) {
      error.reason = info.reason();
      error.metadata = {info.metadata().begin(), info.metadata().end()};
    } else if (any.UnpackTo(&retry)) {
      error.retry_delay_seconds =
          static_cast<double>(retry.retry_delay().seconds()) + retry.retry_delay().nanos() / 1e9;
    } else if (any.UnpackTo(&bad)) {
      for (const auto& violation : bad.field_violations()) {
        error.fields.push_back(violation.field());
      }
    }
  }
  return error;
}

namespace {

std::vector<std::string> BrokerCommand(const std::string& config_path) {
  // A command before the program's arguments, e.g. to run it in a mount namespace of a test's own.
  const char* command = getenv("TB_BROKER_COMMAND");
  std::vector<std::string> words =
      absl::StrSplit(command == nullptr ? TB_BROKER_BINARY : command, ' ');
  words.insert(words.end(), {"--config", config_path});
  return words;
}

}  // namespace

Broker::Broker(const std::string& config_path, const std::vector<std::string>& flags,
               const std::map<std::string, std::string>& environment) {
  ChildProcess::Options options;
  options.environment = environment;
  options.argv = BrokerCommand(config_path);
  options.argv.insert(options.argv.end(), flags.begin(), flags.end());
  process_ = ChildProcess::Start(std::move(options));
  const std::optional<std::string> ready = process_->WaitForLine(
      [](const std::string& line) { return absl::StrContains(line, "\"grpc\""); }, kPatience);
  if (!ready) {
    ADD_FAILURE() << "the broker does not serve:\n" << process_->err();
    return;
  }
  const nlohmann::json addresses = nlohmann::json::parse(*ready);
  grpc_address_ = addresses["grpc"];
  ops_address_ = addresses["ops"];
  stub_ = v1::TokenService::NewStub(NewChannel());
}

std::shared_ptr<grpc::Channel> Broker::NewChannel() const {
  grpc::ChannelArguments arguments;
  // Connections of their own, not gRPC's global pool of them.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(grpc_address_, grpc::InsecureChannelCredentials(), arguments);
}

Broker::Token Broker::GetAccessToken(
    const std::string& org_id, const std::function<void(v1::GetAccessTokenRequest&)>& change) {
  v1::GetAccessTokenRequest request;
  request.set_org_id(org_id);
  request.set_oauth_client(World::kWebClient);
  if (change) change(request);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  Token answer;
  answer.status = stub_->GetAccessToken(&context, request, &answer.token);
  return answer;
}

Broker::Registered Broker::RegisterGrant(const v1::RegisterGrantRequest& request) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  Registered answer;
  answer.status = stub_->RegisterGrant(&context, request, &answer.response);
  return answer;
}

int Broker::Stop() {
  process_->Signal(SIGTERM);
  const std::optional<int> exit_code = process_->Wait(absl::Minutes(1));
  EXPECT_TRUE(exit_code.has_value()) << "SIGTERM did not end the broker";
  return exit_code.value_or(-1);
}

World::World(Options options) : options_(std::move(options)) {
  std::string path = (std::filesystem::temp_directory_path() / "tb-e2e-XXXXXX").string();
  EXPECT_NE(mkdtemp(path.data()), nullptr);
  directory_ = path;

  Simulator::Options simulator;
  simulator.behaviour = options_.behaviour;
  simulator.behaviour.first_consent_per_org = true;
  simulator.https = options_.https;
  zoho_simulator::ClientConfig web;
  web.client_id = kWebClientId;
  web.home_dc = options_.dcs[0];
  web.multi_dc = true;
  web.redirect_uris = {kRedirectUri};
  zoho_simulator::ClientConfig self;
  self.client_id = kSelfClientId;
  self.type = zoho_simulator::ClientType::kSelfClient;
  self.home_dc = options_.dcs[0];
  self.secrets[self.home_dc] = absl::StrCat("secret-of-self-client-", RandomKey());
  AddSecret(self.secrets[self.home_dc]);
  for (const std::string& dc : options_.dcs) {
    Simulator::DcOptions dc_options;
    dc_options.name = dc;
    if (const auto own = options_.behaviour_of.find(dc); own != options_.behaviour_of.end()) {
      dc_options.behaviour = own->second;
      dc_options.behaviour->first_consent_per_org = true;
    }
    simulator.dcs.push_back(std::move(dc_options));
    web.secrets[dc] = absl::StrCat("secret-of-web-", dc, "-", RandomKey());
    AddSecret(web.secrets[dc]);
    zoho_simulator::UserConfig user;
    user.user_id = absl::StrCat("user-", dc);
    user.dc = dc;
    for (int i = 1; i <= 2; ++i) {
      zoho_simulator::OrgConfig org;
      org.org_id = absl::StrCat("org-", dc, "-", i);
      org.environments = {{zoho_simulator::Environment::kProduction, absl::StrCat(i, "001")},
                          {zoho_simulator::Environment::kSandbox, absl::StrCat(i, "002")}};
      user.orgs.push_back(std::move(org));
    }
    simulator.users.push_back(std::move(user));
  }
  for (const auto& [dc, secret] : web.secrets) {
    const auto wrong = options_.wrong_secrets.find(dc);
    WriteFile(absl::StrCat(directory_, "/web-", dc, ".secret"),
              wrong == options_.wrong_secrets.end() ? secret
              : wrong->second.empty()               ? web.secrets.begin()->second
                                                    : wrong->second);
  }
  WriteFile(directory_ + "/self.secret", self.secrets[self.home_dc]);
  for (const char* name : {"/sealing.key", "/state.key"}) {
    const std::string key = RandomKey();
    WriteFile(directory_ + name, key);
    AddSecret(key);
  }
  simulator.clients = {std::move(web), std::move(self)};
  absl::StatusOr<std::unique_ptr<Simulator>> zoho = Simulator::Create(std::move(simulator));
  EXPECT_TRUE(zoho.ok()) << zoho.status();
  zoho_ = *std::move(zoho);
  if (options_.https) WriteFile(directory_ + "/zoho.crt", zoho_->certificate_pem());
  if (options_.redis) {
    absl::StatusOr<std::unique_ptr<RedisServer>> redis = RedisServer::Start(options_.redis_server);
    EXPECT_TRUE(redis.ok()) << redis.status();
    redis_ = *std::move(redis);
  }
  config_ = MakeConfig();
}

World::~World() {
  brokers_.clear();
  redis_.reset();
  zoho_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

std::string World::MakeConfig() const {
  std::string config = absl::StrCat("grpc:\n  listen: 127.0.0.1:0\n", "ops:\n",
                                    "  listen: 127.0.0.1:0\n", "store:\n");
  if (options_.redis) {
    absl::StrAppend(&config, "  redis:\n    address: 127.0.0.1:", redis_->port(), "\n",
                    options_.redis_config);
    if (!absl::StrContains(options_.redis_config, "replica_acks:")) {
      absl::StrAppend(&config, "    replica_acks: 0\n");
    }
  } else {
    absl::StrAppend(&config, "  sqlite:\n    path: ", directory_, "/grants.db\n");
  }
  absl::StrAppend(&config, "  keyring:\n    keys:\n      - id: k1\n        key_file: ", directory_,
                  "/sealing.key\n");
  absl::StrAppend(&config, "oauth_clients:\n  - name: ", kWebClient,
                  "\n    type: SERVER_BASED\n    client_name: Web\n    client_id: ", kWebClientId,
                  "\n    homepage_url: https://app.example.com\n    redirect_uris: [", kRedirectUri,
                  "]\n    dc_secrets:\n");
  for (const std::string& dc : options_.dcs) {
    const auto& without = options_.dcs_without_secret;
    if (std::find(without.begin(), without.end(), dc) != without.end()) continue;
    absl::StrAppend(&config, "      - dc: ", dc, "\n        client_secret_file: ", directory_,
                    "/web-", dc, ".secret\n");
  }
  absl::StrAppend(&config, "  - name: ", kSelfClient,
                  "\n    type: SELF_CLIENT\n    client_id: ", kSelfClientId,
                  "\n    dc_secrets:\n      - dc: ", options_.dcs[0],
                  "\n        client_secret_file: ", directory_, "/self.secret\n");
  absl::StrAppend(&config, "data_centers:\n");
  for (const std::string& dc : options_.dcs) {
    const auto replaced = options_.accounts_servers.find(dc);
    absl::StrAppend(
        &config, "  - name: ", dc, "\n    accounts_server: ",
        replaced == options_.accounts_servers.end() ? AccountsServer(dc) : replaced->second, "\n");
  }
  if (options_.https) {
    absl::StrAppend(&config, "zoho:\n  ca_file: ", directory_, "/zoho.crt\n");
  } else {
    absl::StrAppend(&config, "zoho:\n  allow_plaintext_loopback: true\n");
  }
  if (options_.consent) {
    absl::StrAppend(&config, "consent:\n  callback_url: ", kRedirectUri,
                    "\n  state_key_file: ", directory_, "/state.key\n");
  }
  absl::StrAppend(&config, options_.more_config);
  return config;
}

const std::string& World::AccountsServer(const std::string& dc) const {
  return options_.https ? zoho_->dc(dc).https_url() : zoho_->dc(dc).url();
}

Broker& World::StartBroker(const std::vector<std::string>& flags,
                           const std::map<std::string, std::string>& environment) {
  WriteFile(config_path(), config_);
  brokers_.push_back(std::make_unique<Broker>(config_path(), flags, environment));
  return *brokers_.back();
}

ChildProcess::Result World::RunBroker(const std::string& config) {
  const std::string path = directory_ + "/broker-that-ends.yaml";
  WriteFile(path, config);
  ChildProcess::Options options;
  options.argv = BrokerCommand(path);
  return ChildProcess::Run(std::move(options));
}

Broker& World::StartBrokerWith(const std::string& config, const std::vector<std::string>& flags) {
  const std::string path = absl::StrCat(directory_, "/broker-", brokers_.size(), ".yaml");
  WriteFile(path, config);
  brokers_.push_back(std::make_unique<Broker>(path, flags));
  return *brokers_.back();
}

std::string World::ConsentCode(const std::string& dc, const std::string& zoho_org,
                               zoho_simulator::Environment environment) {
  const std::string url = zoho_->ConsentUrl(dc,
                                            {{"response_type", "code"},
                                             {"client_id", kWebClientId},
                                             {"redirect_uri", kRedirectUri},
                                             {"scope", "ZOHOPEOPLE.forms.ALL"},
                                             {"access_type", "offline"},
                                             {"prompt", "consent"},
                                             {"state", "s"}},
                                            {absl::StrCat("user-", dc), zoho_org, environment});
  const HttpReply reply = HttpGet(url);
  for (absl::string_view part : absl::StrSplit(reply.location, absl::ByAnyChar("?&"))) {
    if (absl::ConsumePrefix(&part, "code=")) return std::string(part);
  }
  ADD_FAILURE() << "no code in the redirect: " << reply.status << ' ' << reply.body;
  return "";
}

v1::RegisterGrantRequest World::CodeRegistration(const std::string& org_id, const std::string& dc,
                                                 const std::string& code) {
  v1::RegisterGrantRequest request;
  request.set_org_id(org_id);
  request.set_oauth_client(kWebClient);
  request.set_location(dc);
  request.set_accounts_server(AccountsServer(dc));
  request.mutable_authorization_code()->set_code(code);
  request.mutable_authorization_code()->set_redirect_uri(kRedirectUri);
  return request;
}

v1::RegisterGrantRequest World::ImportRegistration(const std::string& org_id, const std::string& dc,
                                                   const std::string& refresh_token) {
  v1::RegisterGrantRequest request;
  request.set_org_id(org_id);
  request.set_oauth_client(kWebClient);
  request.set_dc(dc);
  request.set_refresh_token(refresh_token);
  return request;
}

zoho_simulator::SeededGrant World::RegisterImported(Broker& broker, const std::string& org_id,
                                                    const std::string& dc) {
  const auto seeded = zoho_->SeedGrants(dc, kWebClientId, 1);
  EXPECT_TRUE(seeded.ok()) << seeded.status();
  AddSecret(seeded->front().refresh_token);
  const Broker::Registered registered =
      broker.RegisterGrant(ImportRegistration(org_id, dc, seeded->front().refresh_token));
  EXPECT_TRUE(registered.status.ok()) << registered.status.error_message();
  return seeded->front();
}

int64_t World::Refreshes(const std::string& outcome) const {
  zoho_simulator::RequestFilter filter;
  filter.path = "/oauth/v2/token";
  filter.grant_type = "refresh_token";
  filter.outcome = outcome;
  return zoho_->log().Count(filter);
}

HttpReply HttpGet(const std::string& url) {
  const ChildProcess::Result result = ChildProcess::Run(
      {.argv = {"curl", "--silent", "--noproxy", "*", "--max-time", "30", "--include", url}});
  HttpReply reply;
  const auto split = result.out.find("\r\n\r\n");
  if (result.exit_code != 0 || split == std::string::npos) {
    ADD_FAILURE() << "GET failed: curl's exit code " << result.exit_code;
    return reply;
  }
  const std::string head = result.out.substr(0, split);
  reply.body = result.out.substr(split + 4);
  reply.status = std::atoi(head.c_str() + head.find(' '));
  for (absl::string_view line : absl::StrSplit(head, "\r\n")) {
    if (absl::StartsWithIgnoreCase(line, "location:")) {
      reply.location = std::string(absl::StripAsciiWhitespace(line.substr(9)));
    }
  }
  return reply;
}

}  // namespace tokenbroker::e2e
