#ifndef TOKEN_BROKER_TESTS_E2E_WORLD_H_
#define TOKEN_BROKER_TESTS_E2E_WORLD_H_

#include <grpcpp/channel.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "google/rpc/error_details.pb.h"
#include "nlohmann/json.hpp"
#include "tests/testing/child_process.h"
#include "tests/testing/redis_server.h"
#include "tests/zoho_simulator/simulator.h"
#include "tokenbroker/v1/token_service.grpc.pb.h"

// The real broker, in a world of its own.
//
//   World world;                        // simulator with DCs us, eu and cn; SQLite store
//   Broker& broker = world.StartBroker();
//   world.RegisterImported(broker, "org-1", "us");
//   auto answer = broker.GetAccessToken("org-1");
namespace tokenbroker::e2e {

// A call's end as a caller sees it.
struct CallError {
  grpc::StatusCode code = grpc::StatusCode::OK;
  std::string message;
  std::string reason;  // of google.rpc.ErrorInfo
  std::map<std::string, std::string> metadata;
  double retry_delay_seconds = 0;   // of google.rpc.RetryInfo; 0: none
  std::vector<std::string> fields;  // of google.rpc.BadRequest
};
CallError Explain(const grpc::Status& status);

// One broker process.
class Broker {
 public:
  // Starts `binary` with the configuration in `config_path` and waits until it serves.
  // `environment` is added to the test's own.
  Broker(const std::string& config_path, const std::vector<std::string>& flags,
         const std::map<std::string, std::string>& environment = {});

  const std::string& grpc_address() const { return grpc_address_; }  // "127.0.0.1:4711"
  const std::string& ops_address() const { return ops_address_; }
  v1::TokenService::Stub& stub() { return *stub_; }
  std::shared_ptr<grpc::Channel> NewChannel() const;
  testing::ChildProcess& process() { return *process_; }

  // Calls with a deadline of 30 s.
  struct Token {
    grpc::Status status;
    v1::GetAccessTokenResponse token;
  };
  Token GetAccessToken(const std::string& org_id,
                       const std::function<void(v1::GetAccessTokenRequest&)>& change = {});
  struct Registered {
    grpc::Status status;
    v1::RegisterGrantResponse response;
  };
  Registered RegisterGrant(const v1::RegisterGrantRequest& request);

  // SIGTERM; the exit code. The test fails if it takes longer than a minute.
  int Stop();

 private:
  std::unique_ptr<testing::ChildProcess> process_;
  std::string grpc_address_;
  std::string ops_address_;
  std::unique_ptr<v1::TokenService::Stub> stub_;
};

class World {
 public:
  // The OAuth clients of every world, in the simulator and in the configuration.
  static constexpr char kWebClient[] = "web";           // server-based, Multi-DC, a secret per DC
  static constexpr char kSelfClient[] = "back-office";  // Self Client of the us DC
  static constexpr char kWebClientId[] = "1000.WEBCLIENT";
  static constexpr char kSelfClientId[] = "1000.SELFCLIENT";
  // What the redirect URI says; the broker's callback listener answers on another port.
  static constexpr char kRedirectUri[] = "https://app.example.com/oauth/callback";

  struct Options {
    std::vector<std::string> dcs = {"us", "eu", "cn"};
    bool redis = false;  // else SQLite
    RedisServer::Options redis_server = {.config = {"appendonly yes"}};
    // More options of store.redis, indented by four, e.g. "    username: u\n".
    std::string redis_config;
    bool consent = false;  // the broker's own callback page
    // Zoho speaks HTTPS, by a certificate of its own that the configuration trusts; plain text is
    // not allowed.
    bool https = false;
    zoho_simulator::Behaviour behaviour;
    std::map<std::string, zoho_simulator::Behaviour> behaviour_of;  // by DC
    // YAML blocks to add to the configuration at its top level, e.g. "protocol:\n  …".
    std::string more_config;
    // Secret of the web client by DC, where the configuration should differ from the simulator's.
    std::map<std::string, std::string> wrong_secrets;
    // DCs that the web client has no secret for.
    std::vector<std::string> dcs_without_secret;
    // Replaces the simulator's accounts server in the configuration, by DC.
    std::map<std::string, std::string> accounts_servers;
  };
  World() : World(Options()) {}
  explicit World(Options options);
  ~World();

  zoho_simulator::Simulator& zoho() { return *zoho_; }
  zoho_simulator::RequestLog& log() { return zoho_->log(); }
  RedisServer& redis() { return *redis_; }
  const std::string& directory() const { return directory_; }
  std::string config_path() const { return directory_ + "/broker.yaml"; }
  const std::string& config() const { return config_; }

  Broker& StartBroker(const std::vector<std::string>& flags = {},
                      const std::map<std::string, std::string>& environment = {});
  // With a configuration of its own.
  Broker& StartBrokerWith(const std::string& config, const std::vector<std::string>& flags = {});
  // Runs a broker that is to end by itself.
  testing::ChildProcess::Result RunBroker(const std::string& config);

  // A consent of one of the simulator's scripted users ("user-<dc>", with the orgs "org-<dc>-1" and
  // "org-<dc>-2"): the authorization code.
  std::string ConsentCode(
      const std::string& dc, const std::string& zoho_org,
      zoho_simulator::Environment environment = zoho_simulator::Environment::kProduction);
  v1::RegisterGrantRequest CodeRegistration(const std::string& org_id, const std::string& dc,
                                            const std::string& code);
  // Seeds a grant in the simulator and imports its refresh token. Returns the seeded grant.
  zoho_simulator::SeededGrant RegisterImported(Broker& broker, const std::string& org_id,
                                               const std::string& dc);
  v1::RegisterGrantRequest ImportRegistration(const std::string& org_id, const std::string& dc,
                                              const std::string& refresh_token);

  // Sends to the token endpoint that ask for an access token of a grant by its refresh token.
  int64_t Refreshes(const std::string& outcome = "") const;

  // Everything that must never be seen anywhere: client secrets, keys, and what was added.
  void AddSecret(std::string secret) { secrets_.push_back(std::move(secret)); }
  const std::vector<std::string>& secrets() const { return secrets_; }

 private:
  std::string MakeConfig() const;
  const std::string& AccountsServer(const std::string& dc) const;

  const Options options_;
  std::string directory_;
  std::unique_ptr<zoho_simulator::Simulator> zoho_;
  std::unique_ptr<RedisServer> redis_;
  std::vector<std::string> secrets_;
  std::string config_;
  std::vector<std::unique_ptr<Broker>> brokers_;
};

// GET over HTTP on loopback.
struct HttpReply {
  int status = 0;
  std::string location;
  std::string body;
};
HttpReply HttpGet(const std::string& url);

}  // namespace tokenbroker::e2e

#endif  // TOKEN_BROKER_TESTS_E2E_WORLD_H_
