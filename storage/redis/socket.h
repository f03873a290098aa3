#ifndef TOKEN_BROKER_STORAGE_REDIS_SOCKET_H_
#define TOKEN_BROKER_STORAGE_REDIS_SOCKET_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "storage/redis/deadline.h"

namespace tokenbroker::redis {

// Where a Redis server listens.
struct Endpoint {
  std::string host;  // name or numeric address
  uint16_t port = 6379;

  friend bool operator==(const Endpoint&, const Endpoint&) = default;

  std::string ToString() const;  // "redis.example:6379", "[::1]:6379"
};

// Owns a file descriptor.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();

  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// A connected, non-blocking TCP socket with TCP_NODELAY and keepalive. Tries each address of the
// host in turn. The system's resolver knows no deadline: it runs on a thread of its own, which is
// left behind when the deadline comes first and ends with the resolver's own timeout.
// UNAVAILABLE STORE_UNAVAILABLE, naming the endpoint and the reason.
absl::StatusOr<FileDescriptor> ConnectTcp(const Endpoint& endpoint, Deadline deadline);

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_SOCKET_H_
