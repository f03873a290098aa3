#ifndef TOKEN_BROKER_STORAGE_REDIS_CLIENT_H_
#define TOKEN_BROKER_STORAGE_REDIS_CLIENT_H_

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/mutex.h"
#include "storage/redis/connection.h"
#include "storage/redis/connection_pool.h"
#include "storage/redis/scripts.h"

namespace tokenbroker::redis {

// The words of a script call. Strings are referred to, numbers are kept here.
class ScriptArguments {
 public:
  void Add(std::string_view text) { words_.push_back(text); }
  void Add(int64_t number) {
    numbers_.push_back(absl::StrCat(number));
    words_.push_back(numbers_.back());
  }
  // Keeps the text, where it would not live long enough.
  void AddOwned(std::string text) {
    numbers_.push_back(std::move(text));
    words_.push_back(numbers_.back());
  }
  const std::vector<std::string_view>& words() const { return words_; }

 private:
  std::deque<std::string> numbers_;  // a deque: the words point into it
  std::vector<std::string_view> words_;
};

// Commands and scripts, tried a bounded number of times. Thread-safe.
//
// Only what may be repeated is given to it: reads, and scripts that know the attempt they are
// called for. At worst an operation takes `tries` times pool wait + connect timeout + command
// timeout, and the wait for replicas on top.
class Client {
 public:
  struct Options {
    ConnectionPool::Options pool;
    absl::Duration command_timeout = absl::Milliseconds(250);  // per try
    int tries = 3;
    int replica_acks = 0;
    absl::Duration replica_ack_timeout = absl::Milliseconds(200);
    ScriptSet scripts;
  };

  explicit Client(Options options) : options_(std::move(options)), pool_(options_.pool) {}

  // One reply per command, none of them an error. STORE_UNAVAILABLE, RECORD_UNREADABLE.
  absl::StatusOr<std::vector<Reply>> Run(absl::Span<const Command> commands);

  // The script's answer: a non-empty array that starts with the outcome's name. Where the outcome
  // is one of `acknowledged`, `replica_acks` replicas have it, or STORE_NOT_ACKNOWLEDGED: it is
  // stored, and repeating the call with the same attempt waits for them again.
  absl::StatusOr<Reply> RunScript(ScriptId script, std::string_view key,
                                  const ScriptArguments& arguments,
                                  absl::Span<const std::string_view> acknowledged = {});

  // OK: a write was stored at `key` (which goes away by itself) and acknowledged.
  absl::Status CheckWritable(std::string_view key);

 private:
  absl::StatusOr<std::vector<Reply>> RunOnce(absl::Span<const Command> commands, bool fresh,
                                             bool& retry);
  absl::StatusOr<Reply> RunScriptOnce(ScriptId script, const Command& command,
                                      absl::Span<const std::string_view> acknowledged, bool fresh,
                                      bool& retry);
  absl::Status WaitForReplicas(Connection& connection, bool& retry);
  // The status for an error reply; closes the connection where it is of no more use.
  absl::Status ErrorFrom(ReplyView reply, Connection& connection, bool& retry) const;
  absl::StatusOr<std::string> LoadScript(ScriptId script, Connection& connection, bool& retry)
      ABSL_LOCKS_EXCLUDED(mutex_);
  std::string Digest(ScriptId script) ABSL_LOCKS_EXCLUDED(mutex_);

  const Options options_;
  ConnectionPool pool_;
  Mutex mutex_;
  // By which EVALSHA names the scripts; the server tells when it is given one. "": not known yet.
  std::array<std::string, kScriptCount> digests_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_CLIENT_H_
