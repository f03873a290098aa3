#ifndef TOKEN_BROKER_SERVER_RPC_STATUS_H_
#define TOKEN_BROKER_SERVER_RPC_STATUS_H_

#include <grpcpp/support/status.h>

#include <string_view>

#include "absl/status/status.h"

namespace tokenbroker {

// The one way from our errors to a caller: the canonical code, the text, and google.rpc.Status in
// the details, with ErrorInfo always (domain "tokenbroker.v1"), RetryInfo where waiting helps and
// BadRequest where fields are at fault.
//
// A status that did not come from common/errors.h, and INTERNAL, becomes INTERNAL with reason
// INTERNAL and a text that says nothing: what broke inside is for the log. The exception is
// CANCELLED, which no caller reads any more. Everything is cut so that it fits into the 8 KiB of
// trailers that clients accept by default.
grpc::Status ToGrpcStatus(const absl::Status& status);

// "OK", "NOT_FOUND", … as gRPC writes them. Static storage.
std::string_view StatusCodeName(absl::StatusCode code);

// The code that `ToGrpcStatus` sends.
absl::StatusCode SentCode(const absl::Status& status);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_RPC_STATUS_H_
