#ifndef TOKEN_BROKER_STORAGE_REDIS_CONNECTION_H_
#define TOKEN_BROKER_STORAGE_REDIS_CONNECTION_H_

#include <hiredis/hiredis.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/secret.h"
#include "storage/redis/deadline.h"
#include "storage/redis/reply.h"
#include "storage/redis/socket.h"
#include "storage/redis/tls.h"

namespace tokenbroker::redis {

// The words of one command; they are copied when it is sent.
using Command = std::vector<std::string_view>;

// Who we are to the server.
struct Login {
  std::string username;  // "": the server's default user
  // Asked at every connect, and once more when the server refuses what it gave, so that a password
  // that was changed is picked up. Null: none is sent.
  std::function<absl::StatusOr<Secret>()> password;
  int database = 0;
  std::shared_ptr<const TlsContext> tls = nullptr;  // null: plaintext
};

// One connection to one Redis server: a non-blocking socket with an absolute deadline on every
// operation. Not thread-safe.
//
// After a timeout, an I/O error or a protocol error the connection is closed for good: the reply
// that is still under way would be taken for the answer to the next command, and that answer is
// somebody else's token. Errors of this kind are UNAVAILABLE STORE_UNAVAILABLE; errors that the
// server sends are replies.
class Connection {
 public:
  // Connects, encrypts, authenticates and selects the database.
  static absl::StatusOr<std::unique_ptr<Connection>> Open(const Endpoint& endpoint,
                                                          const Login& login, Deadline deadline);

  // Sends `commands` in one go and waits for one reply to each, in order.
  absl::StatusOr<std::vector<Reply>> Execute(absl::Span<const Command> commands, Deadline deadline);
  absl::StatusOr<Reply> Execute(const Command& command, Deadline deadline);

  // The two halves of Execute, for subscriptions. `Receive` returns nullopt, and the connection
  // stays usable, when nothing came until `deadline` or `wake_fd` became readable (-1: none).
  absl::Status Send(const Command& command, Deadline deadline);
  absl::StatusOr<std::optional<Reply>> Receive(Deadline deadline, int wake_fd);

  // False after any error. Also false, and closed from then on, when an idle connection has
  // something to read: the server's farewell, or a reply that nobody asked for.
  bool IdleAndAlive();
  bool broken() const { return context_ == nullptr; }
  // Closes it.
  void Break() { context_.reset(); }

 private:
  struct Free {
    void operator()(redisContext* context) const { redisFree(context); }
  };
  enum class Wait { kReady, kDeadline, kWoken };

  Connection(redisContext* context, std::unique_ptr<TlsSession> tls)
      : tls_(std::move(tls)), context_(context) {}
  absl::Status LogIn(const Login& login, Deadline deadline);
  // Whether the server took the password; other errors are the result.
  absl::StatusOr<bool> Authenticate(const Login& login, const Secret& password, Deadline deadline);
  // Bytes that came and belong to no reply yet.
  bool HasUnread() const;
  absl::Status Append(const Command& command);
  absl::Status Flush(Deadline deadline);
  // Reads and writes what is possible, waiting for the socket if nothing is.
  absl::StatusOr<Wait> Transfer(Deadline deadline, int wake_fd);
  // Closes the connection and says why.
  absl::Status Fail(std::string_view why);
  absl::Status FailWithContextError();

  const std::unique_ptr<TlsSession> tls_;  // null: plaintext. Before context_, which uses it
  std::unique_ptr<redisContext, Free> context_;
};

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_CONNECTION_H_
