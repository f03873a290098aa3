#include "tests/zoho_simulator/http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace tokenbroker::zoho_simulator {

class HttpConnection::Impl {
 public:
  Impl(const std::string& url, const std::string& ca_pem, int timeout_ms) {
    const bool https = url.rfind("https://", 0) == 0;
    const std::string authority = url.substr(url.find("://") + 3);
    host_ = authority.substr(0, authority.rfind(':'));
    const int port = std::atoi(authority.substr(authority.rfind(':') + 1).c_str());
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const timeval timeout{timeout_ms / 1000, (timeout_ms % 1000) * 1000};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
      state_ = errno == ECONNREFUSED ? HttpResult::End::kRefused : HttpResult::End::kReset;
      return;
    }
    state_ = HttpResult::End::kReply;
    if (https) HandShake(ca_pem);
  }

  ~Impl() { Close(); }

  bool Send(const std::string& bytes) {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t n =
          ssl_ != nullptr
              ? SSL_write(ssl_, bytes.data() + sent, static_cast<int>(bytes.size() - sent))
              : send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) {
        // The kernel reports a reset once, and this was it.
        send_was_reset_ = errno == ECONNRESET || errno == EPIPE;
        return false;
      }
      sent += static_cast<size_t>(n);
    }
    return true;
  }

  HttpResult Read() {
    HttpResult result;
    if (state_ != HttpResult::End::kReply) {
      result.end = state_;
      return result;
    }
    size_t head = std::string::npos;
    size_t length = 0;
    while (true) {
      if (head == std::string::npos && (head = buffer_.find("\r\n\r\n")) != std::string::npos) {
        ParseHead(buffer_.substr(0, head), result);
        length = std::strtoul(result.headers["content-length"].c_str(), nullptr, 10);
      }
      if (head != std::string::npos && buffer_.size() >= head + 4 + length) break;
      if (!Fill(result)) {
        if (head != std::string::npos) result.body = buffer_.substr(head + 4);
        return result;
      }
    }
    result.end = HttpResult::End::kReply;
    result.body = buffer_.substr(head + 4, length);
    buffer_.erase(0, head + 4 + length);
    return result;
  }

  HttpResult::End state() const { return state_; }
  const std::string& host() const { return host_; }

  void Close() {
    if (ssl_ != nullptr) SSL_free(ssl_);
    if (context_ != nullptr) SSL_CTX_free(context_);
    if (fd_ >= 0) close(fd_);
    ssl_ = nullptr;
    context_ = nullptr;
    fd_ = -1;
  }

 private:
  void HandShake(const std::string& ca_pem) {
    context_ = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
    BIO* bio = BIO_new_mem_buf(ca_pem.data(), static_cast<int>(ca_pem.size()));
    if (X509* certificate = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr)) {
      X509_STORE_add_cert(SSL_CTX_get_cert_store(context_), certificate);
      X509_free(certificate);
    }
    BIO_free(bio);
    ssl_ = SSL_new(context_);
    X509_VERIFY_PARAM* parameters = SSL_get0_param(ssl_);
    if (host_ == "localhost") {
      X509_VERIFY_PARAM_set1_host(parameters, host_.c_str(), 0);
    } else {
      X509_VERIFY_PARAM_set1_ip_asc(parameters, host_.c_str());
    }
    SSL_set_fd(ssl_, fd_);
    errno = 0;
    if (SSL_connect(ssl_) == 1) return;
    state_ = errno == EAGAIN       ? HttpResult::End::kTimeout
             : errno == ECONNRESET ? HttpResult::End::kReset
                                   : HttpResult::End::kTls;
  }

  // False, with the reason in `result`, if no more comes.
  bool Fill(HttpResult& result) {
    char block[65536];
    errno = 0;
    const ssize_t n =
        ssl_ != nullptr ? SSL_read(ssl_, block, sizeof(block)) : recv(fd_, block, sizeof(block), 0);
    if (n > 0) {
      buffer_.append(block, static_cast<size_t>(n));
      return true;
    }
    result.end = send_was_reset_ || errno == ECONNRESET || errno == EPIPE ? HttpResult::End::kReset
                 : errno == EAGAIN ? HttpResult::End::kTimeout
                                   : HttpResult::End::kClosed;
    return false;
  }

  static void ParseHead(const std::string& head, HttpResult& result) {
    result.status = std::atoi(head.substr(head.find(' ') + 1, 3).c_str());
    size_t at = head.find("\r\n");
    while (at != std::string::npos) {
      const size_t next = head.find("\r\n", at + 2);
      const std::string line = head.substr(at + 2, next - at - 2);
      const size_t colon = line.find(':');
      if (colon != std::string::npos) {
        result.headers[absl::AsciiStrToLower(line.substr(0, colon))] =
            std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
      }
      at = next;
    }
  }

  int fd_ = -1;
  SSL_CTX* context_ = nullptr;
  SSL* ssl_ = nullptr;
  std::string host_;
  std::string buffer_;
  bool send_was_reset_ = false;
  HttpResult::End state_ = HttpResult::End::kReset;
};

HttpConnection::HttpConnection(const std::string& url, std::string ca_pem, int timeout_ms)
    : impl_(std::make_unique<Impl>(url, ca_pem, timeout_ms)) {}
HttpConnection::~HttpConnection() = default;
HttpConnection::HttpConnection(HttpConnection&&) noexcept = default;

bool HttpConnection::Send(const std::string& bytes) { return impl_->Send(bytes); }

bool HttpConnection::Request(const std::string& method, const std::string& target,
                             const std::string& body, const std::string& headers) {
  if (impl_->state() != HttpResult::End::kReply) return false;
  std::string request =
      absl::StrCat(method, " ", target, " HTTP/1.1\r\nHost: ", impl_->host(), "\r\n", headers);
  if (!body.empty() && headers.find("Content-Type") == std::string::npos) {
    absl::StrAppend(&request, "Content-Type: application/x-www-form-urlencoded\r\n");
  }
  absl::StrAppend(&request, "Content-Length: ", body.size(), "\r\n\r\n", body);
  return Send(request);
}

HttpResult HttpConnection::Read() { return impl_->Read(); }
HttpResult::End HttpConnection::state() const { return impl_->state(); }
void HttpConnection::Close() { impl_->Close(); }

HttpResult Call(const std::string& url, const std::string& method, const std::string& target,
                const std::string& body, const std::string& headers, const std::string& ca_pem) {
  HttpConnection connection(url, ca_pem);
  connection.Request(method, target, body, headers);
  return connection.Read();
}

}  // namespace tokenbroker::zoho_simulator
