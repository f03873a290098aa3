#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/e2e/world.h"
#include "tests/testing/silent_client.h"

// Every limit of the configuration's section `grpc` binds the listener.
namespace tokenbroker::e2e {
namespace {

using testing::SilentClient;

class Listener : public ::testing::Test {
 protected:
  Broker& Start(const std::string& options) {
    return world_.StartBrokerWith(
        absl::StrReplaceAll(world_.config(), {{"grpc:\n", "grpc:\n" + options}}));
  }
  static int PortOf(const Broker& broker) {
    const std::string& address = broker.grpc_address();
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port)) << address;
    return port;
  }
  // Less than the defaults. With lower bounds, which no busy machine breaks, it tells the values
  // apart.
  static constexpr absl::Duration kPatience = absl::Seconds(8);

  World world_;
};

TEST_F(Listener, SaysHowManyCallsAConnectionTakes) {
  Broker& broker = Start("  max_concurrent_streams: 7\n");
  EXPECT_EQ(SilentClient(PortOf(broker)).MaxConcurrentStreams(), 7u);
}

TEST_F(Listener, PingsAndClosesWhatDoesNotAnswer) {
  Broker& broker = Start("  keepalive_time: 3s\n  keepalive_timeout: 1s\n");
  const auto begin = std::chrono::steady_clock::now();
  SilentClient client(PortOf(broker), kPatience);
  EXPECT_TRUE(client.Await(SilentClient::kPing).has_value());
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(2500));
  EXPECT_FALSE(client.Await(SilentClient::kPing).has_value());
}

TEST_F(Listener, SendsOldConnectionsAway) {
  Broker& broker = Start("  max_connection_age: 3s\n  max_connection_age_grace: 1s\n");
  const auto begin = std::chrono::steady_clock::now();
  // Whoever stays for ever all the same is cut off: not after the default of 30 s.
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  const auto health = grpc::health::v1::Health::NewStub(broker.NewChannel());
  const auto watch = health->Watch(&context, grpc::health::v1::HealthCheckRequest());
  SilentClient client(PortOf(broker), kPatience);
  EXPECT_TRUE(client.Await(SilentClient::kGoAway).has_value());
  // Up to a tenth earlier, so that they do not all come back at once.
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(2500));
  grpc::health::v1::HealthCheckResponse state;
  while (watch->Read(&state)) {
  }
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(Listener, TakesRequestsUpToASize) {
  Broker& broker = Start("  max_request_bytes: 2048\n");
  const auto code_of = [&broker](size_t bytes) {
    return broker
        .GetAccessToken("acme",
                        [bytes](v1::GetAccessTokenRequest& request) {
                          request.add_scopes(std::string(bytes, 's'));
                        })
        .status.error_code();
  };
  EXPECT_EQ(code_of(1900), grpc::StatusCode::INVALID_ARGUMENT);  // of a scope
  EXPECT_EQ(code_of(3000), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

// Each is within the size; together they are more than the memory.
TEST_F(Listener, RefusesWhatItsMemoryDoesNotHold) {
  Broker& broker = Start("  max_request_bytes: 4194304\n  memory_quota_mib: 16\n");
  v1::GetAccessTokenRequest request;
  request.set_org_id(std::string(4'000'000, 'o'));
  const auto call = [&](v1::TokenService::Stub& stub) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    v1::GetAccessTokenResponse response;
    return stub.GetAccessToken(&context, request, &response).error_code();
  };
  EXPECT_EQ(call(broker.stub()), grpc::StatusCode::INVALID_ARGUMENT);  // of an org_id
  std::atomic<bool> refused = false;
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  const auto call_until_refused = [&] {
    const auto stub = v1::TokenService::NewStub(broker.NewChannel());
    while (!refused && std::chrono::steady_clock::now() < give_up) {
      if (call(*stub) == grpc::StatusCode::RESOURCE_EXHAUSTED) refused = true;
    }
  };
  std::vector<std::thread> callers;
  for (int i = 0; i < 32; ++i) callers.emplace_back(call_until_refused);
  for (std::thread& caller : callers) caller.join();
  EXPECT_TRUE(refused);
}

}  // namespace
}  // namespace tokenbroker::e2e
