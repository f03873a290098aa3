#ifndef TOKEN_BROKER_SERVER_RPC_LIBRARY_LOG_H_
#define TOKEN_BROKER_SERVER_RPC_LIBRARY_LOG_H_

#include <functional>
#include <string_view>

namespace tokenbroker {

// What gRPC and protobuf have to say by themselves (failed TLS handshakes, requests that are no
// UTF-8). Without it they write lines of their own kind to standard error, between the log's. For
// the whole process; at most one at a time.
class LibraryLog {
 public:
  // `library`: "grpc" or "protobuf". Called by one thread at a time, any; must not block.
  using Listener = std::function<void(std::string_view library, std::string_view text)>;

  explicit LibraryLog(Listener listener);
  // The listener is not called any more; what comes later is dropped.
  ~LibraryLog();
  LibraryLog(const LibraryLog&) = delete;
  LibraryLog& operator=(const LibraryLog&) = delete;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_RPC_LIBRARY_LOG_H_
