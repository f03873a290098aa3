#include "storage/redis/client.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/errors.h"
#include "common/status_macros.h"
#include "storage/redis/record_codec.h"
#include "storage/redis/redis_errors.h"

namespace tokenbroker::redis {
namespace {

// A slot that moves sends a command to and fro at most so often; each of them is a quick answer, so
// they do not count as tries.
constexpr int kMaxRedirections = 5;

const Command kAsking = {"ASKING"};

absl::Status RedirectedError() {
  return StoreUnavailableError("the Redis cluster is moving the key's slot");
}

}  // namespace

template <typename Result, typename Once>
Result Client::Repeat(std::string_view key, Once once) {
  Try attempt;
  int redirections = 0;
  for (int count = 1;;) {
    if (attempt.pool == nullptr) {
      absl::StatusOr<std::shared_ptr<ConnectionPool>> pool = topology_->Route(key);
      if (!pool.ok()) return pool.status();
      attempt.pool = *std::move(pool);
    }
    Result result = once(attempt);
    if (result.ok()) return result;
    if (attempt.next != nullptr) {
      if (++redirections > kMaxRedirections) return result;
      Try next;
      next.pool = std::move(attempt.next);
      next.asking = attempt.next_asking;
      next.fresh = attempt.fresh;
      attempt = std::move(next);
      continue;
    }
    if (attempt.doubt) topology_->Doubt(*attempt.pool);
    if (!attempt.retry || ++count > options_.tries) return result;
    attempt = Try{.fresh = true};
  }
}

absl::StatusOr<std::vector<Reply>> Client::Run(std::string_view key,
                                               absl::Span<const Command> commands,
                                               absl::Duration* held_back) {
  return Repeat<absl::StatusOr<std::vector<Reply>>>(
      key, [&](Try& attempt) { return RunOnce(commands, attempt, held_back); });
}

absl::StatusOr<Reply> Client::RunScript(ScriptId script, std::string_view key,
                                        const ScriptArguments& arguments, const ScriptRules& rules,
                                        absl::Duration* held_back) {
  Command command = {"EVALSHA", "", "1", key};
  command.insert(command.end(), arguments.words().begin(), arguments.words().end());
  return Repeat<absl::StatusOr<Reply>>(
      key, [&](Try& attempt) { return RunScriptOnce(script, command, rules, attempt, held_back); });
}

absl::Status Client::CheckWritable(std::string_view key_prefix) {
  TB_ASSIGN_OR_RETURN(const std::vector<std::string> tags, topology_->ShardTags());
  size_t writable = 0;
  absl::Status failure = StoreUnavailableError("no Redis shard is known");
  for (const std::string& tag : tags) {
    const std::string key = ShardKey(key_prefix, "writable", tag);
    const Command command = {"SET", key, "1", "EX", "60"};
    absl::Status status = Repeat<absl::Status>(key, [&](Try& attempt) -> absl::Status {
      TB_ASSIGN_OR_RETURN(const ConnectionPool::Lease connection, Connect(attempt));
      TB_RETURN_IF_ERROR(CompareClocks(connection));
      TB_ASSIGN_OR_RETURN(const Reply reply, Call(command, attempt, *connection));
      if (reply.view().is_error()) return ErrorFrom(reply.view(), *connection, attempt);
      return WaitForReplicas(*connection, attempt);
    });
    if (status.ok()) {
      ++writable;
    } else {
      failure = std::move(status);
    }
  }
  if (2 * writable > tags.size()) return absl::OkStatus();
  return failure;
}

absl::StatusOr<ConnectionPool::Lease> Client::Connect(const Try& attempt) {
  return attempt.pool->Take(Deadline::In(options_.command_timeout), attempt.fresh);
}

absl::StatusOr<std::vector<Reply>> Client::RunOnce(absl::Span<const Command> commands, Try& attempt,
                                                   absl::Duration* held_back) {
  TB_ASSIGN_OR_RETURN(const ConnectionPool::Lease connection, Connect(attempt));
  std::vector<Command> asking;
  if (attempt.asking) {
    for (const Command& command : commands) {
      asking.push_back(kAsking);
      asking.push_back(command);
    }
  }
  TB_ASSIGN_OR_RETURN(std::vector<Reply> replies,
                      connection->Execute(attempt.asking ? absl::MakeConstSpan(asking) : commands,
                                          Deadline::In(options_.command_timeout)));
  for (const Reply& reply : replies) {
    if (reply.view().is_error()) return ErrorFrom(reply.view(), *connection, attempt);
  }
  if (held_back != nullptr) *held_back = connection.reign().HeldBack();
  if (!attempt.asking) return replies;
  std::vector<Reply> answers;
  for (size_t i = 1; i < replies.size(); i += 2) answers.push_back(std::move(replies[i]));
  return answers;
}

absl::StatusOr<std::vector<Client::TimedReply>> Client::RunEach(
    absl::Span<const KeyedCommand> commands) {
  std::vector<std::optional<TimedReply>> replies(commands.size());
  std::vector<size_t> pending(commands.size());
  for (size_t i = 0; i < pending.size(); ++i) pending[i] = i;
  // A round is a try of all that is left. A redirection needs another one.
  const int rounds = options_.tries + kMaxRedirections;
  int failures = 0;
  for (int round = 1; !pending.empty(); ++round) {
    std::map<std::shared_ptr<ConnectionPool>, std::vector<size_t>> groups;
    for (size_t i : pending) {
      TB_ASSIGN_OR_RETURN(const std::shared_ptr<ConnectionPool> pool,
                          topology_->Route(commands[i].key));
      groups[pool].push_back(i);
    }
    pending.clear();
    std::vector<size_t> asked;
    absl::Status failure;
    for (const auto& [pool, group] : groups) {
      bool retry = true;
      const absl::Status status =
          RunGroup(pool, failures > 0, commands, group, replies, pending, asked, retry);
      if (status.ok()) continue;
      if (!retry) return status;
      failure = status;
      pending.insert(pending.end(), group.begin(), group.end());
    }
    // One by one: the node that has the slot so far has to be asked again for each.
    for (size_t i : asked) {
      const Command both[] = {commands[i].command, {"TIME"}};
      absl::StatusOr<std::vector<Reply>> answer = Run(commands[i].key, both);
      if (absl::IsDataLoss(answer.status())) {
        replies[i] = TimedReply{std::nullopt, absl::InfinitePast()};
        continue;
      }
      if (!answer.ok()) return answer.status();
      TB_ASSIGN_OR_RETURN(const absl::Time time, DecodeServerTime((*answer)[1].view()));
      replies[i] = TimedReply{std::move((*answer)[0]), time};
    }
    if (!failure.ok() && ++failures >= options_.tries) return failure;
    if (!pending.empty() && round >= rounds) return RedirectedError();
  }
  std::vector<TimedReply> all;
  all.reserve(replies.size());
  for (std::optional<TimedReply>& reply : replies) all.push_back(*std::move(reply));
  return all;
}

absl::Status Client::RunGroup(const std::shared_ptr<ConnectionPool>& pool, bool fresh,
                              absl::Span<const KeyedCommand> commands,
                              const std::vector<size_t>& group,
                              std::vector<std::optional<TimedReply>>& replies,
                              std::vector<size_t>& pending, std::vector<size_t>& asked,
                              bool& retry) {
  std::vector<Command> batch;
  batch.reserve(group.size() + 1);
  for (size_t i : group) batch.push_back(commands[i].command);
  batch.push_back({"TIME"});
  Try attempt{.pool = pool, .fresh = fresh};
  const absl::Status status = [&]() -> absl::Status {
    TB_ASSIGN_OR_RETURN(const ConnectionPool::Lease connection, Connect(attempt));
    TB_ASSIGN_OR_RETURN(std::vector<Reply> answers,
                        connection->Execute(batch, Deadline::In(options_.command_timeout)));
    for (const Reply& answer : answers) {
      if (answer.view().is_error() && !IsRedirection(answer.view().text()) &&
          !IsWrongType(answer.view().text())) {
        return ErrorFrom(answer.view(), *connection, attempt);
      }
    }
    attempt.doubt = false;
    TB_ASSIGN_OR_RETURN(const absl::Time time, DecodeServerTime(answers.back().view()));
    for (size_t i = 0; i < group.size(); ++i) {
      if (answers[i].view().is_error() && IsWrongType(answers[i].view().text())) {
        replies[group[i]] = TimedReply{std::nullopt, time};
      } else if (answers[i].view().is_error()) {
        const absl::Status redirected = ErrorFrom(answers[i].view(), *connection, attempt);
        if (attempt.next == nullptr && !attempt.retry) return redirected;
        (attempt.next_asking ? asked : pending).push_back(group[i]);
        attempt.next = nullptr;
        attempt.next_asking = false;
      } else {
        replies[group[i]] = TimedReply{std::move(answers[i]), time};
      }
    }
    return absl::OkStatus();
  }();
  retry = attempt.retry;
  if (!status.ok() && attempt.doubt) topology_->Doubt(*pool);
  return status;
}

absl::StatusOr<Reply> Client::RunScriptOnce(ScriptId script, const Command& command,
                                            const ScriptRules& rules, Try& attempt,
                                            absl::Duration* held_back) {
  TB_ASSIGN_OR_RETURN(const ConnectionPool::Lease connection, Connect(attempt));
  std::string digest = Digest(script);
  if (digest.empty()) {
    TB_ASSIGN_OR_RETURN(digest, LoadScript(script, *connection, attempt));
  }
  Command call = command;
  call[1] = digest;
  const Reign& reign = connection.reign();
  std::string rest, earliest, latest;
  const MonotonicTime begin = MonotonicNow();
  if (rules.fenced) {
    rest = absl::StrCat(
        absl::ToInt64Milliseconds(absl::Ceil(reign.HeldBack(), absl::Milliseconds(1))));
    // Twice: the script may have to be loaded.
    const ServerClock::Range range = reign.clock->Expect(begin, 2 * options_.command_timeout);
    earliest = absl::StrCat(absl::ToUnixMillis(range.earliest));
    latest = absl::StrCat(absl::ToUnixMillis(range.latest));
    for (const std::string_view word : {std::string_view(reign.inherited), std::string_view(rest),
                                        std::string_view(earliest), std::string_view(latest)}) {
      call.push_back(word);
    }
  }
  TB_ASSIGN_OR_RETURN(Reply reply, Call(call, attempt, *connection));
  if (reply.view().is_error() && IsNoScript(reply.view().text())) {
    TB_ASSIGN_OR_RETURN(reply, LoadAndCall(script, call, attempt, *connection));
  }
  const MonotonicTime end = MonotonicNow();
  if (reply.view().is_error()) return ErrorFrom(reply.view(), *connection, attempt);
  if (reply.view().size() == 0) {
    attempt.retry = attempt.doubt = false;
    return InternalError("a Redis script gave no outcome");
  }
  const std::string_view outcome = reply.view()[0].text();
  if (outcome == "DEPOSED") {
    connection->Break();
    attempt.pool->Forget();
    return StoreUnavailableError("this Redis was replaced as the primary and is it again");
  }
  if (rules.fenced) {
    if (const std::optional<int64_t> time =
            reply.view().size() > 1 ? reply.view()[1].integer() : std::nullopt) {
      reign.clock->Observe(absl::FromUnixMillis(*time) - rules.clock_offset, begin, end);
    }
    const absl::Duration rest_now = reign.HeldBack();
    if (held_back != nullptr) *held_back = rest_now;
    if (outcome == "JUMPED" && rest_now == absl::ZeroDuration()) {
      return StoreUnavailableError("Redis took a call up too late");
    }
  }
  if (std::find(rules.acknowledged.begin(), rules.acknowledged.end(), outcome) !=
      rules.acknowledged.end()) {
    TB_RETURN_IF_ERROR(WaitForReplicas(*connection, attempt));
  }
  return reply;
}

absl::Status Client::CompareClocks(const ConnectionPool::Lease& connection) {
  const MonotonicTime begin = MonotonicNow();
  TB_ASSIGN_OR_RETURN(const Reply reply,
                      connection->Execute(Command{"TIME"}, Deadline::In(options_.command_timeout)));
  const MonotonicTime end = MonotonicNow();
  // A server that refuses to tell it refuses the rest, too.
  if (reply.view().is_error()) return absl::OkStatus();
  TB_ASSIGN_OR_RETURN(const absl::Time time, DecodeServerTime(reply.view()));
  connection.reign().clock->Observe(time, begin, end);
  return absl::OkStatus();
}

absl::StatusOr<Reply> Client::Call(const Command& command, const Try& attempt,
                                   Connection& connection) {
  const Deadline deadline = Deadline::In(options_.command_timeout);
  if (!attempt.asking) return connection.Execute(command, deadline);
  const Command both[] = {kAsking, command};
  TB_ASSIGN_OR_RETURN(std::vector<Reply> replies, connection.Execute(both, deadline));
  if (replies[0].view().is_error()) return std::move(replies[0]);
  return std::move(replies[1]);
}

absl::StatusOr<Reply> Client::LoadAndCall(ScriptId script, const Command& command, Try& attempt,
                                          Connection& connection) {
  std::vector<Command> commands = {{"SCRIPT", "LOAD", options_.scripts.source(script)}};
  if (attempt.asking) commands.push_back(kAsking);
  commands.push_back(command);
  TB_ASSIGN_OR_RETURN(std::vector<Reply> replies,
                      connection.Execute(commands, Deadline::In(options_.command_timeout)));
  for (const Reply& reply : replies) {
    if (reply.view().is_error()) return ErrorFrom(reply.view(), connection, attempt);
  }
  return std::move(replies.back());
}

absl::Status Client::WaitForReplicas(Connection& connection, Try& attempt) {
  if (options_.replica_acks <= 0) return absl::OkStatus();
  const std::string acks = absl::StrCat(options_.replica_acks);
  // Not 0, which would mean forever.
  const std::string timeout =
      absl::StrCat(std::max<int64_t>(1, absl::ToInt64Milliseconds(options_.replica_ack_timeout)));
  // WAIT looks at the replication offset that this connection's last write left (up to Redis 7.0:
  // its last command), so scripts write something also where they only repeat an answer. It is
  // always the connection that this was made on: no other primary's replicas count.
  TB_ASSIGN_OR_RETURN(
      const Reply reply,
      connection.Execute(Command{"WAIT", acks, timeout},
                         Deadline::In(options_.replica_ack_timeout + options_.command_timeout)));
  if (reply.view().is_error()) return ErrorFrom(reply.view(), connection, attempt);
  if (reply.view().integer().value_or(0) >= options_.replica_acks) return absl::OkStatus();
  // The caller knows how long it can go on waiting. A primary that was cut off from its replicas
  // may have been replaced: `doubt` stays.
  attempt.retry = false;
  return StoreNotAcknowledgedError();
}

absl::Status Client::ErrorFrom(ReplyView reply, Connection& connection, Try& attempt) const {
  attempt.next = topology_->Follow(*attempt.pool, reply.text());
  if (attempt.next != nullptr) {
    attempt.next_asking = reply.text().starts_with("ASK ");
    attempt.doubt = false;
    return RedirectedError();
  }
  ServerErrorVerdict verdict = ServerError(reply.text(), options_.username);
  if (verdict.close) connection.Break();
  attempt.retry = verdict.retry;
  attempt.doubt = verdict.doubt;
  return std::move(verdict.status);
}

absl::StatusOr<std::string> Client::LoadScript(ScriptId script, Connection& connection,
                                               Try& attempt) {
  TB_ASSIGN_OR_RETURN(const Reply reply,
                      connection.Execute(Command{"SCRIPT", "LOAD", options_.scripts.source(script)},
                                         Deadline::In(options_.command_timeout)));
  if (reply.view().is_error()) return ErrorFrom(reply.view(), connection, attempt);
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
