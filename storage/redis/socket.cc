#include "storage/redis/socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/errors.h"
#include "common/mutex.h"
#include "common/status_macros.h"

namespace tokenbroker::redis {
namespace {

struct Address {
  sockaddr_storage storage = {};
  socklen_t size = 0;
  int family = AF_UNSPEC;
};

struct Resolution {
  int error = 0;  // of getaddrinfo
  std::vector<Address> addresses;
};

// What the resolver's thread and its caller share; whoever lets go last frees it.
struct PendingResolution {
  Mutex mutex;
  CondVar done;
  std::optional<Resolution> result ABSL_GUARDED_BY(mutex);
};

absl::Status Unreachable(const Endpoint& endpoint, std::string_view why) {
  return StoreUnavailableError(absl::StrCat("cannot connect to Redis at ", endpoint.ToString(),
                                            ": ", absl::string_view(why.data(), why.size())));
}

std::string ErrnoText(int error) {
  char buffer[128] = {};
  return strerror_r(error, buffer, sizeof(buffer));
}

Resolution ResolveNow(const Endpoint& endpoint, int flags) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  Resolution resolution;
  resolution.error =
      getaddrinfo(endpoint.host.c_str(), absl::StrCat(endpoint.port).c_str(), &hints, &found);
  if (resolution.error != 0) return resolution;
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    Address address;
    std::memcpy(&address.storage, info->ai_addr, info->ai_addrlen);
    address.size = info->ai_addrlen;
    address.family = info->ai_family;
    resolution.addresses.push_back(address);
  }
  freeaddrinfo(found);
  return resolution;
}

absl::StatusOr<std::vector<Address>> Resolve(const Endpoint& endpoint, Deadline deadline) {
  Resolution resolution = ResolveNow(endpoint, AI_NUMERICHOST);
  if (resolution.error == EAI_NONAME) {
    auto pending = std::make_shared<PendingResolution>();
    try {
      std::thread([pending, endpoint] {
        Resolution result = ResolveNow(endpoint, 0);
        MutexLock lock(pending->mutex);
        pending->result = std::move(result);
        pending->done.NotifyOne();
      }).detach();
    } catch (const std::system_error&) {
      return Unreachable(endpoint, "no thread is left to resolve the name");
    }
    MutexLock lock(pending->mutex);
    while (!pending->result) {
      if (deadline.Passed()) return Unreachable(endpoint, "the name was not resolved in time");
      pending->done.WaitFor(pending->mutex, deadline.Left());
    }
    resolution = *std::move(pending->result);
  }
  if (resolution.error != 0) return Unreachable(endpoint, gai_strerror(resolution.error));
  if (resolution.addresses.empty()) return Unreachable(endpoint, "the name has no address");
  return std::move(resolution.addresses);
}

// 0, or an errno.
int ConnectOne(const Address& address, Deadline deadline, FileDescriptor& out) {
  FileDescriptor fd(
      socket(address.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (fd.get() < 0) return errno;
  const int on = 1;
  // A dead peer is noticed by deadlines; keepalive is for middleboxes that forget idle connections.
  const int keepalive_seconds = 15;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  setsockopt(fd.get(), IPPROTO_TCP, TCP_KEEPIDLE, &keepalive_seconds, sizeof(keepalive_seconds));
  setsockopt(fd.get(), IPPROTO_TCP, TCP_KEEPINTVL, &keepalive_seconds, sizeof(keepalive_seconds));
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.size) != 0) {
    if (errno != EINPROGRESS) return errno;
    pollfd waiting = {.fd = fd.get(), .events = POLLOUT, .revents = 0};
    int ready = 0;
    do {
      ready = poll(&waiting, 1, deadline.PollMilliseconds());
    } while (ready < 0 && errno == EINTR);
    if (ready < 0) return errno;
    if (ready == 0) return ETIMEDOUT;
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) return errno;
    if (error != 0) return error;
  }
  out = std::move(fd);
  return 0;
}

}  // namespace

std::string Endpoint::ToString() const {
  return host.find(':') == std::string::npos ? absl::StrCat(host, ":", port)
                                             : absl::StrCat("[", host, "]:", port);
}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) close(fd_);
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<FileDescriptor> ConnectTcp(const Endpoint& endpoint, Deadline deadline) {
  TB_ASSIGN_OR_RETURN(const std::vector<Address> addresses, Resolve(endpoint, deadline));
  int error = 0;
  for (const Address& address : addresses) {
    FileDescriptor fd;
    error = ConnectOne(address, deadline, fd);
    if (error == 0) return fd;
  }
  return Unreachable(endpoint, ErrnoText(error));
}

}  // namespace tokenbroker::redis
