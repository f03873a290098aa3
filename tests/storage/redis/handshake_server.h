#ifndef TOKEN_BROKER_TESTS_STORAGE_REDIS_HANDSHAKE_SERVER_H_
#define TOKEN_BROKER_TESTS_STORAGE_REDIS_HANDSHAKE_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "common/mutex.h"
#include "tests/testing/certificate_authority.h"

// OpenSSL's own name, so that its headers stay out of this one.
struct ssl_ctx_st;

namespace tokenbroker {

// A TLS server on loopback that remembers by which name each client asked for it, and closes the
// connection after the handshake.
class HandshakeServer {
 public:
  // INTERNAL: OpenSSL refuses the certificate. UNAVAILABLE: no socket.
  static absl::StatusOr<std::unique_ptr<HandshakeServer>> Start(
      const IssuedCertificate& certificate);
  ~HandshakeServer();

  uint16_t port() const { return port_; }
  // The name in the server_name extension (SNI) of each handshake so far, "" where there was none.
  // A client whose handshake has succeeded is among them.
  std::vector<std::string> names();

 private:
  HandshakeServer() = default;
  void Run();

  ssl_ctx_st* context_ = nullptr;
  int listener_ = -1;
  uint16_t port_ = 0;
  Mutex mutex_;
  std::vector<std::string> names_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_STORAGE_REDIS_HANDSHAKE_SERVER_H_
