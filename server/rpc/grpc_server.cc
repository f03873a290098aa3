#include "server/rpc/grpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/rpc/health_service.h"

namespace tokenbroker {
namespace {

// For NOT_SERVING to reach whoever watches, and for the calls that were on their way by then.
constexpr absl::Duration kTurningElsewhere = absl::Seconds(1);

// A global switch of gRPC that builders look at.
void EnableReflectionOnce() {
  static const bool enabled = [] {
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    return true;
  }();
  (void)enabled;
}

int Milliseconds(absl::Duration duration) {
  return static_cast<int>(std::clamp<int64_t>(absl::ToInt64Milliseconds(duration), 1, INT_MAX));
}

std::shared_ptr<grpc::ServerCredentials> CredentialsOf(const GrpcServer::Options& options) {
  if (!options.tls) return grpc::InsecureServerCredentials();
  const GrpcServer::Tls& tls = *options.tls;
  grpc::SslServerCredentialsOptions ssl(
      tls.client_ca_pem.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  ssl.pem_root_certs = tls.client_ca_pem;
  ssl.pem_key_cert_pairs.push_back({std::string(tls.private_key_pem.Reveal()), tls.cert_chain_pem});
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::SslServerCredentials(ssl);
  // Overwritten here; gRPC keeps a copy of its own.
  for (char& c : ssl.pem_key_cert_pairs.front().private_key) c = '\0';
  return credentials;
}

void SetLimits(const GrpcServer::Options& options, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(options.max_request_bytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_concurrent_streams);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS,
                             Milliseconds(options.max_connection_age));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS,
                             Milliseconds(options.max_connection_age_grace));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(options.keepalive_time));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             Milliseconds(options.keepalive_timeout));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Clients that ping as often as we do are no abusers; gRPC's default is five minutes.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             std::min(Milliseconds(options.keepalive_time), 10'000));
  // Without this a second server on the same port would share it in silence.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  grpc::ResourceQuota quota("token-broker");
  quota.Resize(static_cast<size_t>(options.memory_quota_mib) * 1024 * 1024);
  builder.SetResourceQuota(quota);
}

}  // namespace

class GrpcServer::Impl {
 public:
  // Listens. The port is 0 afterwards if that was not possible.
  explicit Impl(const Options& options) {
    grpc::ServerBuilder builder;
    SetLimits(options, builder);
    builder.AddListeningPort(options.listen, CredentialsOf(options), &port_);
    builder.RegisterService(&health_);
    for (grpc::Service* service : options.services) builder.RegisterService(service);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) port_ = 0;
  }

  int port() const { return port_; }

  void SetServing(bool serving) { health_.SetServing(serving); }

  void Shutdown(absl::Duration grace) {
    if (server_ == nullptr || stopped_.exchange(true, std::memory_order_acq_rel)) return;
    const auto until = std::chrono::steady_clock::now() +
                       absl::ToChronoMilliseconds(std::max(grace, absl::ZeroDuration()));
    // From the moment that gRPC shuts down it drops calls that still arrive, and only by shutting
    // down does it tell callers to stop.
    health_.SetServing(false);
    if (health_.IsWatched()) {
      std::this_thread::sleep_for(
          absl::ToChronoMilliseconds(std::min(kTurningElsewhere, grace / 2)));
    }
    health_.End();
    server_->Shutdown(std::chrono::system_clock::now() +
                      std::max(until - std::chrono::steady_clock::now(),
                               std::chrono::steady_clock::duration::zero()));
    server_->Wait();
  }

 private:
  HealthService health_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  std::atomic<bool> stopped_{false};
};

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Create(Options options) {
  EnableReflectionOnce();
  // Debian builds Abseil so that each lock that gRPC takes enters a graph, to find deadlocks, under
  // one lock of the whole process.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  auto impl = std::make_unique<Impl>(options);
  if (impl->port() == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", options.listen,
                     options.tls ? ": the address is in use or not this machine's, or the "
                                   "certificate and key do not fit"
                                 : ": the address is in use or not this machine's"));
  }
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(impl)));
}

GrpcServer::GrpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GrpcServer::~GrpcServer() { Shutdown(absl::ZeroDuration()); }

int GrpcServer::port() const { return impl_->port(); }
void GrpcServer::SetServing(bool serving) { impl_->SetServing(serving); }
void GrpcServer::Shutdown(absl::Duration grace) { impl_->Shutdown(grace); }

}  // namespace tokenbroker
