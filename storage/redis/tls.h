#ifndef TOKEN_BROKER_STORAGE_REDIS_TLS_H_
#define TOKEN_BROKER_STORAGE_REDIS_TLS_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/mutex.h"
#include "storage/redis/deadline.h"
#include "storage/redis/socket.h"

// OpenSSL's own names, so that its headers stay out of this one.
struct ssl_st;
struct ssl_ctx_st;

namespace tokenbroker::redis {

// How connections to Redis are encrypted. Every *_file is PEM.
struct TlsOptions {
  std::string ca_file;  // trusted CAs; "": the system's
  // Shown to a server that asks for one: both or neither. The chain, leaf first.
  std::string certificate_file;
  std::string key_file;
  // What the server's certificate must be for; "": the host that is connected to. A name is also
  // sent as SNI; a numeric address is looked for among the certificate's IP addresses.
  std::string server_name;
};

// TLS on one connected, non-blocking socket, which it does not own. Not thread-safe.
class TlsSession {
 public:
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // Bytes read or written, never waiting. 0: nothing was possible now. -1: the connection is of no
  // more use, and WhyLost says why.
  ssize_t Read(char* buffer, size_t size);
  ssize_t Write(const char* bytes, size_t size);
  // Bytes that poll(2) no longer sees on the socket, because they are decrypted already.
  bool Pending() const;
  // What to wait for before the next Read can do more, besides POLLIN: POLLOUT or 0.
  short ReadEvents() const;
  // What to wait for before the next Write can do more: POLLOUT, or POLLIN.
  short WriteEvents() const;
  // False when an idle connection has data or has ended. Takes in what TLS itself has to say, such
  // as the session tickets that a TLS 1.3 server sends after the handshake.
  bool IdleAndAlive();
  // After a -1. Names what the server said about our certificate, where it said so.
  std::string WhyLost();

 private:
  friend class TlsContext;
  explicit TlsSession(ssl_st* ssl);
  ssize_t Failed(int result, bool reading);

  ssl_st* const ssl_;
  bool read_wants_write_ = false;
  bool write_wants_read_ = false;
  bool has_read_ = false;     // what the server said, after the handshake
  bool ended_ = false;        // the server said goodbye
  unsigned long reason_ = 0;  // OpenSSL's, of the first failure
};

// TLS 1.2 or later towards any number of servers, whose certificates are always verified: chain,
// dates and name. Files that have changed are read again at the next handshake; if what they hold
// then does not fit together (yet), the last good ones stay in use. Thread-safe.
class TlsContext {
 public:
  // INVALID_ARGUMENT naming what is wrong with which file; never what is in it.
  static absl::StatusOr<std::shared_ptr<const TlsContext>> Create(TlsOptions options);
  ~TlsContext();

  // `fd` is a connected, non-blocking socket to `endpoint`, and has to outlive the session.
  // UNAVAILABLE STORE_UNAVAILABLE, saying which: no TLS at the other end, no answer in time, a
  // certificate that is not trusted, one that is for another name, or a refused client certificate
  // (with TLS 1.3 servers say the last one only after the handshake: see TlsSession::WhyLost).
  absl::StatusOr<std::unique_ptr<TlsSession>> Handshake(int fd, const Endpoint& endpoint,
                                                        Deadline deadline) const;

 private:
  struct Loaded;  // the files as they were, and what was made of them

  explicit TlsContext(TlsOptions options) : options_(std::move(options)) {}
  std::shared_ptr<const Loaded> Current() const ABSL_LOCKS_EXCLUDED(mutex_);

  const TlsOptions options_;
  mutable Mutex mutex_;  // never held while files are read
  mutable std::shared_ptr<const Loaded> loaded_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_TLS_H_
