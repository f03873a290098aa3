#ifndef TOKEN_BROKER_TESTS_TESTING_FAKE_TOKEN_STORE_H_
#define TOKEN_BROKER_TESTS_TESTING_FAKE_TOKEN_STORE_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "storage/protocol_limits.h"
#include "storage/token_store.h"

namespace tokenbroker::testing {

// A store in memory as a working double, made of the protocol's own functions. One object is one
// replica's view of it; `AnotherReplica` gives one more on the same records. Thread-safe.
class FakeTokenStore final : public TokenStore {
 public:
  enum class Op {
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
    kWaitForChange,
    kCheckWritable,
  };
  struct Options {
    ProtocolLimits limits;
    Clock clock = Clock::System();
    // How WaitForChange waits. Empty: on the machine's clock.
    std::function<void(const std::function<bool()>& ready, absl::Duration timeout)> block;
    // How change events get to the listeners. Empty: at once, in the thread that made the change.
    std::function<void(std::function<void()>)> post;
  };

  FakeTokenStore() : FakeTokenStore(Options()) {}
  explicit FakeTokenStore(Options options);
  ~FakeTokenStore() override;
  // Same options. The first one must outlive it.
  std::unique_ptr<FakeTokenStore> AnotherReplica();

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
  void SetChangeListener(ChangeListener listener) override;
  int64_t subscription_session() const override;
  uint64_t FailureDomain(const GrantKey& key) const override;
  absl::Status CheckWritable() override;

  // Knobs, of this replica alone.

  // Every operation ends with this and is not carried out, until it is OK again.
  void SetStatus(absl::Status status);
  // The same with STORE_UNAVAILABLE.
  void SetUnavailable(bool unavailable);
  void SetUnavailable(Op op, bool unavailable);
  // The next `times` operations are carried out, and their replies lost (STORE_UNAVAILABLE).
  void LoseReplies(Op op, int times = 1);
  // The next `times` operations end with `status`; nothing is carried out.
  void FailNext(Op op, absl::Status status, int times = 1);
  // Runs `what` once: before the next operation of this kind looks at anything, or after it was
  // carried out, before it answers. It may call the store.
  void Before(Op op, std::function<void()> what);
  void After(Op op, std::function<void()> what);
  // 0: no change events come, not even of this replica's own changes. At first 1.
  void SetSession(int64_t session);
  // The part of the store that the grant is in; 0 at first.
  void SetFailureDomain(const GrantKey& key, uint64_t domain);
  // Events are kept back until they are let go.
  void HoldEvents();
  void ReleaseEvents();

  // The record cannot be read any more, by any replica, until it is registered anew.
  void Damage(const GrantKey& key);
  // A key that no grant's encodes to.
  void AddStrayKey(const std::string& encoded);

  // What happened.

  int count(Op op) const;  // of this replica, failed ones too
  int operations() const;  // all kinds
  void ResetCounts();
  GrantRecord record(const GrantKey& key) const;
  void Edit(const GrantKey& key, const std::function<void(GrantRecord&)>& change);
  // Its record is gone, as after a flush.
  void Erase(const GrantKey& key);

 private:
  struct Shared {
    Mutex mutex;
    CondVar changed;
    // By EncodeGrantKey. Reserved ones are not cleared away: nobody sees them.
    std::map<std::string, GrantRecord> records ABSL_GUARDED_BY(mutex);
    std::set<std::string> damaged ABSL_GUARDED_BY(mutex);  // keys of `records`
    std::vector<FakeTokenStore*> replicas ABSL_GUARDED_BY(mutex);
  };

  FakeTokenStore(const Options& options, std::shared_ptr<Shared> shared);
  // What a knob says about this operation; runs the hook.
  absl::Status Begin(Op op);
  // The same of one grant, whose record has to be readable.
  absl::Status Begin(Op op, const GrantKey& key);
  // OK, or the reply is lost.
  absl::Status End(Op op);
  // What an operation that makes records does to the one of `key`; `record` is as it is then.
  template <typename Apply>
  auto ApplyTo(const GrantKey& key, std::optional<GrantRecord>& record, Apply apply);
  void Publish(const GrantRecord& record);
  void Deliver(const ChangeEvent& event);
  absl::Time Now() const { return options_.clock.wall(); }

  const Options options_;
  const std::shared_ptr<Shared> shared_;

  mutable Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::map<Op, bool> unavailable_op_ ABSL_GUARDED_BY(mutex_);
  std::map<Op, int> lost_ ABSL_GUARDED_BY(mutex_);
  std::map<Op, std::pair<absl::Status, int>> failing_ ABSL_GUARDED_BY(mutex_);
  std::map<Op, std::deque<std::function<void()>>> before_ ABSL_GUARDED_BY(mutex_);
  std::map<Op, std::deque<std::function<void()>>> after_ ABSL_GUARDED_BY(mutex_);
  std::map<Op, int> counts_ ABSL_GUARDED_BY(mutex_);
  int64_t session_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<std::string, uint64_t> domains_ ABSL_GUARDED_BY(mutex_);  // by EncodeGrantKey
  bool hold_events_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<ChangeEvent> held_ ABSL_GUARDED_BY(mutex_);

  Mutex listener_mutex_;  // held while the listener runs
  ChangeListener listener_ ABSL_GUARDED_BY(listener_mutex_);
};

}  // namespace tokenbroker::testing

#endif  // TOKEN_BROKER_TESTS_TESTING_FAKE_TOKEN_STORE_H_
