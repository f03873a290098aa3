#include "storage/redis/reign.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/errors.h"
#include "common/status_macros.h"
#include "storage/redis/info_fields.h"
#include "storage/redis/record_codec.h"
#include "storage/redis/redis_errors.h"

namespace tokenbroker::redis {
namespace {

// Of one process; more than that many restarts and failovers of all shards are forgotten again.
constexpr size_t kMaxRemembered = 1000;

absl::string_view View(std::string_view s) { return {s.data(), s.size()}; }

// "<id> <milliseconds>", if it is about this reign.
std::optional<int64_t> ReadNote(std::string_view note, std::string_view id) {
  if (note.size() <= id.size() + 1 || !note.starts_with(id) || note[id.size()] != ' ') {
    return std::nullopt;
  }
  int64_t since = 0;
  if (!absl::SimpleAtoi(View(note.substr(id.size() + 1)), &since)) return std::nullopt;
  return since;
}

}  // namespace

std::string ShardKey(std::string_view prefix, std::string_view name, std::string_view tag) {
  if (tag.empty()) return absl::StrCat(View(prefix), "{", View(name), "}");
  return absl::StrCat(View(prefix), View(name), "{", View(tag), "}");
}

absl::Duration Reign::HeldBack() const {
  const absl::Duration quiet =
      clock == nullptr ? absl::ZeroDuration() : clock->QuietLeft(MonotonicNow());
  return std::max(quarantine_end.Left(), quiet);
}

absl::StatusOr<Reign> ReignObserver::Observe(Connection& connection,
                                             absl::Span<const std::string> tags,
                                             Deadline deadline) {
  const Command questions[] = {{"INFO", "server"}, {"INFO", "replication"}, {"TIME"}};
  const MonotonicTime begin = MonotonicNow();
  TB_ASSIGN_OR_RETURN(const std::vector<Reply> answers, connection.Execute(questions, deadline));
  const MonotonicTime end = MonotonicNow();
  for (const Reply& answer : answers) {
    if (answer.view().is_error())
      return ServerError(answer.view().text(), options_.username).status;
  }
  const std::string_view replication = answers[1].view().text();
  if (InfoField(replication, "role") != "master") {
    return ServerError("READONLY", options_.username).status;
  }
  Reign reign;
  reign.inherited = std::string(InfoField(replication, "master_replid2"));
  const std::string_view run_id = InfoField(answers[0].view().text(), "run_id");
  reign.id = absl::StrCat(View(run_id), ".", reign.inherited);
  TB_ASSIGN_OR_RETURN(const absl::Time now, DecodeServerTime(answers[2].view()));
  reign.clock = ClockOf(run_id, now, begin, end);
  if (options_.quarantine <= absl::ZeroDuration()) {
    reign.inherited.clear();
    return reign;
  }
  const int64_t now_ms = absl::ToUnixMillis(now);
  TB_ASSIGN_OR_RETURN(const int64_t since, FirstSeen(connection, reign.id, now_ms, tags, deadline));
  const absl::Duration rest = std::clamp(absl::Milliseconds(since - now_ms) + options_.quarantine,
                                         absl::ZeroDuration(), options_.quarantine);
  reign.quarantine_end = Deadline::In(rest);
  MutexLock lock(mutex_);
  if (ends_.size() >= kMaxRemembered) ends_.clear();
  // Each of them is long enough after the beginning.
  const auto [known, is_new] = ends_.emplace(reign.id, reign.quarantine_end);
  if (!is_new) {
    if (rest < known->second.Left()) known->second = reign.quarantine_end;
    reign.quarantine_end = known->second;
  }
  return reign;
}

std::shared_ptr<ServerClock> ReignObserver::ClockOf(std::string_view run_id, absl::Time time,
                                                    MonotonicTime begin, MonotonicTime end) {
  std::shared_ptr<ServerClock> clock;
  {
    MutexLock lock(mutex_);
    if (clocks_.size() >= kMaxRemembered) clocks_.clear();
    std::shared_ptr<ServerClock>& known = clocks_[std::string(run_id)];
    if (known == nullptr) {
      known = std::make_shared<ServerClock>(options_.clock, absl::Now(), MonotonicNow());
    }
    clock = known;
  }
  clock->Observe(time, begin, end);
  return clock;
}

absl::StatusOr<int64_t> ReignObserver::FirstSeen(Connection& connection, const std::string& id,
                                                 int64_t now, absl::Span<const std::string> tags,
                                                 Deadline deadline) const {
  std::vector<std::string> keys;
  keys.reserve(tags.size());
  for (const std::string& tag : tags) keys.push_back(ShardKey(options_.key_prefix, "reign", tag));
  std::vector<Command> questions;
  questions.reserve(keys.size() + 1);
  for (const std::string& key : keys) questions.push_back({"GET", key});
  if (options_.index_key.empty()) {
    questions.push_back({"DBSIZE"});
  } else {
    questions.push_back({"ZRANGEBYLEX", options_.index_key, "-", "+", "LIMIT", "0", "1"});
  }
  TB_ASSIGN_OR_RETURN(const std::vector<Reply> answers, connection.Execute(questions, deadline));

  std::optional<int64_t> since;
  size_t found = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    const ReplyView answer = answers[i].view();
    if (answer.is_error()) {
      // A slot that has just moved says nothing.
      if (IsRedirection(answer.text())) continue;
      return ServerError(answer.text(), options_.username).status;
    }
    if (const std::optional<int64_t> note = ReadNote(answer.text(), id)) {
      ++found;
      since = std::min(since.value_or(*note), *note);
    }
  }
  const ReplyView grants = answers.back().view();
  if (grants.is_error()) return ServerError(grants.text(), options_.username).status;
  if (!since) {
    const bool empty = grants.is_array() ? grants.size() == 0 : grants.integer() == 0;
    since = empty ? 0 : now;
  } else if (*since > now) {
    since = now;  // the server's clock was set back
    found = 0;
  }
  if (found == keys.size()) return *since;

  // Read and write are two steps, so two brokers may overwrite each other's note, but only with a
  // moment at which there was none yet.
  const std::string note = absl::StrCat(id, " ", *since);
  std::vector<Command> notes;
  notes.reserve(keys.size());
  for (const std::string& key : keys) notes.push_back({"SET", key, note});
  // A server that takes no write now can still be read; the next connection tries again.
  TB_RETURN_IF_ERROR(connection.Execute(notes, deadline).status());
  return *since;
}

}  // namespace tokenbroker::redis
