#include "tests/storage/redis/handshake_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>
#include <unistd.h>

namespace tokenbroker {
namespace {

bool Use(SSL_CTX* context, const IssuedCertificate& certificate) {
  BIO* const certificate_pem = BIO_new_mem_buf(certificate.certificate_pem.data(), -1);
  BIO* const key_pem = BIO_new_mem_buf(certificate.private_key_pem.data(), -1);
  X509* const x509 = PEM_read_bio_X509(certificate_pem, nullptr, nullptr, nullptr);
  EVP_PKEY* const key = PEM_read_bio_PrivateKey(key_pem, nullptr, nullptr, nullptr);
  const bool used = x509 != nullptr && key != nullptr &&
                    SSL_CTX_use_certificate(context, x509) == 1 &&
                    SSL_CTX_use_PrivateKey(context, key) == 1;
  EVP_PKEY_free(key);
  X509_free(x509);
  BIO_free(key_pem);
  BIO_free(certificate_pem);
  return used;
}

}  // namespace

absl::StatusOr<std::unique_ptr<HandshakeServer>> HandshakeServer::Start(
    const IssuedCertificate& certificate) {
  std::unique_ptr<HandshakeServer> server(new HandshakeServer());
  server->context_ = SSL_CTX_new(TLS_server_method());
  if (server->context_ == nullptr || !Use(server->context_, certificate)) {
    return absl::InternalError("OpenSSL does not take the certificate");
  }
  // Tickets would be written after the client's last word, maybe to nobody.
  SSL_CTX_set_num_tickets(server->context_, 0);
  server->listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (bind(server->listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(server->listener_, 16) != 0 ||
      getsockname(server->listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return absl::UnavailableError("no socket on loopback");
  }
  server->port_ = ntohs(address.sin_port);
  // The client hears from us only after this, so what it asked for is noted when its handshake is
  // over.
  const auto note = [](SSL* ssl, int*, void* self) -> int {
    const char* const name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    auto* const noting = static_cast<HandshakeServer*>(self);
    MutexLock lock(noting->mutex_);
    noting->names_.emplace_back(name == nullptr ? "" : name);
    return name == nullptr ? SSL_TLSEXT_ERR_NOACK : SSL_TLSEXT_ERR_OK;
  };
  SSL_CTX_set_tlsext_servername_callback(server->context_, +note);
  SSL_CTX_set_tlsext_servername_arg(server->context_, server.get());
  server->thread_ = std::thread(&HandshakeServer::Run, server.get());
  return server;
}

HandshakeServer::~HandshakeServer() {
  if (thread_.joinable()) {
    shutdown(listener_, SHUT_RDWR);  // ends accept
    thread_.join();
  }
  if (listener_ >= 0) close(listener_);
  SSL_CTX_free(context_);
}

std::vector<std::string> HandshakeServer::names() {
  MutexLock lock(mutex_);
  return names_;
}

void HandshakeServer::Run() {
  while (true) {
    const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) return;
    SSL* const ssl = SSL_new(context_);
    SSL_set_fd(ssl, client);
    (void)SSL_accept(ssl);
    SSL_free(ssl);
    close(client);
  }
}

}  // namespace tokenbroker
