#ifndef TOKEN_BROKER_SERVER_RPC_GRPC_SERVER_H_
#define TOKEN_BROKER_SERVER_RPC_GRPC_SERVER_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/secret.h"

namespace grpc {
class Service;
}

namespace tokenbroker {

// The listener: one port with the given services, the standard health service and server reflection
// (v1alpha, which is what gRPC 1.51 has; grpcurl falls back to it), health described by it too.
//
//   auto server = GrpcServer::Create({.listen = "127.0.0.1:0", .services = {edge.service()}});
//   (*server)->SetServing(true);
class GrpcServer {
 public:
  struct Tls {
    std::string cert_chain_pem;
    Secret private_key_pem;
    // "": callers need no certificate. Otherwise every caller must show one of these CAs.
    std::string client_ca_pem;
  };
  struct Options {
    std::string listen = "127.0.0.1:8443";  // port 0: a free one
    std::vector<grpc::Service*> services;   // must outlive the server
    std::optional<Tls> tls;                 // nullopt: plaintext
    int max_request_bytes = 65536;
    int max_concurrent_streams = 1000;  // per connection
    absl::Duration max_connection_age = absl::Minutes(5);
    absl::Duration max_connection_age_grace = absl::Seconds(30);
    absl::Duration keepalive_time = absl::Seconds(30);
    absl::Duration keepalive_timeout = absl::Seconds(10);
    int memory_quota_mib = 512;
  };

  // Listens and answers at once, with health NOT_SERVING until SetServing(true). UNAVAILABLE: the
  // address cannot be listened on, or the certificate and key are no good.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Create(Options options);
  // Shuts down, with no time to spare, if that was not done.
  ~GrpcServer();

  // The port that is listened on.
  int port() const;

  // What health says of "" and of "tokenbroker.v1.TokenService". Thread-safe. Without effect after
  // Shutdown.
  void SetServing(bool serving);

  // Says NOT_SERVING, gives callers who watch health a second to turn elsewhere (at most half of
  // `grace`; other callers may see a call that arrives at the wrong moment CANCELLED), stops
  // accepting, waits for the calls in progress and cancels those that are left after `grace`.
  // Idempotent. Not on a thread of gRPC.
  void Shutdown(absl::Duration grace);

 private:
  class Impl;
  explicit GrpcServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_RPC_GRPC_SERVER_H_
