#ifndef TOKEN_BROKER_TESTS_SERVER_RPC_BROKER_FIXTURE_H_
#define TOKEN_BROKER_TESTS_SERVER_RPC_BROKER_FIXTURE_H_

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/mutex.h"
#include "server/consent/authorization_url.h"
#include "server/issuing/grant_registrar.h"
#include "server/issuing/org_directory.h"
#include "server/issuing/refresher.h"
#include "server/issuing/thread_executor.h"
#include "server/issuing/token_issuer.h"
#include "server/rpc/grpc_server.h"
#include "server/rpc/token_service.h"
#include "storage/token_store.h"
#include "tests/server/consent/state_keys.h"
#include "tests/server/rpc/zoho_setup.h"
#include "tests/testing/fake_accounts_server.h"
#include "tokenbroker/v1/token_service.grpc.pb.h"

namespace tokenbroker {

// One answered call, as the listener saw it.
struct SeenCall {
  std::string rpc;
  std::string org_id;
  std::string environment;
  std::string oauth_client;
  std::string code;
  std::string reason;
  std::string source;
  std::string internal_error;
  std::string peer;
};

// The real edge, issuing and consent on a store, behind a real listener on loopback; only Zoho is a
// double.
class Broker {
 public:
  struct Options {
    bool consent = true;
    absl::Duration default_deadline = absl::Seconds(10);
  };

  Broker(TokenStore* store, Options options)
      : setup_(TestSetup()),
        keys_(TestStateKeys()),
        urls_({.callback_url = kCallbackUrl}, &keys_, &setup_, Clock::System()),
        executor_({.threads_per_lane = 8}, Clock::System()),
        refresher_(ProtocolLimits(), {}, &setup_, store, &zoho_, &executor_, Clock::System(),
                   &events_),
        issuer_(TokenIssuer::Options(), store, &refresher_, &executor_, Clock::System()),
        registrar_(store, &refresher_, &executor_, Clock::System(), &events_),
        directory_(store, &executor_),
        edge_({.issuer = &issuer_,
               .registrar = &registrar_,
               .directory = &directory_,
               .setup = &setup_,
               .authorization_urls = options.consent ? &urls_ : nullptr,
               .default_deadline = options.default_deadline,
               .on_call = [this](const CallEvent& event) { See(event); }}) {
    auto server = GrpcServer::Create({.listen = "127.0.0.1:0", .services = {edge_.service()}});
    if (!server.ok()) std::abort();
    server_ = *std::move(server);
    server_->SetServing(true);
    channel_ = grpc::CreateChannel(absl::StrCat("127.0.0.1:", server_->port()),
                                   grpc::InsecureChannelCredentials());
    stub_ = v1::TokenService::NewStub(channel_);
  }

  ~Broker() {
    zoho_.Release();
    server_->Shutdown(absl::Seconds(5));
    executor_.Shutdown();
  }

  v1::TokenService::Stub& stub() { return *stub_; }
  const std::shared_ptr<grpc::Channel>& channel() { return channel_; }
  testing::FakeAccountsServer& zoho() { return zoho_; }
  GrpcServer& server() { return *server_; }
  GrantRegistrar& registrar() { return registrar_; }
  const ZohoSetup& setup() { return setup_; }
  const Keyring& keys() { return keys_; }

  // Waits until `count` calls were answered, and gives them. Fewer: not within 10 s.
  std::vector<SeenCall> WaitForCalls(size_t count) {
    const absl::Time give_up = absl::Now() + absl::Seconds(10);
    MutexLock lock(mutex_);
    while (calls_.size() < count && absl::Now() < give_up) {
      seen_.WaitFor(mutex_, give_up - absl::Now());
    }
    return calls_;
  }

 private:
  void See(const CallEvent& event) {
    MutexLock lock(mutex_);
    calls_.push_back({std::string(event.rpc), std::string(event.org_id),
                      std::string(event.environment), std::string(event.oauth_client),
                      std::string(event.code), std::string(event.reason), std::string(event.source),
                      std::string(event.internal_error), event.Peer()});
    seen_.NotifyAll();
  }

  Mutex mutex_;
  CondVar seen_;
  std::vector<SeenCall> calls_ ABSL_GUARDED_BY(mutex_);

  const ZohoSetup setup_;
  const Keyring keys_;
  const AuthorizationUrls urls_;
  testing::FakeAccountsServer zoho_;
  IssuingEvents events_;
  ThreadExecutor executor_;
  Refresher refresher_;
  TokenIssuer issuer_;
  GrantRegistrar registrar_;
  OrgDirectory directory_;
  TokenServiceEdge edge_;
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::TokenService::Stub> stub_;
};

// A call with a deadline that no healthy test comes near.
struct TestContext : grpc::ClientContext {
  explicit TestContext(absl::Duration timeout = absl::Seconds(30)) {
    set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout));
  }
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_SERVER_RPC_BROKER_FIXTURE_H_
