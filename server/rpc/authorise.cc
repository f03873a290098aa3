#include "server/rpc/authorise.h"

namespace tokenbroker {

absl::Status Authorise(const grpc::CallbackServerContext&, std::string_view) {
  return absl::OkStatus();
}

}  // namespace tokenbroker
