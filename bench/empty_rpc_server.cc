// The limit: a server with the broker's settings whose GetAccessToken does nothing but answer a
// reply of the wanted size. Prints its address as the broker does; ends with its standard input.
//
//   bench_empty_rpc_server REPLY_BYTES
#include <grpcpp/support/server_callback.h>
#include <signal.h>

#include <cstdlib>
#include <iostream>
#include <string>

#include "server/rpc/grpc_server.h"
#include "tokenbroker/v1/token_service.grpc.pb.h"

namespace tokenbroker {
namespace {

class EmptyService final : public v1::TokenService::CallbackService {
 public:
  explicit EmptyService(size_t reply_bytes) : padding_(reply_bytes, 'x') {}

  grpc::ServerUnaryReactor* GetAccessToken(grpc::CallbackServerContext* context,
                                           const v1::GetAccessTokenRequest*,
                                           v1::GetAccessTokenResponse* response) override {
    response->set_access_token(padding_);
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

 private:
  const std::string padding_;
};

int Main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  EmptyService service(argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 0);
  GrpcServer::Options options;
  options.listen = "127.0.0.1:0";
  options.services = {&service};
  auto server = GrpcServer::Create(std::move(options));
  if (!server.ok()) {
    std::cerr << server.status() << '\n';
    return 1;
  }
  std::cout << "{\"grpc\":\"127.0.0.1:" << (*server)->port() << "\"}" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
  }
  return 0;
}

}  // namespace
}  // namespace tokenbroker

int main(int argc, char** argv) { return tokenbroker::Main(argc, argv); }
