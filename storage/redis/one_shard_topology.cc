// The topologies with one primary: a fixed one, and the one that Sentinels name.
#include <algorithm>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "common/mutex.h"
#include "common/status_macros.h"
#include "storage/redis/redis_errors.h"
#include "storage/redis/topology.h"

namespace tokenbroker::redis {
namespace {

absl::string_view View(std::string_view s) { return {s.data(), s.size()}; }

class OneShardTopology : public Topology {
 public:
  explicit OneShardTopology(TopologyOptions options)
      : options_(std::move(options)),
        observer_(options_.reign),
        pool_(std::make_shared<ConnectionPool>(ConnectionPool::Options{
            .connect = [this](Deadline deadline) { return Connect(deadline); },
            .size = options_.pool_size,
            .connect_timeout = options_.connect_timeout})) {}

  absl::StatusOr<std::shared_ptr<ConnectionPool>> Route(std::string_view) override { return pool_; }
  uint64_t PrimaryNumber(std::string_view) const override { return 0; }
  std::shared_ptr<ConnectionPool> Follow(const ConnectionPool&, std::string_view) override {
    return nullptr;
  }
  void Doubt(const ConnectionPool&) override {}
  absl::StatusOr<std::vector<std::string>> ShardTags() override {
    return std::vector<std::string>{""};
  }
  absl::StatusOr<Listening> Listen(Deadline deadline) override {
    TB_ASSIGN_OR_RETURN(Session session, Connect(deadline));
    return Listening{std::move(session.connection), std::move(session.endpoint)};
  }
  bool StillHears(const Endpoint&, Deadline) override { return true; }
  absl::Duration HeldBack() const override { return pool_->held_back(); }
  Counters counters() const override { return {.primary_changes = pool_->changes()}; }

 protected:
  virtual absl::StatusOr<Session> Connect(Deadline deadline) = 0;
  absl::StatusOr<Session> ConnectTo(const Endpoint& endpoint, Deadline deadline) {
    Session session;
    session.endpoint = endpoint;
    TB_ASSIGN_OR_RETURN(session.connection, Connection::Open(endpoint, options_.login, deadline));
    static const std::string kNoTag;
    TB_ASSIGN_OR_RETURN(session.reign, observer_.Observe(*session.connection, {kNoTag}, deadline));
    return session;
  }
  const TopologyOptions& options() const { return options_; }
  ConnectionPool& pool() const { return *pool_; }

 private:
  const TopologyOptions options_;
  ReignObserver observer_;
  const std::shared_ptr<ConnectionPool> pool_;
};

class FixedTopology : public OneShardTopology {
 public:
  FixedTopology(TopologyOptions options, Endpoint endpoint)
      : OneShardTopology(std::move(options)), endpoint_(std::move(endpoint)) {}

 private:
  absl::StatusOr<Session> Connect(Deadline deadline) override {
    return ConnectTo(endpoint_, deadline);
  }
  const Endpoint endpoint_;
};

// A Sentinel's opinion.
struct Answer {
  Endpoint primary;
  int64_t epoch = 0;  // counts the failovers; the higher one knows more
};

class SentinelTopology : public OneShardTopology {
 public:
  SentinelTopology(TopologyOptions options, SentinelOptions sentinel)
      : OneShardTopology(std::move(options)),
        sentinel_(std::move(sentinel)),
        order_(sentinel_.endpoints) {}

  // Where the primary acts strangely without failing, the connections that are left to it would go
  // on being used: only the Sentinels know that there is another one.
  absl::StatusOr<std::shared_ptr<ConnectionPool>> Route(std::string_view key) override
      ABSL_LOCKS_EXCLUDED(mutex_) {
    if (ShouldAsk()) {
      if (const std::optional<Endpoint> primary = pool().primary();
          primary && !StillHears(*primary, Deadline::In(options().connect_timeout))) {
        pool().Forget();
      }
    }
    return OneShardTopology::Route(key);
  }

  void Doubt(const ConnectionPool&) override ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    doubted_ = true;
  }

  bool StillHears(const Endpoint& endpoint, Deadline deadline) override
      ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::StatusOr<std::vector<Endpoint>> named = AskSentinels(deadline);
    // Who cannot be asked does not contradict.
    return !named.ok() || named->front() == endpoint;
  }

 private:
  // Not more often than this does doubt, which every failing operation casts, ask the Sentinels.
  static constexpr absl::Duration kDoubtInterval = absl::Milliseconds(200);

  absl::StatusOr<Session> Connect(Deadline deadline) override ABSL_LOCKS_EXCLUDED(mutex_) {
    TB_ASSIGN_OR_RETURN(const std::vector<Endpoint> named, AskSentinels(deadline));
    absl::Status first_failure;
    for (const Endpoint& endpoint : named) {
      absl::StatusOr<Session> session = ConnectTo(endpoint, deadline);
      if (session.ok()) return session;
      if (first_failure.ok()) first_failure = session.status();
    }
    return first_failure;
  }

  bool ShouldAsk() ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    if (!doubted_ || !next_ask_.Passed()) return false;
    doubted_ = false;
    next_ask_ = Deadline::In(kDoubtInterval);
    return true;
  }

  // What the Sentinels with the newest opinion name; not empty, and more than one only if they
  // contradict each other. Asks until a majority has answered, so that one Sentinel that was cut
  // off decides nothing. Opinions older than one that was heard before do not count.
  absl::StatusOr<std::vector<Endpoint>> AskSentinels(Deadline deadline)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    std::vector<Endpoint> order;
    int64_t known_epoch = 0;
    {
      MutexLock lock(mutex_);
      order = order_;
      known_epoch = epoch_;
    }
    const size_t majority = order.size() / 2 + 1;
    std::vector<Answer> answers;
    std::vector<Endpoint> silent;
    absl::Status first_failure;
    for (const Endpoint& sentinel : order) {
      if (answers.size() >= majority) break;
      // What is left is for the others, and for the primary.
      const absl::Duration share = deadline.Left() / 3;
      absl::StatusOr<Answer> answer = AskSentinel(sentinel, Deadline::In(share));
      if (answer.ok()) {
        answers.push_back(*std::move(answer));
      } else {
        silent.push_back(sentinel);
        if (first_failure.ok()) first_failure = answer.status();
      }
    }
    std::stable_sort(answers.begin(), answers.end(),
                     [](const Answer& a, const Answer& b) { return a.epoch > b.epoch; });
    MutexLock lock(mutex_);
    // Those that answer are asked first the next time.
    std::stable_partition(order_.begin(), order_.end(), [&](const Endpoint& sentinel) {
      return std::find(silent.begin(), silent.end(), sentinel) == silent.end();
    });
    std::vector<Endpoint> named;
    for (const Answer& answer : answers) {
      if (answer.epoch < std::max(known_epoch, answers.front().epoch)) continue;
      if (std::find(named.begin(), named.end(), answer.primary) == named.end()) {
        named.push_back(answer.primary);
      }
    }
    if (named.empty()) {
      // All older: the Sentinels were set up anew. Only a majority may say so.
      if (answers.size() >= majority) epoch_ = 0;
      if (!first_failure.ok()) return first_failure;
      return StoreUnavailableError("the Sentinels know less than they did before");
    }
    epoch_ = std::max(epoch_, answers.front().epoch);
    return named;
  }

  absl::StatusOr<Answer> AskSentinel(const Endpoint& sentinel, Deadline deadline) const {
    const auto failed = [&](const absl::Status& status) {
      return StoreUnavailableError(
          absl::StrCat("Sentinel ", sentinel.ToString(), ": ", status.message()));
    };
    absl::StatusOr<std::unique_ptr<Connection>> connection =
        Connection::Open(sentinel, sentinel_.login, deadline);
    if (!connection.ok()) return failed(connection.status());
    // The address comes first in a failover, before the leading Sentinel's record of the primary.
    const Command questions[] = {
        {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", sentinel_.primary_name},
        {"SENTINEL", "MASTER", sentinel_.primary_name},
    };
    const absl::StatusOr<std::vector<Reply>> replies = (*connection)->Execute(questions, deadline);
    if (!replies.ok()) return failed(replies.status());
    const ReplyView address = (*replies)[0].view();
    const ReplyView details = (*replies)[1].view();
    if (address.is_nil() || details.text().find("No such master") != std::string_view::npos) {
      return failed(StoreUnavailableError(
          absl::StrCat("it knows no primary '", sentinel_.primary_name, "'")));
    }
    for (const Reply& reply : *replies) {
      if (!reply.view().is_error()) continue;
      return failed(ServerError(reply.view().text(), sentinel_.login.username).status);
    }
    Answer answer;
    int port = 0;
    if (address.size() != 2 || !absl::SimpleAtoi(View(address[1].text()), &port) || port <= 0 ||
        port > 65535) {
      return failed(StoreUnavailableError("its answer names no address"));
    }
    answer.primary = {std::string(address[0].text()), static_cast<uint16_t>(port)};
    for (size_t i = 0; i + 1 < details.size(); i += 2) {
      if (details[i].text() != "config-epoch") continue;
      if (!absl::SimpleAtoi(View(details[i + 1].text()), &answer.epoch)) answer.epoch = 0;
    }
    return answer;
  }

  const SentinelOptions sentinel_;
  Mutex mutex_;
  std::vector<Endpoint> order_ ABSL_GUARDED_BY(mutex_);  // in which the Sentinels are asked
  int64_t epoch_ ABSL_GUARDED_BY(mutex_) = 0;            // of the newest opinion that was heard
  bool doubted_ ABSL_GUARDED_BY(mutex_) = false;
  Deadline next_ask_ ABSL_GUARDED_BY(mutex_) = Deadline::In(absl::ZeroDuration());
};

}  // namespace

std::unique_ptr<Topology> MakeFixedTopology(TopologyOptions options, Endpoint endpoint) {
  return std::make_unique<FixedTopology>(std::move(options), std::move(endpoint));
}

std::unique_ptr<Topology> MakeSentinelTopology(TopologyOptions options, SentinelOptions sentinel) {
  return std::make_unique<SentinelTopology>(std::move(options), std::move(sentinel));
}

}  // namespace tokenbroker::redis
