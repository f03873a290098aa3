#include "server/rpc/grpc_server.h"

#include <google/protobuf/descriptor.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <chrono>
#include <optional>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/mutex.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "gtest/gtest.h"
#include "tests/testing/silent_client.h"
#include "tests/zoho_simulator/certificate.h"
#include "tokenbroker/v1/token_service.grpc.pb.h"

namespace tokenbroker {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using testing::SilentClient;

constexpr char kTokenService[] = "tokenbroker.v1.TokenService";

// Answers GetAccessToken at once, or holds it until it is told to.
class GatedService final : public v1::TokenService::CallbackService {
 public:
  grpc::ServerUnaryReactor* GetAccessToken(grpc::CallbackServerContext* context,
                                           const v1::GetAccessTokenRequest*,
                                           v1::GetAccessTokenResponse*) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    MutexLock lock(mutex_);
    if (hold_) {
      held_ = reactor;
      changed_.NotifyAll();
    } else {
      reactor->Finish(grpc::Status::OK);
    }
    return reactor;
  }

  void Hold() {
    MutexLock lock(mutex_);
    hold_ = true;
  }
  // False: no call came within 10 s.
  bool WaitForCall() {
    const absl::Time give_up = absl::Now() + absl::Seconds(10);
    MutexLock lock(mutex_);
    while (held_ == nullptr) {
      if (absl::Now() >= give_up) return false;
      changed_.WaitFor(mutex_, give_up - absl::Now());
    }
    return true;
  }
  void Release() {
    MutexLock lock(mutex_);
    hold_ = false;
    if (held_ != nullptr) held_->Finish(grpc::Status::OK);
    held_ = nullptr;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool hold_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::ServerUnaryReactor* held_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

std::chrono::system_clock::time_point InTenSeconds() {
  return std::chrono::system_clock::now() + std::chrono::seconds(10);
}

class GrpcServerTest : public ::testing::Test {
 protected:
  std::unique_ptr<GrpcServer> Start(GrpcServer::Options options = {}) {
    options.listen = "127.0.0.1:0";
    options.services = {&service_};
    auto server = GrpcServer::Create(std::move(options));
    EXPECT_TRUE(server.ok()) << server.status();
    return server.ok() ? *std::move(server) : nullptr;
  }

  static std::shared_ptr<grpc::Channel> Connect(
      const GrpcServer& server,
      std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials()) {
    return grpc::CreateChannel(absl::StrCat("127.0.0.1:", server.port()), credentials);
  }

  static grpc::Status Call(const std::shared_ptr<grpc::Channel>& channel,
                           const v1::GetAccessTokenRequest& request = {}) {
    grpc::ClientContext context;
    context.set_deadline(InTenSeconds());
    v1::GetAccessTokenResponse response;
    return v1::TokenService::NewStub(channel)->GetAccessToken(&context, request, &response);
  }

  // Waits until the server takes no new connections. False: not within 10 s.
  static bool WaitForRefusal(const GrpcServer& server) {
    grpc::ChannelArguments own_connection;
    own_connection.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto give_up = InTenSeconds();
    while (std::chrono::system_clock::now() < give_up) {
      const auto channel =
          grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", server.port()),
                                    grpc::InsecureChannelCredentials(), own_connection);
      if (!channel->WaitForConnected(std::chrono::system_clock::now() +
                                     std::chrono::milliseconds(300))) {
        return true;
      }
    }
    return false;
  }

  static HealthCheckResponse::ServingStatus HealthOf(const std::shared_ptr<grpc::Channel>& channel,
                                                     const std::string& service) {
    grpc::ClientContext context;
    context.set_deadline(InTenSeconds());
    HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse response;
    const grpc::Status status = Health::NewStub(channel)->Check(&context, request, &response);
    return status.ok() ? response.status() : HealthCheckResponse::SERVICE_UNKNOWN;
  }

  GatedService service_;
};

TEST_F(GrpcServerTest, AnswersOnAFreePort) {
  const auto server = Start();
  ASSERT_NE(server, nullptr);
  EXPECT_GT(server->port(), 0);
  EXPECT_TRUE(Call(Connect(*server)).ok());
}

TEST_F(GrpcServerTest, DoesNotShareAPort) {
  const auto first = Start();
  ASSERT_NE(first, nullptr);
  const auto second =
      GrpcServer::Create({.listen = absl::StrCat("127.0.0.1:", first->port()), .services = {}});
  EXPECT_TRUE(absl::IsUnavailable(second.status())) << second.status();
}

TEST_F(GrpcServerTest, IsNotServingUntilItIsTold) {
  const auto server = Start();
  const auto channel = Connect(*server);
  EXPECT_EQ(HealthOf(channel, ""), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(HealthOf(channel, kTokenService), HealthCheckResponse::NOT_SERVING);
  server->SetServing(true);
  EXPECT_EQ(HealthOf(channel, ""), HealthCheckResponse::SERVING);
  EXPECT_EQ(HealthOf(channel, kTokenService), HealthCheckResponse::SERVING);
  EXPECT_EQ(HealthOf(channel, "tokenbroker.v1.Other"), HealthCheckResponse::SERVICE_UNKNOWN);
  server->SetServing(false);
  EXPECT_EQ(HealthOf(channel, ""), HealthCheckResponse::NOT_SERVING);
}

// What reflection answers from; grpcurl itself is driven by the end-to-end tests.
TEST_F(GrpcServerTest, CanDescribeEveryService) {
  const google::protobuf::DescriptorPool& pool =
      *google::protobuf::DescriptorPool::generated_pool();
  const auto* health = pool.FindServiceByName("grpc.health.v1.Health");
  ASSERT_NE(health, nullptr);
  EXPECT_NE(health->FindMethodByName("Check"), nullptr);
  const auto* tokens = pool.FindServiceByName(kTokenService);
  ASSERT_NE(tokens, nullptr);
  EXPECT_EQ(tokens->method_count(), 6);
}

TEST_F(GrpcServerTest, RefusesRequestsThatAreTooBig) {
  const auto server = Start({.max_request_bytes = 2000});
  const auto channel = Connect(*server);
  v1::GetAccessTokenRequest request;
  request.set_org_id(std::string(1000, 'o'));
  EXPECT_TRUE(Call(channel, request).ok());
  request.set_org_id(std::string(3000, 'o'));
  EXPECT_EQ(Call(channel, request).error_code(), grpc::RESOURCE_EXHAUSTED);
}

// Both take the size; only one has the memory.
TEST_F(GrpcServerTest, RefusesWhatItsMemoryQuotaDoesNotHold) {
  v1::GetAccessTokenRequest request;
  request.set_org_id(std::string(16 << 20, 'o'));
  const auto ample = Start({.max_request_bytes = 32 << 20, .memory_quota_mib = 512});
  const grpc::Status taken = Call(Connect(*ample), request);
  EXPECT_TRUE(taken.ok()) << taken.error_message();
  const auto scanty = Start({.max_request_bytes = 32 << 20, .memory_quota_mib = 1});
  EXPECT_EQ(Call(Connect(*scanty), request).error_code(), grpc::RESOURCE_EXHAUSTED);
}

TEST_F(GrpcServerTest, ClosesOldConnections) {
  const auto server = Start({.max_connection_age = absl::Milliseconds(200),
                             .max_connection_age_grace = absl::Milliseconds(200)});
  const auto channel = Connect(*server);
  ASSERT_TRUE(channel->WaitForConnected(InTenSeconds()));
  EXPECT_TRUE(channel->WaitForStateChange(GRPC_CHANNEL_READY, InTenSeconds()));
  EXPECT_TRUE(Call(channel).ok());  // on a new one
}

TEST_F(GrpcServerTest, SaysHowManyCallsAConnectionTakes) {
  const auto server = Start({.max_concurrent_streams = 7});
  EXPECT_EQ(SilentClient(server->port()).MaxConcurrentStreams(), 7u);
}

TEST_F(GrpcServerTest, ClosesConnectionsThatDoNotAnswerPings) {
  const auto server = Start(
      {.keepalive_time = absl::Milliseconds(200), .keepalive_timeout = absl::Milliseconds(200)});
  SilentClient client(server->port());
  int pings = 0;
  while (const std::optional<SilentClient::Frame> frame = client.Read()) {
    if (frame->type == SilentClient::kPing) ++pings;
  }
  EXPECT_EQ(pings, 1);
}

TEST_F(GrpcServerTest, LetsCallsFinishWhenItShutsDown) {
  const auto server = Start();
  server->SetServing(true);
  service_.Hold();
  grpc::Status status;
  std::thread caller([&] { status = Call(Connect(*server)); });
  ASSERT_TRUE(service_.WaitForCall());
  std::thread stopper([&] { server->Shutdown(absl::Seconds(10)); });
  // New connections are refused before the call in progress has ended.
  EXPECT_TRUE(WaitForRefusal(*server));
  service_.Release();
  caller.join();
  stopper.join();
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(GrpcServerTest, CancelsWhatIsLeftAfterTheGrace) {
  const auto server = Start();
  service_.Hold();
  grpc::Status status;
  std::thread caller([&] { status = Call(Connect(*server)); });
  ASSERT_TRUE(service_.WaitForCall());
  std::thread stopper([&] { server->Shutdown(absl::Milliseconds(100)); });
  caller.join();
  EXPECT_FALSE(status.ok());
  service_.Release();  // the server waits for its own handlers in any case
  stopper.join();
}

// Load balancers that watch must not hold up the end.
TEST_F(GrpcServerTest, TellsWatchersAndDoesNotWaitForThem) {
  const auto server = Start();
  const auto stub = Health::NewStub(Connect(*server));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  const auto watch = stub->Watch(&context, {});
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  server->SetServing(true);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  const absl::Time begin = absl::Now();
  server->Shutdown(absl::Seconds(20));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(15));
  // The last word before the stream ends, if it still gets through, is NOT_SERVING.
  while (watch->Read(&response)) {
    EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  }
  watch->Finish();
}

// Whoever watches has the time to turn elsewhere: what was sent before is answered.
TEST_F(GrpcServerTest, ServesThoseWhoAreJustBeingTold) {
  const auto server = Start();
  const auto channel = Connect(*server);
  const auto stub = Health::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  const auto watch = stub->Watch(&context, {});
  HealthCheckResponse response;
  server->SetServing(true);
  while (response.status() != HealthCheckResponse::SERVING) ASSERT_TRUE(watch->Read(&response));
  std::thread stopper([&] { server->Shutdown(absl::Seconds(20)); });
  EXPECT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  for (int i = 0; i < 10; ++i) {
    grpc::ClientContext late;
    late.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    EXPECT_TRUE(stub->Check(&late, {}, &response).ok());
  }
  while (watch->Read(&response)) {
  }
  watch->Finish();
  stopper.join();
}

TEST_F(GrpcServerTest, ShutsDownTwice) {
  const auto server = Start();
  server->Shutdown(absl::Seconds(1));
  server->Shutdown(absl::Seconds(1));
  server->SetServing(true);
}

class GrpcServerTlsTest : public GrpcServerTest {
 protected:
  GrpcServerTlsTest()
      : certificate_(*zoho_simulator::MakeCertificate()),
        foreign_(*zoho_simulator::MakeCertificate()) {}

  GrpcServer::Options TlsOptions(bool ask_clients) {
    return {.tls =
                GrpcServer::Tls{.cert_chain_pem = certificate_.certificate_pem,
                                .private_key_pem = Secret(certificate_.private_key_pem),
                                .client_ca_pem = ask_clients ? certificate_.certificate_pem : ""}};
  }

  static std::shared_ptr<grpc::ChannelCredentials> Trusting(
      const zoho_simulator::Certificate& ca, const zoho_simulator::Certificate* own = nullptr) {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = ca.certificate_pem;
    if (own != nullptr) {
      options.pem_cert_chain = own->certificate_pem;
      options.pem_private_key = own->private_key_pem;
    }
    return grpc::SslCredentials(options);
  }

  const zoho_simulator::Certificate certificate_;
  const zoho_simulator::Certificate foreign_;
};

TEST_F(GrpcServerTlsTest, SpeaksTlsOnly) {
  const auto server = Start(TlsOptions(/*ask_clients=*/false));
  ASSERT_NE(server, nullptr);
  EXPECT_TRUE(Call(Connect(*server, Trusting(certificate_))).ok());
  EXPECT_FALSE(Call(Connect(*server)).ok());
  EXPECT_FALSE(Call(Connect(*server, Trusting(foreign_))).ok());
}

TEST_F(GrpcServerTlsTest, WantsCertificatesOfItsCallers) {
  const auto server = Start(TlsOptions(/*ask_clients=*/true));
  ASSERT_NE(server, nullptr);
  EXPECT_TRUE(Call(Connect(*server, Trusting(certificate_, &certificate_))).ok());
  EXPECT_FALSE(Call(Connect(*server, Trusting(certificate_))).ok());
  EXPECT_FALSE(Call(Connect(*server, Trusting(certificate_, &foreign_))).ok());
}

TEST_F(GrpcServerTlsTest, RefusesAKeyThatDoesNotFit) {
  GrpcServer::Options options = TlsOptions(/*ask_clients=*/false);
  options.tls->private_key_pem = Secret("not a key");
  options.listen = "127.0.0.1:0";
  EXPECT_TRUE(absl::IsUnavailable(GrpcServer::Create(std::move(options)).status()));
}

}  // namespace
}  // namespace tokenbroker
