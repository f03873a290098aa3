#include "storage/redis/client.h"

#include <algorithm>
#include <utility>

#include "common/errors.h"
#include "common/status_macros.h"
#include "storage/redis/redis_errors.h"

namespace tokenbroker::redis {

absl::StatusOr<std::vector<Reply>> Client::Run(absl::Span<const Command> commands) {
  for (int attempt = 1;; ++attempt) {
    bool retry = true;
    absl::StatusOr<std::vector<Reply>> replies = RunOnce(commands, attempt > 1, retry);
    if (replies.ok() || !retry || attempt >= options_.tries) return replies;
  }
}

absl::StatusOr<Reply> Client::RunScript(ScriptId script, std::string_view key,
                                        const ScriptArguments& arguments,
                                        absl::Span<const std::string_view> acknowledged) {
  Command command = {"EVALSHA", "", "1", key};
  command.insert(command.end(), arguments.words().begin(), arguments.words().end());
  for (int attempt = 1;; ++attempt) {
    bool retry = true;
    absl::StatusOr<Reply> reply = RunScriptOnce(script, command, acknowledged, attempt > 1, retry);
    if (reply.ok() || !retry || attempt >= options_.tries) return reply;
  }
}

absl::Status Client::CheckWritable(std::string_view key) {
  const Command command = {"SET", key, "1", "EX", "60"};
  for (int attempt = 1;; ++attempt) {
    bool retry = true;
    const absl::Status status = [&]() -> absl::Status {
      TB_ASSIGN_OR_RETURN(const ConnectionPool::Lease connection,
                          pool_.Take(Deadline::In(options_.command_timeout), attempt > 1));
      TB_ASSIGN_OR_RETURN(const Reply reply,
                          connection->Execute(command, Deadline::In(options_.command_timeout)));
      if (reply.view().is_error()) return ErrorFrom(reply.view(), *connection, retry);
      return WaitForReplicas(*connection, retry);
    }();
    if (status.ok() || !retry || attempt >= options_.tries) return status;
  }
}

absl::StatusOr<std::vector<Reply>> Client::RunOnce(absl::Span<const Command> commands, bool fresh,
                                                   bool& retry) {
  TB_ASSIGN_OR_RETURN(const ConnectionPool::Lease connection,
                      pool_.Take(Deadline::In(options_.command_timeout), fresh));
  TB_ASSIGN_OR_RETURN(std::vector<Reply> replies,
                      connection->Execute(commands, Deadline::In(options_.command_timeout)));
  for (const Reply& reply : replies) {
    if (reply.view().is_error()) return ErrorFrom(reply.view(), *connection, retry);
  }
  return replies;
}

absl::StatusOr<Reply> Client::RunScriptOnce(ScriptId script, const Command& command,
                                            absl::Span<const std::string_view> acknowledged,
                                            bool fresh, bool& retry) {
  TB_ASSIGN_OR_RETURN(const ConnectionPool::Lease connection,
                      pool_.Take(Deadline::In(options_.command_timeout), fresh));
  std::string digest = Digest(script);
  if (digest.empty()) {
    TB_ASSIGN_OR_RETURN(digest, LoadScript(script, *connection, retry));
  }
  Command by_digest = command;
  by_digest[1] = digest;
  TB_ASSIGN_OR_RETURN(Reply reply,
                      connection->Execute(by_digest, Deadline::In(options_.command_timeout)));
  if (reply.view().is_error() && IsNoScript(reply.view().text())) {
    TB_ASSIGN_OR_RETURN(digest, LoadScript(script, *connection, retry));
    by_digest[1] = digest;
    TB_ASSIGN_OR_RETURN(reply,
                        connection->Execute(by_digest, Deadline::In(options_.command_timeout)));
  }
  if (reply.view().is_error()) return ErrorFrom(reply.view(), *connection, retry);
  if (reply.view().size() == 0) {
    retry = false;
    return InternalError("a Redis script gave no outcome");
  }
  const std::string_view outcome = reply.view()[0].text();
  if (std::find(acknowledged.begin(), acknowledged.end(), outcome) != acknowledged.end()) {
    TB_RETURN_IF_ERROR(WaitForReplicas(*connection, retry));
  }
  return reply;
}

absl::Status Client::WaitForReplicas(Connection& connection, bool& retry) {
  if (options_.replica_acks <= 0) return absl::OkStatus();
  const std::string acks = absl::StrCat(options_.replica_acks);
  // Not 0, which would mean forever.
  const std::string timeout =
      absl::StrCat(std::max<int64_t>(1, absl::ToInt64Milliseconds(options_.replica_ack_timeout)));
  // WAIT looks at the replication offset that this connection's last command left, so also the
  // repetition of a write on a new connection waits for the first one.
  TB_ASSIGN_OR_RETURN(
      const Reply reply,
      connection.Execute(Command{"WAIT", acks, timeout},
                         Deadline::In(options_.replica_ack_timeout + options_.command_timeout)));
  if (reply.view().is_error()) return ErrorFrom(reply.view(), connection, retry);
  if (reply.view().integer().value_or(0) >= options_.replica_acks) return absl::OkStatus();
  // The caller knows how long it can go on waiting.
  retry = false;
  return StoreNotAcknowledgedError();
}

absl::Status Client::ErrorFrom(ReplyView reply, Connection& connection, bool& retry) const {
  ServerErrorVerdict verdict = ServerError(reply.text(), options_.pool.login.username);
  if (verdict.close) connection.Break();
  retry = verdict.retry;
  return std::move(verdict.status);
}

absl::StatusOr<std::string> Client::LoadScript(ScriptId script, Connection& connection,
                                               bool& retry) {
  TB_ASSIGN_OR_RETURN(const Reply reply,
                      connection.Execute(Command{"SCRIPT", "LOAD", options_.scripts.source(script)},
                                         Deadline::In(options_.command_timeout)));
  if (reply.view().is_error()) return ErrorFrom(reply.view(), connection, retry);
  std::string digest(reply.view().text());
  MutexLock lock(mutex_);
  digests_[static_cast<size_t>(script)] = digest;
  return digest;
}

std::string Client::Digest(ScriptId script) {
  MutexLock lock(mutex_);
  return digests_[static_cast<size_t>(script)];
}

}  // namespace tokenbroker::redis
