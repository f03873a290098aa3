#include "tests/e2e/callback_threads.h"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>
#include <grpcpp/support/stub_options.h>

namespace tokenbroker::e2e {
namespace {

// A call to nobody. Channels get their callback threads with their first call.
struct LastingCall {
  grpc::GenericStub stub{
      grpc::CreateChannel("unix:/nonexistent/socket", grpc::InsecureChannelCredentials())};
  grpc::ClientContext context;
  grpc::Slice nothing;
  grpc::ByteBuffer request{&nothing, 1};
  grpc::ByteBuffer response;
};

}  // namespace

void KeepCallbackThreads() {
  static const LastingCall* const kept = [] {
    auto* call = new LastingCall;
    call->stub.UnaryCall(&call->context, "/none/none", grpc::StubOptions(), &call->request,
                         &call->response, [](const grpc::Status&) {});
    return call;
  }();
  (void)kept;
}

}  // namespace tokenbroker::e2e
