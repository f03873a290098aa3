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

// hiredis's own TLS is not used: it does not verify names, knows no deadline for the handshake, and
// keeps what the server said about a certificate to itself.
ssize_t WriteTls(redisContext* context) {
  TlsSession& tls = *static_cast<TlsSession*>(context->privctx);
  const ssize_t written = tls.Write(context->obuf, sdslen(context->obuf));
  if (written < 0) context->err = REDIS_ERR_IO;
  return written;
}

ssize_t ReadTls(redisContext* context, char* buffer, size_t size) {
  TlsSession& tls = *static_cast<TlsSession*>(context->privctx);
  const ssize_t read = tls.Read(buffer, size);
  if (read < 0) context->err = REDIS_ERR_IO;
  return read;
}

const redisContextFuncs* PlainFunctions(const redisContext* context) {
  static const redisContextFuncs functions = [](redisContextFuncs copy) {
    copy.write = &WriteWithoutSignal;
    return copy;
  }(*context->funcs);
  return &functions;
}

const redisContextFuncs* TlsFunctions(const redisContext* context) {
  static const redisContextFuncs functions = [](redisContextFuncs copy) {
    copy.free_privctx = nullptr;  // the Connection owns the session
    copy.write = &WriteTls;
    copy.read = &ReadTls;
    return copy;
  }(*context->funcs);
  return &functions;
}

bool RefusesLogin(std::string_view error) {
  return error.starts_with("WRONGPASS") || error.starts_with("NOAUTH");
}

absl::StatusOr<Secret> PasswordOf(const Login& login) {
  absl::StatusOr<Secret> password = login.password();
  if (password.ok()) return password;
  return StoreUnavailableError(
      absl::StrCat("the password for Redis cannot be read: ", password.status().message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Connection>> Connection::Open(const Endpoint& endpoint,
                                                             const Login& login,
                                                             Deadline deadline) {
  TB_ASSIGN_OR_RETURN(FileDescriptor fd, ConnectTcp(endpoint, deadline));
  std::unique_ptr<TlsSession> tls;
  if (login.tls != nullptr) {
    TB_ASSIGN_OR_RETURN(tls, login.tls->Handshake(fd.get(), endpoint, deadline));
  }
  redisOptions options = {};
  options.type = REDIS_CONN_USERFD;
  options.endpoint.fd = fd.get();
  options.options = REDIS_OPT_NONBLOCK;
  redisContext* context = redisConnectWithOptions(&options);
  if (context == nullptr) return StoreUnavailableError("out of memory");
  fd.Release();
  context->funcs = tls == nullptr ? PlainFunctions(context) : TlsFunctions(context);
  context->privctx = tls.get();
  std::unique_ptr<Connection> connection(new Connection(context, std::move(tls)));
  TB_RETURN_IF_ERROR(connection->LogIn(login, deadline));
  return connection;
}

absl::Status Connection::LogIn(const Login& login, Deadline deadline) {
  if (login.password) {
    TB_ASSIGN_OR_RETURN(const Secret password, PasswordOf(login));
    TB_ASSIGN_OR_RETURN(bool taken, Authenticate(login, password, deadline));
    if (!taken) {
      // It may have been changed between our reading it and the server's: then there is another one
      // by now.
      TB_ASSIGN_OR_RETURN(const Secret current, PasswordOf(login));
      if (current != password) {
        TB_ASSIGN_OR_RETURN(taken, Authenticate(login, current, deadline));
      }
    }
    if (!taken) {
      Break();
      return ServerError("WRONGPASS", login.username).status;
    }
  }
  // Nothing to say means that a server which wants a password is noticed at the first command.
  if (login.database == 0) return absl::OkStatus();
  const std::string database = absl::StrCat(login.database);
  TB_ASSIGN_OR_RETURN(const Reply reply, Execute(Command{"SELECT", database}, deadline));
  if (!reply.view().is_error()) return absl::OkStatus();
  Break();
  return ServerError(reply.view().text(), login.username).status;
}

absl::StatusOr<bool> Connection::Authenticate(const Login& login, const Secret& password,
                                              Deadline deadline) {
  const Command command = login.username.empty()
                              ? Command{"AUTH", password.Reveal()}
                              : Command{"AUTH", login.username, password.Reveal()};
  TB_ASSIGN_OR_RETURN(const Reply reply, Execute(command, deadline));
  if (!reply.view().is_error()) return true;
  if (RefusesLogin(reply.view().text())) return false;
  Break();
  return ServerError(reply.view().text(), login.username).status;
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
  if (HasUnread()) return Fail("unexpected data");
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
    const short events = tls_ == nullptr ? POLLOUT : tls_->WriteEvents();
    pollfd waiting = {.fd = context_->fd, .events = events, .revents = 0};
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
  const bool silent = tls_ == nullptr ? poll(&state, 1, 0) == 0 : tls_->IdleAndAlive();
  if (silent) return true;
  Break();
  return false;
}

bool Connection::HasUnread() const {
  return context_->reader->pos < context_->reader->len || (tls_ != nullptr && tls_->Pending());
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
  const bool sending = sdslen(context_->obuf) > 0;
  pollfd waiting[2] = {{.fd = context_->fd, .events = POLLIN, .revents = 0},
                       {.fd = wake_fd, .events = POLLIN, .revents = 0}};
  if (tls_ != nullptr) waiting[0].events |= tls_->ReadEvents();
  if (sending) waiting[0].events |= tls_ == nullptr ? POLLOUT : tls_->WriteEvents();
  // What is decrypted already makes the socket readable no more: only look, do not wait.
  const bool pending = tls_ != nullptr && tls_->Pending();
  const int ready = poll(waiting, wake_fd >= 0 ? 2 : 1, pending ? 0 : deadline.PollMilliseconds());
  if (ready < 0) {
    if (errno == EINTR) return Wait::kReady;
    return Fail("poll failed");
  }
  // Also when there is something to read: a server that drips gets no longer than one that is
  // silent.
  if ((ready == 0 && !pending) || deadline.Passed()) return Wait::kDeadline;
  // TLS may have to read in order to write, and the other way round: any event serves both.
  const short events = waiting[0].revents;
  const bool writable = (events & (tls_ == nullptr ? POLLOUT : POLLOUT | POLLIN)) != 0;
  if (sending && writable) {
    int done = 0;
    if (redisBufferWrite(context_.get(), &done) != REDIS_OK) return FailWithContextError();
  }
  const bool readable =
      pending || (events & (POLLIN | POLLHUP | POLLERR)) != 0 || (tls_ != nullptr && events != 0);
  if (readable) {
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
      return Fail(tls_ == nullptr ? "the connection was lost" : tls_->WhyLost());
  }
}

}  // namespace tokenbroker::redis
