#ifndef TOKEN_BROKER_STORAGE_REDIS_CLIENT_H_
#define TOKEN_BROKER_STORAGE_REDIS_CLIENT_H_

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/mutex.h"
#include "storage/redis/connection.h"
#include "storage/redis/connection_pool.h"
#include "storage/redis/scripts.h"
#include "storage/redis/topology.h"

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

// What a script asks for besides being run.
struct ScriptRules {
  // Where the outcome is one of these, `replica_acks` replicas have to have it.
  std::vector<std::string_view> acknowledged;
  // The script begins or continues a refresh: it is given four more arguments, the reign that the
  // connection was made in, for how many milliseconds refreshes are held back, and between which
  // times the server's clock is expected. It answers DEPOSED where that reign is over, JUMPED where
  // the clock is not, and its time, after the outcome's name, with every outcome that matters.
  bool fenced = false;
  absl::Duration clock_offset;  // tests only: what the script's time is ahead of the server's
};

// Commands and scripts, sent to the primary that has their key and tried a bounded number of times.
// Thread-safe.
//
// Only what may be repeated is given to it: reads, and scripts that know the attempt they are
// called for. A try that fails because the primary changed is made again at the new one from the
// start, so that acknowledgements are always those of the server that has the write. At worst an
// operation takes `tries` times pool wait + connect timeout + command timeout, the wait for
// replicas on top, and twice the connect timeout for finding the primary.
class Client {
 public:
  struct Options {
    std::string username;                                      // whom errors name
    absl::Duration command_timeout = absl::Milliseconds(250);  // per try
    int tries = 3;
    int replica_acks = 0;
    absl::Duration replica_ack_timeout = absl::Milliseconds(200);
    ScriptSet scripts;
  };

  struct KeyedCommand {
    std::string_view key;
    Command command;
  };
  struct TimedReply {
    std::optional<Reply> reply;  // nullopt: the key holds something else than the command is for
    absl::Time server_time;      // just after
  };

  Client(Options options, std::unique_ptr<Topology> topology)
      : options_(std::move(options)), topology_(std::move(topology)) {}

  // One reply per command, none of them an error. All commands are about `key`, or about none.
  // `held_back`, if not null: Reign::HeldBack of the primary that answered. STORE_UNAVAILABLE,
  // RECORD_UNREADABLE.
  absl::StatusOr<std::vector<Reply>> Run(std::string_view key, absl::Span<const Command> commands,
                                         absl::Duration* held_back = nullptr);

  // Each command at the primary that has its key, those of one primary together. The replies are in
  // the order of the commands, none of them an error; a key of the wrong type fails only its own
  // command. STORE_UNAVAILABLE.
  absl::StatusOr<std::vector<TimedReply>> RunEach(absl::Span<const KeyedCommand> commands);

  // The script's answer: a non-empty array that starts with the outcome's name. Where too few
  // replicas have it, STORE_NOT_ACKNOWLEDGED: it is stored, and repeating the call with the same
  // attempt waits for them again. `held_back`, for fenced scripts and if not null: Reign::HeldBack
  // by what the answer tells about the clock, so above zero for JUMPED.
  absl::StatusOr<Reply> RunScript(ScriptId script, std::string_view key,
                                  const ScriptArguments& arguments, const ScriptRules& rules = {},
                                  absl::Duration* held_back = nullptr);

  // OK: more than half of the shards store and acknowledge a write now, each at a key of
  // `key_prefix` that goes away by itself. One shard of many that fails over makes no broker unfit
  // for the grants of the others.
  absl::Status CheckWritable(std::string_view key_prefix);

  Topology& topology() { return *topology_; }
  const Topology& topology() const { return *topology_; }

 private:
  // What one try is to do, and what it leaves for the next one.
  struct Try {
    std::shared_ptr<ConnectionPool> pool;
    bool fresh = false;   // on a new connection
    bool asking = false;  // the slot is on its way to this node
    // After a failure:
    bool retry = true;                     // it may go well the next time
    bool doubt = true;                     // the server may no longer be the one to ask
    std::shared_ptr<ConnectionPool> next;  // where a redirection points
    bool next_asking = false;
  };

  // Calls `once` until it succeeds or there is no point in going on.
  template <typename Result, typename Once>
  Result Repeat(std::string_view key, Once once);

  absl::StatusOr<ConnectionPool::Lease> Connect(const Try& attempt);
  absl::StatusOr<std::vector<Reply>> RunOnce(absl::Span<const Command> commands, Try& attempt,
                                             absl::Duration* held_back);
  // Leaves in `pending` what has to be asked elsewhere, and in `asked` what only once.
  absl::Status RunGroup(const std::shared_ptr<ConnectionPool>& pool, bool fresh,
                        absl::Span<const KeyedCommand> commands, const std::vector<size_t>& group,
                        std::vector<std::optional<TimedReply>>& replies,
                        std::vector<size_t>& pending, std::vector<size_t>& asked, bool& retry);
  absl::StatusOr<Reply> RunScriptOnce(ScriptId script, const Command& command,
                                      const ScriptRules& rules, Try& attempt,
                                      absl::Duration* held_back);
  // So that a jump is noticed, and known to be recent, where there is nothing to refresh.
  absl::Status CompareClocks(const ConnectionPool::Lease& connection);
  // Sends the script's call, preceded by ASKING where that is needed.
  absl::StatusOr<Reply> Call(const Command& command, const Try& attempt, Connection& connection);
  // For a server that has lost the script since its digest was learnt. In one go: between two, it
  // could lose the script again.
  absl::StatusOr<Reply> LoadAndCall(ScriptId script, const Command& command, Try& attempt,
                                    Connection& connection);
  absl::Status WaitForReplicas(Connection& connection, Try& attempt);
  // The status for an error reply; closes the connection where it is of no more use.
  absl::Status ErrorFrom(ReplyView reply, Connection& connection, Try& attempt) const;
  absl::StatusOr<std::string> LoadScript(ScriptId script, Connection& connection, Try& attempt)
      ABSL_LOCKS_EXCLUDED(mutex_);
  std::string Digest(ScriptId script) ABSL_LOCKS_EXCLUDED(mutex_);

  const Options options_;
  const std::unique_ptr<Topology> topology_;
  Mutex mutex_;
  // By which EVALSHA names the scripts; the server tells when it is given one. "": not known yet.
  std::array<std::string, kScriptCount> digests_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_CLIENT_H_
