#ifndef TOKEN_BROKER_SERVER_RPC_AUTHORISE_H_
#define TOKEN_BROKER_SERVER_RPC_AUTHORISE_H_

#include <string_view>

#include "absl/status/status.h"

namespace grpc {
class CallbackServerContext;
}

namespace tokenbroker {

// Whether the caller may use this RPC; asked before the request is looked at, so that a caller
// without rights learns nothing from it. The rule: everybody whom the listener admitted may (with a
// client CA that is everybody with a certificate of it; the proven identity is in the context's
// auth_context()). UNAUTHENTICATED CALLER_UNAUTHENTICATED; PERMISSION_DENIED CALLER_NOT_ALLOWED.
absl::Status Authorise(const grpc::CallbackServerContext& context, std::string_view rpc);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_RPC_AUTHORISE_H_
