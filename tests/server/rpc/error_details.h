#ifndef TOKEN_BROKER_TESTS_SERVER_RPC_ERROR_DETAILS_H_
#define TOKEN_BROKER_TESTS_SERVER_RPC_ERROR_DETAILS_H_

#include <grpcpp/support/status.h>

#include <optional>
#include <string>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace tokenbroker {

// google.rpc.Status as a client reads it; empty where there is none or it is damaged.
inline google::rpc::Status DetailsOf(const grpc::Status& status) {
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) details.Clear();
  return details;
}

// The detail of this type; nullopt: none.
template <typename Detail>
std::optional<Detail> DetailOf(const grpc::Status& status) {
  const google::rpc::Status details = DetailsOf(status);
  for (const google::protobuf::Any& any : details.details()) {
    Detail detail;
    if (any.Is<Detail>() && any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

// "": no ErrorInfo.
inline std::string ReasonOf(const grpc::Status& status) {
  const auto info = DetailOf<google::rpc::ErrorInfo>(status);
  return info ? info->reason() : "";
}

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_SERVER_RPC_ERROR_DETAILS_H_
