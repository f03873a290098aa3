#include "storage/redis/connection.h"

#include <hiredis/sds.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "common/status_macros.h"
#include "storage/redis/redis_errors.h"

namespace tokenbroker::redis {
namespace {

absl::string_view View(std::string_view s) { return {s.data(), s.size()}; }

// hiredis's own write raises SIGPIPE when the server is gone.
ssize_t WriteWithoutSignal(redisContext* context) {
  const ssize_t written =
      send(context->fd, context->obuf, sdslen(context->obuf), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (written >= 0) return written;
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return 0;
  context->err = REDIS_ERR_IO;
  return -1;
}

const redisContextFuncs* Functions(const redisContext* context) {
  static const redisContextFuncs functions = [](redisContextFuncs copy) {
    copy.write = &WriteWithoutSignal;
    return copy;
  }(*context->funcs);
  return &functions;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Connection>> Connection::Open(const Endpoint& endpoint,
                                                             const Login& login,
                                                             Deadline deadline) {
  TB_ASSIGN_OR_RETURN(FileDescriptor fd, ConnectTcp(endpoint, deadline));
  redisOptions options = {};
  options.type = REDIS_CONN_USERFD;
  options.endpoint.fd = fd.get();
  options.options = REDIS_OPT_NONBLOCK;
  redisContext* context = redisConnectWithOptions(&options);
  if (context == nullptr) return StoreUnavailableError("out of memory");
  fd.Release();
  context->funcs = Functions(context);
  std::unique_ptr<Connection> connection(new Connection(context));
  TB_RETURN_IF_ERROR(connection->Handshake(login, deadline));
  return connection;
}

absl::Status Connection::Handshake(const Login& login, Deadline deadline) {
  Secret password;
  std::vector<Command> commands;
  if (login.password) {
    absl::StatusOr<Secret> current = login.password();
    if (!current.ok()) {
      return StoreUnavailableError(
          absl::StrCat("the password for Redis cannot be read: ", current.status().message()));
    }
    password = *std::move(current);
    if (login.username.empty()) {
      commands.push_back({"AUTH", password.Reveal()});
    } else {
      commands.push_back({"AUTH", login.username, password.Reveal()});
    }
  }
  const std::string database = absl::StrCat(login.database);
  if (login.database != 0) commands.push_back({"SELECT", database});
  // Nothing more to say means that a server which wants a password is noticed at the first command.
  if (commands.empty()) return absl::OkStatus();
  TB_ASSIGN_OR_RETURN(const std::vector<Reply> replies, Execute(commands, deadline));
  for (const Reply& reply : replies) {
    if (!reply.view().is_error()) continue;
    Break();
    return ServerError(reply.view().text(), login.username).status;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Reply>> Connection::Execute(absl::Span<const Command> commands,
                                                       Deadline deadline) {
  for (const Command& command : commands) TB_RETURN_IF_ERROR(Append(command));
  std::vector<Reply> replies;
  replies.reserve(commands.size());
  bool flushed = false;
  while (replies.size() < commands.size()) {
    void* reply = nullptr;
    if (redisGetReplyFromReader(context_.get(), &reply) != REDIS_OK) return FailWithContextError();
    if (reply != nullptr) {
      replies.emplace_back(reply);
      continue;
    }
    if (!flushed) {
      // The socket's buffer nearly always has room: try before asking.
      int done = 0;
      if (redisBufferWrite(context_.get(), &done) != REDIS_OK) return FailWithContextError();
      flushed = true;
    }
    TB_ASSIGN_OR_RETURN(const Wait wait, Transfer(deadline, -1));
    if (wait == Wait::kDeadline) return Fail("no answer in time");
  }
  // More bytes than replies: an answer that nobody asked for.
  if (context_->reader->pos < context_->reader->len) return Fail("unexpected data");
  return replies;
}

absl::StatusOr<Reply> Connection::Execute(const Command& command, Deadline deadline) {
  TB_ASSIGN_OR_RETURN(std::vector<Reply> replies,
                      Execute(absl::MakeConstSpan(&command, 1), deadline));
  return std::move(replies.front());
}

absl::Status Connection::Send(const Command& command, Deadline deadline) {
  TB_RETURN_IF_ERROR(Append(command));
  int done = 0;
  if (redisBufferWrite(context_.get(), &done) != REDIS_OK) return FailWithContextError();
  while (done == 0) {
    pollfd waiting = {.fd = context_->fd, .events = POLLOUT, .revents = 0};
    const int ready = poll(&waiting, 1, deadline.PollMilliseconds());
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return Fail("could not send in time");
    if (redisBufferWrite(context_.get(), &done) != REDIS_OK) return FailWithContextError();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Reply>> Connection::Receive(Deadline deadline, int wake_fd) {
  if (broken()) return StoreUnavailableError("the connection is closed");
  while (true) {
    void* reply = nullptr;
    if (redisGetReplyFromReader(context_.get(), &reply) != REDIS_OK) return FailWithContextError();
    if (reply != nullptr) return std::optional<Reply>(Reply(reply));
    TB_ASSIGN_OR_RETURN(const Wait wait, Transfer(deadline, wake_fd));
    if (wait != Wait::kReady) return std::optional<Reply>();
  }
}

bool Connection::IdleAndAlive() {
  if (broken()) return false;
  pollfd state = {.fd = context_->fd, .events = POLLIN, .revents = 0};
  if (poll(&state, 1, 0) == 0) return true;
  Break();
  return false;
}

absl::Status Connection::Append(const Command& command) {
  if (broken()) return StoreUnavailableError("the connection is closed");
  std::vector<const char*> words;
  std::vector<size_t> sizes;
  words.reserve(command.size());
  sizes.reserve(command.size());
  for (std::string_view word : command) {
    words.push_back(word.data());
    sizes.push_back(word.size());
  }
  if (redisAppendCommandArgv(context_.get(), static_cast<int>(words.size()), words.data(),
                             sizes.data()) != REDIS_OK) {
    return FailWithContextError();
  }
  return absl::OkStatus();
}

absl::StatusOr<Connection::Wait> Connection::Transfer(Deadline deadline, int wake_fd) {
  pollfd waiting[2] = {{.fd = context_->fd, .events = POLLIN, .revents = 0},
                       {.fd = wake_fd, .events = POLLIN, .revents = 0}};
  const bool sending = sdslen(context_->obuf) > 0;
  if (sending) waiting[0].events |= POLLOUT;
  const int ready = poll(waiting, wake_fd >= 0 ? 2 : 1, deadline.PollMilliseconds());
  if (ready < 0) {
    if (errno == EINTR) return Wait::kReady;
    return Fail("poll failed");
  }
  // Also when there is something to read: a server that drips gets no longer than one that is
  // silent.
  if (ready == 0 || deadline.Passed()) return Wait::kDeadline;
  if (waiting[0].revents & POLLOUT) {
    int done = 0;
    if (redisBufferWrite(context_.get(), &done) != REDIS_OK) return FailWithContextError();
  }
  if (waiting[0].revents & (POLLIN | POLLHUP | POLLERR)) {
    if (redisBufferRead(context_.get()) != REDIS_OK) return FailWithContextError();
    return Wait::kReady;
  }
  return (waiting[1].revents & POLLIN) ? Wait::kWoken : Wait::kReady;
}

absl::Status Connection::Fail(std::string_view why) {
  Break();
  return StoreUnavailableError(absl::StrCat("Redis: ", View(why)));
}

absl::Status Connection::FailWithContextError() {
  // Not hiredis's text for protocol errors: it quotes the bytes that it could not read.
  switch (context_->err) {
    case REDIS_ERR_EOF:
      return Fail("the server closed the connection");
    case REDIS_ERR_PROTOCOL:
      return Fail("the server does not speak Redis's protocol");
    case REDIS_ERR_OOM:
      return Fail("out of memory");
    default:
      return Fail("the connection was lost");
  }
}

}  // namespace tokenbroker::redis
