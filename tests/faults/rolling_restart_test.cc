#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/mutex.h"
#include "tests/e2e/callback_threads.h"
#include "tests/faults/fault_world.h"

// Replicas are replaced one after the other while callers go on.
namespace tokenbroker::faults {
namespace {

constexpr int kReplicas = 3;
constexpr int kCallsPerSecond = 500;
constexpr int kOrgs = 20;
// So often, as many calls in a row as there are replicas say that one org's token was refused: on
// round robin, to all replicas at once.
constexpr int kRejecting = 25;

// As the README advises callers.
constexpr char kServiceConfig[] = R"json({
  "loadBalancingConfig": [{"round_robin": {}}],
  "healthCheckConfig": {"serviceName": "tokenbroker.v1.TokenService"},
  "methodConfig": [{
    "name": [{"service": "tokenbroker.v1.TokenService", "method": "GetAccessToken"},
             {"service": "tokenbroker.v1.TokenService", "method": "GetOrg"},
             {"service": "tokenbroker.v1.TokenService", "method": "ListOrgs"}],
    "retryPolicy": {"maxAttempts": 4, "initialBackoff": "0.05s", "maxBackoff": "1s",
                    "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}
  }]
})json";

// Callers on round robin over all replicas, at a steady rate, from a thread of its own.
class Load {
 public:
  explicit Load(const std::vector<std::string>& addresses) {
    e2e::KeepCallbackThreads();
    grpc::ChannelArguments arguments;
    arguments.SetServiceConfigJSON(kServiceConfig);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    stub_ = v1::TokenService::NewStub(
        grpc::CreateCustomChannel(absl::StrCat("ipv4:", absl::StrJoin(addresses, ",")),
                                  grpc::InsecureChannelCredentials(), arguments));
  }
  ~Load() { Stop(); }

  void Start() { thread_ = std::thread(&Load::Run, this); }
  // Returns when the last call is answered.
  void Stop() {
    {
      MutexLock lock(mutex_);
      stop_ = true;
    }
    if (thread_.joinable()) thread_.join();
    MutexLock lock(mutex_);
    while (in_flight_ > 0) answered_.Wait(mutex_);
  }

  int64_t calls() {
    MutexLock lock(mutex_);
    return calls_;
  }
  std::vector<std::string> failures() {
    MutexLock lock(mutex_);
    return failures_;
  }
  // The newest version that was handed out.
  std::map<std::string, int64_t> versions() {
    MutexLock lock(mutex_);
    return versions_;
  }

 private:
  struct Call {
    grpc::ClientContext context;
    v1::GetAccessTokenRequest request;
    v1::GetAccessTokenResponse response;
  };

  void Run() {
    const auto begin = std::chrono::steady_clock::now();
    for (int64_t i = 0;; ++i) {
      std::this_thread::sleep_until(begin +
                                    i * std::chrono::microseconds(1'000'000) / kCallsPerSecond);
      auto call = std::make_shared<Call>();
      call->request.set_org_id(absl::StrCat("org-", i % kOrgs));
      call->request.set_oauth_client(World::kWebClient);
      {
        MutexLock lock(mutex_);
        if (stop_) return;
        if (i % kRejecting < kReplicas) {
          call->request.set_org_id(absl::StrCat("org-", i / kRejecting % kOrgs));
          call->request.set_rejected_version(versions_[call->request.org_id()]);
        }
        ++calls_;
        ++in_flight_;
      }
      call->context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
      stub_->async()->GetAccessToken(
          &call->context, &call->request, &call->response,
          [this, call](const grpc::Status& status) { Answered(*call, status); });
    }
  }

  void Answered(const Call& call, const grpc::Status& status) {
    MutexLock lock(mutex_);
    if (status.ok()) {
      int64_t& version = versions_[call.request.org_id()];
      version = std::max(version, call.response.version());
    } else {
      failures_.push_back(absl::StrCat(call.request.org_id(), ": ", status.error_code(), " ",
                                       status.error_message(), " ", Explain(status).reason));
    }
    if (--in_flight_ == 0) answered_.NotifyAll();
  }

  std::unique_ptr<v1::TokenService::Stub> stub_;
  std::thread thread_;
  Mutex mutex_;
  CondVar answered_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  int in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t calls_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::string> failures_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int64_t> versions_ ABSL_GUARDED_BY(mutex_);
};

// Promise: G1, G2 and G4 over a rolling restart, and nobody notices it. Fault: three replicas are
// ended and started again on their ports, one after the other, under 500 calls a second of which 20
// times three want the same refresh; each holds a request at Zoho when it is told to end. Asserted:
// 0 failed calls; every held refresh is answered and stored, and its process ends with status 0; as
// many tokens were minted as there are new versions, never two requests of a grant at once.
TEST(RollingRestart, NoCallFailsAndNothingIsLost) {
  Scale scale;
  scale.response_timeout = absl::Seconds(10);
  scale.sent_lease = absl::Seconds(11);
  World::Options options = RedisWorld(scale);
  options.behaviour.access_token_life = absl::Hours(1);
  options.behaviour.limits.active_access_tokens = 0;
  World world(options);
  std::vector<Broker*> brokers;
  std::vector<std::string> addresses;
  for (int i = 0; i < kReplicas; ++i) {
    brokers.push_back(&world.StartBroker());
    addresses.push_back(brokers.back()->grpc_address());
  }
  std::map<std::string, int64_t> first_version;
  for (int i = 0; i < kOrgs; ++i) {
    const std::string org = absl::StrCat("org-", i);
    world.RegisterImported(*brokers[0], org, "us");
    first_version[org] = brokers[0]->GetAccessToken(org).token.version();
  }
  std::vector<std::string> held_at_zoho;
  for (int i = 0; i < kReplicas; ++i) {
    held_at_zoho.push_back(
        world.RegisterImported(*brokers[0], absl::StrCat("held-", i), "us").identity.org_id);
  }
  world.log().Clear();
  Load load(addresses);
  load.Start();
  // A second of it before, between and after the restarts.
  const auto second_of_load = [&load] {
    const int64_t enough = load.calls() + kCallsPerSecond;
    EXPECT_TRUE(WaitUntil([&] { return load.calls() >= enough; }));
  };
  second_of_load();

  for (int i = 0; i < kReplicas; ++i) {
    SCOPED_TRACE(absl::StrCat("replica ", i));
    Broker& old = *brokers[i];
    const std::string held = absl::StrCat("held-", i);
    HoldReplies(world, 1, held_at_zoho[i]);
    const int64_t version = Number(world.redis(), held, "g");
    std::future<Broker::Token> call = Ask(old, held, Rejecting(version));
    ASSERT_TRUE(WaitUntil([&] { return world.zoho().hung() == 1; }));
    old.process().Signal(SIGTERM);
    ASSERT_TRUE(old.process().WaitForErrorLine(
        [](const std::string& line) { return absl::StrContains(line, "\"draining\""); },
        absl::Seconds(20)));
    second_of_load();
    EXPECT_EQ(world.zoho().ReleaseHung(), 1);
    const Broker::Token answer = call.get();
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.token.source(), v1::TOKEN_SOURCE_REFRESHED);
    EXPECT_EQ(old.process().Wait(absl::Seconds(30)), 0) << old.process().err();
    EXPECT_EQ(Number(world.redis(), held, "g"), version + 1);

    brokers[i] = &world.StartBroker({"--set", absl::StrCat("grpc.listen=", addresses[i])});
    ASSERT_EQ(brokers[i]->grpc_address(), addresses[i]);
    // Before the next one goes, callers have found this one again.
    ASSERT_TRUE(WaitUntil([&] { return Metric(*brokers[i], "tokenbroker_calls_total") > 0; }));
    second_of_load();
  }
  load.Stop();

  EXPECT_EQ(absl::StrJoin(load.failures(), "\n"), "");
  EXPECT_GT(load.calls(), 7 * kCallsPerSecond);
  int64_t new_versions = kReplicas;
  for (int i = 0; i < kOrgs; ++i) {
    const std::string org = absl::StrCat("org-", i);
    new_versions += Number(world.redis(), org, "g") - first_version[org];
  }
  EXPECT_GT(new_versions, kReplicas + kOrgs);
  EXPECT_EQ(world.Refreshes("minted"), new_versions);
  EXPECT_EQ(world.Refreshes(), new_versions);
  EXPECT_EQ(world.log().MaxInFlightPerGrant(), 1);
}

}  // namespace
}  // namespace tokenbroker::faults
