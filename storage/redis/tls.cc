#include "storage/redis/tls.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "common/status_macros.h"

namespace tokenbroker::redis {
namespace {

// What an OpenSSL alert from the peer adds to the alert's number in RFC 8446, section 6, as a
// reason code.
constexpr int kAlertBase = SSL_AD_REASON_OFFSET;

// A socket BIO whose writes raise no SIGPIPE; OpenSSL's own do.
int WriteSocket(BIO* bio, const char* bytes, int size) {
  const int fd = static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
  BIO_clear_retry_flags(bio);
  const ssize_t written = send(fd, bytes, static_cast<size_t>(size), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (written < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
    BIO_set_retry_write(bio);
  }
  return static_cast<int>(written);
}

int ReadSocket(BIO* bio, char* buffer, int size) {
  const int fd = static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
  BIO_clear_retry_flags(bio);
  const ssize_t read = recv(fd, buffer, static_cast<size_t>(size), MSG_DONTWAIT);
  if (read < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
    BIO_set_retry_read(bio);
  }
  if (read == 0) BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
  return static_cast<int>(read);
}

long ControlSocket(BIO* bio, int command, long, void*) {
  switch (command) {
    case BIO_CTRL_FLUSH:
      return 1;
    case BIO_CTRL_EOF:
      return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0 ? 1 : 0;
    default:
      return 0;
  }
}

BIO* MakeBio(int fd) {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
    if (made == nullptr) return made;
    BIO_meth_set_write(made, &WriteSocket);
    BIO_meth_set_read(made, &ReadSocket);
    BIO_meth_set_ctrl(made, &ControlSocket);
    return made;
  }();
  BIO* const bio = method == nullptr ? nullptr : BIO_new(method);
  if (bio == nullptr) return nullptr;
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(fd)));
  BIO_set_init(bio, 1);
  return bio;
}

bool IsNumericAddress(const std::string& host) {
  in6_addr address = {};
  return inet_pton(AF_INET, host.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

// The server's name, as it is verified.
bool ExpectName(SSL* ssl, const std::string& name) {
  X509_VERIFY_PARAM* const verification = SSL_get0_param(ssl);
  X509_VERIFY_PARAM_set_hostflags(verification, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  if (IsNumericAddress(name)) return X509_VERIFY_PARAM_set1_ip_asc(verification, name.c_str()) == 1;
  return SSL_set1_host(ssl, name.c_str()) == 1 && SSL_set_tlsext_host_name(ssl, name.c_str()) == 1;
}

// A sentence for what the peer, or OpenSSL, had to say; "": nothing that would help.
std::string_view Explanation(unsigned long reason) {
  if (ERR_GET_LIB(reason) != ERR_LIB_SSL) return "";
  switch (ERR_GET_REASON(reason)) {
    case kAlertBase + SSL_AD_CERTIFICATE_REQUIRED:
      return "the server wants a client certificate, and none was shown";
    case kAlertBase + SSL_AD_BAD_CERTIFICATE:
    case kAlertBase + SSL_AD_UNSUPPORTED_CERTIFICATE:
    case kAlertBase + SSL_AD_CERTIFICATE_UNKNOWN:
    case kAlertBase + SSL_AD_UNKNOWN_CA:
    case kAlertBase + SSL_AD_ACCESS_DENIED:
    case kAlertBase + SSL_AD_DECRYPT_ERROR:
      return "the server refuses our client certificate";
    case kAlertBase + SSL_AD_CERTIFICATE_EXPIRED:
    case kAlertBase + SSL_AD_CERTIFICATE_REVOKED:
      return "the server refuses our client certificate as expired or revoked";
    case kAlertBase + SSL_AD_HANDSHAKE_FAILURE:
      return "the server refused the handshake; does it want a client certificate?";
    case kAlertBase + SSL_AD_UNRECOGNIZED_NAME:
      return "the server does not know the name that was asked for";
    case kAlertBase + SSL_AD_PROTOCOL_VERSION:
    case SSL_R_UNSUPPORTED_PROTOCOL:
      return "the server offers nothing as recent as TLS 1.2";
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_UNKNOWN_PROTOCOL:
      return "the port does not speak TLS";
    default:
      return "";
  }
}

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

absl::Status HandshakeError(const Endpoint& endpoint, std::string_view why) {
  return StoreUnavailableError(
      absl::StrCat("no TLS connection to Redis at ", endpoint.ToString(), ": ", View(why)));
}

// Tells a changed file from the one that was read.
struct FileStamp {
  dev_t device = 0;
  ino_t inode = 0;
  off_t size = 0;
  int64_t modified_ns = 0;
  int64_t changed_ns = 0;

  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;

FileStamp StampOf(const std::string& path) {
  struct stat status = {};
  if (path.empty() || stat(path.c_str(), &status) != 0) return {};
  return {status.st_dev, status.st_ino, status.st_size,
          status.st_mtim.tv_sec * kNanosecondsPerSecond + status.st_mtim.tv_nsec,
          status.st_ctim.tv_sec * kNanosecondsPerSecond + status.st_ctim.tv_nsec};
}

using FileStamps = std::array<FileStamp, 3>;

FileStamps StampsOf(const TlsOptions& options) {
  return {StampOf(options.ca_file), StampOf(options.certificate_file), StampOf(options.key_file)};
}

// Encrypted keys are refused: OpenSSL would ask the terminal for their password.
int NoPassword(char*, int, int, void*) { return -1; }

struct FreeContext {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using ContextPtr = std::unique_ptr<SSL_CTX, FreeContext>;

absl::StatusOr<ContextPtr> MakeContext(const TlsOptions& options) {
  if (options.certificate_file.empty() != options.key_file.empty()) {
    return absl::InvalidArgumentError(
        "a client certificate needs both its certificate_file and its key_file");
  }
  ERR_clear_error();
  ContextPtr context(SSL_CTX_new(TLS_client_method()));
  if (context == nullptr || SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION) != 1) {
    return absl::InvalidArgumentError("OpenSSL has no TLS 1.2");
  }
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  // A connection's buffers are given back while it idles; a retried write may come from a buffer
  // that has grown, and so moved, meanwhile.
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_default_passwd_cb(context.get(), &NoPassword);
  if (options.ca_file.empty()) {
    if (SSL_CTX_set_default_verify_paths(context.get()) != 1) {
      return absl::InvalidArgumentError("the system's CAs cannot be read");
    }
  } else if (SSL_CTX_load_verify_locations(context.get(), options.ca_file.c_str(), nullptr) != 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "ca_file '", options.ca_file, "' cannot be read, or holds no PEM certificate"));
  }
  if (options.certificate_file.empty()) return context;
  if (SSL_CTX_use_certificate_chain_file(context.get(), options.certificate_file.c_str()) != 1) {
    return absl::InvalidArgumentError(absl::StrCat("certificate_file '", options.certificate_file,
                                                   "' cannot be read, or holds no PEM certificate "
                                                   "that OpenSSL accepts"));
  }
  if (SSL_CTX_use_PrivateKey_file(context.get(), options.key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("key_file '", options.key_file,
                     "' cannot be read, holds no PEM private key without a password, or is not the "
                     "key of the certificate"));
  }
  return context;
}

}  // namespace

// ---- TlsSession ----

TlsSession::TlsSession(ssl_st* ssl) : ssl_(ssl) {}

TlsSession::~TlsSession() {
  SSL_free(ssl_);
  ERR_clear_error();
}

ssize_t TlsSession::Read(char* buffer, size_t size) {
  ERR_clear_error();
  const int most = static_cast<int>(std::min<size_t>(size, std::numeric_limits<int>::max()));
  const int read = SSL_read(ssl_, buffer, most);
  if (read <= 0) return Failed(read, true);
  has_read_ = true;
  read_wants_write_ = false;
  return read;
}

ssize_t TlsSession::Write(const char* bytes, size_t size) {
  if (size == 0) return 0;  // for OpenSSL an error
  ERR_clear_error();
  const int most = static_cast<int>(std::min<size_t>(size, std::numeric_limits<int>::max()));
  const int written = SSL_write(ssl_, bytes, most);
  if (written <= 0) return Failed(written, false);
  write_wants_read_ = false;
  return written;
}

ssize_t TlsSession::Failed(int result, bool reading) {
  const int error = SSL_get_error(ssl_, result);
  const bool wants = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
  if (reading) read_wants_write_ = error == SSL_ERROR_WANT_WRITE;
  if (!reading) write_wants_read_ = error == SSL_ERROR_WANT_READ;
  if (wants) return 0;
  const unsigned long reason = ERR_peek_error();
  if (error == SSL_ERROR_ZERO_RETURN ||
      (ERR_GET_LIB(reason) == ERR_LIB_SSL &&
       ERR_GET_REASON(reason) == SSL_R_UNEXPECTED_EOF_WHILE_READING)) {
    ended_ = true;
  } else if (reason_ == 0) {
    reason_ = reason;
  }
  ERR_clear_error();
  return -1;
}

bool TlsSession::Pending() const { return SSL_pending(ssl_) > 0; }

short TlsSession::ReadEvents() const { return read_wants_write_ ? POLLOUT : 0; }

short TlsSession::WriteEvents() const { return write_wants_read_ ? POLLIN : POLLOUT; }

bool TlsSession::IdleAndAlive() {
  char byte = 0;
  ERR_clear_error();
  const int peeked = SSL_peek(ssl_, &byte, 1);
  if (peeked > 0) return false;
  // Neither may a part of a record lie there: its rest would come as the answer to what is asked
  // next.
  return Failed(peeked, true) == 0 && !read_wants_write_ && SSL_has_pending(ssl_) == 0;
}

std::string TlsSession::WhyLost() {
  // A write fails when the server has closed the connection, and what it said before that still
  // waits to be read.
  char rest[256];
  if (reason_ == 0 && !ended_) (void)Read(rest, sizeof(rest));
  const std::string_view explanation = Explanation(reason_);
  if (!explanation.empty()) return std::string(explanation);
  if (ended_) return "the server closed the connection";
  // With TLS 1.3 a server refuses our certificate after the handshake, and a reset of the
  // connection can overtake what it says about that.
  return has_read_ ? "the connection was lost"
                   : "the connection was lost right after the handshake; does the server accept "
                     "our client certificate, or want one?";
}

// ---- TlsContext ----

struct TlsContext::Loaded {
  FileStamps stamps;
  ContextPtr context;
};

TlsContext::~TlsContext() = default;

absl::StatusOr<std::shared_ptr<const TlsContext>> TlsContext::Create(TlsOptions options) {
  auto loaded = std::make_shared<Loaded>();
  loaded->stamps = StampsOf(options);  // before they are read: a change in between is seen later
  TB_ASSIGN_OR_RETURN(loaded->context, MakeContext(options));
  std::shared_ptr<TlsContext> made(new TlsContext(std::move(options)));
  MutexLock lock(made->mutex_);
  made->loaded_ = std::move(loaded);
  return std::shared_ptr<const TlsContext>(made);
}

std::shared_ptr<const TlsContext::Loaded> TlsContext::Current() const {
  std::shared_ptr<const Loaded> current;
  {
    MutexLock lock(mutex_);
    current = loaded_;
  }
  const FileStamps stamps = StampsOf(options_);
  if (stamps == current->stamps) return current;
  absl::StatusOr<ContextPtr> context = MakeContext(options_);
  ERR_clear_error();
  // Halfway through a rotation the key may not yet fit the certificate.
  if (!context.ok()) return current;
  auto changed = std::make_shared<Loaded>();
  changed->stamps = stamps;
  changed->context = *std::move(context);
  MutexLock lock(mutex_);
  loaded_ = changed;
  return changed;
}

absl::StatusOr<std::unique_ptr<TlsSession>> TlsContext::Handshake(int fd, const Endpoint& endpoint,
                                                                  Deadline deadline) const {
  const std::shared_ptr<const Loaded> loaded = Current();
  std::string name = options_.server_name.empty() ? endpoint.host : options_.server_name;
  // "redis.example." is how resolvers are told that a name is complete; certificates have no dot.
  if (name.size() > 1 && name.back() == '.') name.pop_back();
  ERR_clear_error();
  SSL* const ssl = SSL_new(loaded->context.get());
  BIO* const bio = ssl == nullptr ? nullptr : MakeBio(fd);
  if (bio == nullptr) {
    SSL_free(ssl);
    return HandshakeError(endpoint, "out of memory");
  }
  SSL_set_bio(ssl, bio, bio);
  std::unique_ptr<TlsSession> session(new TlsSession(ssl));
  if (!ExpectName(ssl, name)) {
    return HandshakeError(endpoint, "the server name cannot be in a certificate");
  }
  while (true) {
    ERR_clear_error();
    const int result = SSL_connect(ssl);
    if (result == 1) return session;
    const int error = SSL_get_error(ssl, result);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) break;
    const short events = error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
    pollfd waiting = {.fd = fd, .events = events, .revents = 0};
    const int ready = poll(&waiting, 1, deadline.PollMilliseconds());
    if (ready < 0 && errno != EINTR) return HandshakeError(endpoint, "poll failed");
    // Also when there is something to read: a server that drips gets no longer than a silent one.
    if (ready == 0 || deadline.Passed()) {
      return HandshakeError(endpoint, "no answer in time; does the port speak TLS?");
    }
  }
  session->Failed(-1, true);
  const long verified = SSL_get_verify_result(ssl);
  if (verified == X509_V_ERR_HOSTNAME_MISMATCH || verified == X509_V_ERR_IP_ADDRESS_MISMATCH) {
    return HandshakeError(endpoint, absl::StrCat("the server's certificate is not for '", name,
                                                 "'; if it is the right server, set server_name"));
  }
  if (verified != X509_V_OK) {
    return HandshakeError(endpoint, absl::StrCat("the server's certificate is not trusted: ",
                                                 X509_verify_cert_error_string(verified)));
  }
  return HandshakeError(endpoint, session->WhyLost());
}

}  // namespace tokenbroker::redis
