#ifndef TOKEN_BROKER_TESTS_SIMULATION_STORE_CLIENT_H_
#define TOKEN_BROKER_TESTS_SIMULATION_STORE_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "storage/token_store.h"
#include "tests/simulation/seams.h"
#include "tests/simulation/store_servers.h"

namespace tokenbroker::simulation {

// One process's store: pooled connections to whatever it takes for the primary, and its
// subscription. The rules of the records are those of storage/protocol.h; what is done when a
// command fails, an answer does not come or replicas do not acknowledge is what
// storage/redis/client.h does.
class SimulatedStore final : public TokenStore {
 public:
  SimulatedStore(Seams* seams, StoreServers* servers);
  // The process is gone. Commands that it has sent may still be executed, so this object stays.
  void Close();

  absl::StatusOr<GrantRecord> Load(const GrantKey& key) override;
  absl::StatusOr<AcquireResult> Acquire(const AcquireRequest& request) override;
  absl::StatusOr<MarkSentOutcome> MarkSent(const MarkSentRequest& request) override;
  absl::StatusOr<CountSendResult> CountSend(const CountSendRequest& request) override;
  absl::StatusOr<CommitResult> Commit(const CommitRequest& request) override;
  absl::StatusOr<FailResult> Fail(const FailRequest& request) override;
  absl::StatusOr<RegisterResult> Register(const RegisterRequest& request) override;
  absl::StatusOr<RevokeResult> Revoke(const RevokeRequest& request) override;
  absl::Status ForgetTokens(const GrantKey& key, int64_t generation) override;
  absl::StatusOr<GrantPage> ListPage(std::string_view prefix, std::string_view after,
                                     int limit) override;
  void WaitForChange(const GrantKey& key, int64_t generation, absl::Duration timeout) override;
  void SetChangeListener(ChangeListener listener) override { listener_ = std::move(listener); }
  int64_t subscription_session() const override { return session_; }
  uint64_t FailureDomain(const GrantKey&) const override { return 0; }
  absl::Status CheckWritable() override;

  // The subscription is lost: noticed at once, or only after a while.
  void LoseSubscription(bool silently);
  // Whether what it listens to still is the primary; called after a change.
  void LookAgain();

 private:
  enum Operation {
    kLoad,
    kAcquire,
    kMarkSent,
    kCountSend,
    kCommit,
    kFail,
    kRegister,
    kRevoke,
    kForgetTokens,
    kListPage,
    kSet,
    kWait,
  };
  struct Call {
    Operation operation = kLoad;
    // Executed by the server; with what was left of its quarantine when it was sent.
    std::function<Reply(Server&, Nanos quarantine)> script;
    bool reads = false;         // also answered by a server that is no primary
    bool fenced = false;        // not by one that was replaced in between
    uint64_t acknowledged = 0;  // outcomes that replicas have to have, one bit each
  };
  // An answer, and by whom.
  struct Answered {
    Reply reply;
    Server* server = nullptr;
    Nanos quarantine_end = 0;
  };

  absl::StatusOr<Answered> Run(const Call& call);
  std::shared_ptr<Connection> Take(bool fresh);
  void Return(std::shared_ptr<Connection> connection);
  std::optional<Reply> Execute(const std::shared_ptr<Connection>& connection, Nanos timeout,
                               const std::function<void()>& send);
  // An answer that a command of `operation` begins with: the record as it is, and the time.
  Reply Begin(Operation operation, const Server& server, int grant) const;
  void Store(Server& server, int grant, Reply& reply, GrantRecord record, bool publish);
  Call LoadCall(int grant) const;
  MarkSentOutcome Mark(Server& server, int grant, Reply& reply, const MarkSentRequest& request,
                       uint64_t call, Nanos quarantine);
  void Subscribe();
  void EndSubscription();
  void OnMessage(const ChangeEvent& event);
  void Told(const Answered& answered, int grant, std::string_view promise, int64_t generation,
            std::string_view attempt_id);
  Nanos now() const { return context_->now(); }

  Seams* const seams_;
  Context* const context_;
  StoreServers* const servers_;
  std::vector<std::shared_ptr<Connection>> idle_;
  int64_t reign_ = 0;  // that the newest connection found
  ChangeListener listener_;
  int64_t session_ = 0;
  int64_t sessions_ = 0;
  uint64_t subscription_ = 0;                     // counts its beginnings and ends
  std::vector<std::pair<int, Strand*>> waiting_;  // for a change of a grant
};

}  // namespace tokenbroker::simulation

#endif  // TOKEN_BROKER_TESTS_SIMULATION_STORE_CLIENT_H_
