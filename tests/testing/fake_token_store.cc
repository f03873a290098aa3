#include "tests/testing/fake_token_store.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "common/errors.h"
#include "common/status_macros.h"
#include "storage/protocol.h"

namespace tokenbroker::testing {
namespace {

absl::Status Down() { return StoreUnavailableError("the fake store is down"); }

GrantRecord WithoutSecrets(GrantRecord record) {
  record.refresh_token = Secret();
  record.access_token = Secret();
  return record;
}

}  // namespace

FakeTokenStore::FakeTokenStore(Options options)
    : FakeTokenStore(options, std::make_shared<Shared>()) {}

FakeTokenStore::FakeTokenStore(const Options& options, std::shared_ptr<Shared> shared)
    : options_(options), shared_(std::move(shared)) {
  MutexLock lock(shared_->mutex);
  shared_->replicas.push_back(this);
}

FakeTokenStore::~FakeTokenStore() {
  MutexLock lock(shared_->mutex);
  std::erase(shared_->replicas, this);
}

std::unique_ptr<FakeTokenStore> FakeTokenStore::AnotherReplica() {
  return std::unique_ptr<FakeTokenStore>(new FakeTokenStore(options_, shared_));
}

absl::Status FakeTokenStore::Begin(Op op) {
  std::function<void()> hook;
  {
    MutexLock lock(mutex_);
    ++counts_[op];
    if (std::deque<std::function<void()>>& hooks = before_[op]; !hooks.empty()) {
      hook = std::move(hooks.front());
      hooks.pop_front();
    }
  }
  if (hook) hook();
  MutexLock lock(mutex_);
  if (!status_.ok()) return status_;
  if (unavailable_op_[op]) return Down();
  if (auto& [status, times] = failing_[op]; times > 0) {
    --times;
    return status;
  }
  return absl::OkStatus();
}

absl::Status FakeTokenStore::Begin(Op op, const GrantKey& key) {
  TB_RETURN_IF_ERROR(Begin(op));
  MutexLock lock(shared_->mutex);
  if (shared_->damaged.contains(EncodeGrantKey(key))) return RecordUnreadableError("damaged");
  return absl::OkStatus();
}

absl::Status FakeTokenStore::End(Op op) {
  std::function<void()> hook;
  bool lost = false;
  {
    MutexLock lock(mutex_);
    if (std::deque<std::function<void()>>& hooks = after_[op]; !hooks.empty()) {
      hook = std::move(hooks.front());
      hooks.pop_front();
    }
    if (int& times = lost_[op]; times > 0) {
      --times;
      lost = true;
    }
  }
  if (hook) hook();
  return lost ? Down() : absl::OkStatus();
}

void FakeTokenStore::Publish(const GrantRecord& record) {
  const ChangeEvent event{record.key, record.generation, record.state};
  std::vector<FakeTokenStore*> replicas;
  {
    MutexLock lock(shared_->mutex);
    shared_->changed.NotifyAll();
    replicas = shared_->replicas;
  }
  for (FakeTokenStore* replica : replicas) {
    if (options_.post) {
      options_.post([replica, event] { replica->Deliver(event); });
    } else {
      replica->Deliver(event);
    }
  }
}

void FakeTokenStore::Deliver(const ChangeEvent& event) {
  {
    MutexLock lock(mutex_);
    if (session_ == 0) return;
    if (hold_events_) {
      held_.push_back(event);
      return;
    }
  }
  MutexLock lock(listener_mutex_);
  if (listener_) listener_(event);
}

absl::StatusOr<GrantRecord> FakeTokenStore::Load(const GrantKey& key) {
  TB_RETURN_IF_ERROR(Begin(Op::kLoad, key));
  absl::StatusOr<GrantRecord> loaded = OrgNotFoundError();
  {
    MutexLock lock(shared_->mutex);
    if (const auto found = shared_->records.find(EncodeGrantKey(key));
        found != shared_->records.end() && IsGrant(found->second)) {
      found->second.store_now = ToMilliseconds(Now());
      loaded = found->second;
    }
  }
  TB_RETURN_IF_ERROR(End(Op::kLoad));
  return loaded;
}

template <typename Apply>
auto FakeTokenStore::ApplyTo(const GrantKey& key, std::optional<GrantRecord>& record, Apply apply) {
  MutexLock lock(shared_->mutex);
  const std::string encoded = EncodeGrantKey(key);
  if (const auto found = shared_->records.find(encoded); found != shared_->records.end()) {
    record = found->second;
  }
  auto applied = apply(record);
  if (record) shared_->records[encoded] = *record;
  return applied;
}

absl::StatusOr<AcquireResult> FakeTokenStore::Acquire(const AcquireRequest& request) {
  TB_RETURN_IF_ERROR(Begin(Op::kAcquire, request.key));
  std::optional<GrantRecord> record;
  AcquireResult result = ApplyTo(request.key, record, [&](std::optional<GrantRecord>& stored) {
                           return ApplyAcquire(options_.limits, stored, request, Now());
                         }).result;
  if (record) result.record = *std::move(record);
  TB_RETURN_IF_ERROR(End(Op::kAcquire));
  return result;
}

absl::StatusOr<CountSendResult> FakeTokenStore::CountSend(const CountSendRequest& request) {
  TB_RETURN_IF_ERROR(Begin(Op::kCountSend, request.key));
  std::optional<GrantRecord> record;
  const CountSendResult result =
      ApplyTo(request.key, record, [&](std::optional<GrantRecord>& stored) {
        return ApplyCountSend(options_.limits, stored, request, Now());
      }).result;
  TB_RETURN_IF_ERROR(End(Op::kCountSend));
  return result;
}

absl::StatusOr<MarkSentOutcome> FakeTokenStore::MarkSent(const MarkSentRequest& request) {
  TB_RETURN_IF_ERROR(Begin(Op::kMarkSent, request.key));
  MarkSentOutcome outcome = MarkSentOutcome::kLost;
  {
    MutexLock lock(shared_->mutex);
    if (const auto found = shared_->records.find(EncodeGrantKey(request.key));
        found != shared_->records.end()) {
      outcome = ApplyMarkSent(options_.limits, found->second, request, Now()).result;
    }
  }
  TB_RETURN_IF_ERROR(End(Op::kMarkSent));
  return outcome;
}

absl::StatusOr<CommitResult> FakeTokenStore::Commit(const CommitRequest& request) {
  TB_RETURN_IF_ERROR(Begin(Op::kCommit, request.key));
  CommitResult result;
  bool publish = false;
  {
    MutexLock lock(shared_->mutex);
    if (const auto found = shared_->records.find(EncodeGrantKey(request.key));
        found != shared_->records.end()) {
      Applied<CommitResult> applied = ApplyCommit(found->second, request, Now());
      result = std::move(applied.result);
      result.record = found->second;
      publish = applied.publish;
    }
  }
  if (publish) Publish(result.record);
  TB_RETURN_IF_ERROR(End(Op::kCommit));
  return result;
}

absl::StatusOr<FailResult> FakeTokenStore::Fail(const FailRequest& request) {
  TB_RETURN_IF_ERROR(Begin(Op::kFail, request.key));
  FailResult result;
  std::optional<GrantRecord> changed;
  {
    MutexLock lock(shared_->mutex);
    if (const auto found = shared_->records.find(EncodeGrantKey(request.key));
        found != shared_->records.end()) {
      Applied<FailResult> applied = ApplyFail(options_.limits, found->second, request, Now());
      result = applied.result;
      if (applied.publish) changed = found->second;
    }
  }
  if (changed) Publish(*changed);
  TB_RETURN_IF_ERROR(End(Op::kFail));
  return result;
}

absl::StatusOr<RegisterResult> FakeTokenStore::Register(const RegisterRequest& request) {
  TB_RETURN_IF_ERROR(Begin(Op::kRegister));
  std::optional<GrantRecord> record;
  Applied<RegisterResult> applied = ApplyTo(
      request.key, record,
      [&](std::optional<GrantRecord>& stored) ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared_->mutex) {
        if (shared_->damaged.erase(EncodeGrantKey(request.key)) > 0) {
          stored = SalvageRecord(request.key, *stored, Now());
        }
        return ApplyRegister(stored, request, Now());
      });
  RegisterResult result = std::move(applied.result);
  result.record = *std::move(record);
  if (applied.publish) Publish(result.record);
  TB_RETURN_IF_ERROR(End(Op::kRegister));
  return result;
}

absl::StatusOr<RevokeResult> FakeTokenStore::Revoke(const RevokeRequest& request) {
  const GrantKey& key = request.key;
  TB_RETURN_IF_ERROR(Begin(Op::kRevoke, key));
  RevokeResult result;
  bool publish = false;
  {
    MutexLock lock(shared_->mutex);
    if (const auto found = shared_->records.find(EncodeGrantKey(key));
        found != shared_->records.end()) {
      Applied<RevokeResult> applied = ApplyRevoke(found->second, request, Now());
      result = std::move(applied.result);
      result.record = found->second;
      publish = applied.publish;
    }
  }
  if (publish) Publish(result.record);
  TB_RETURN_IF_ERROR(End(Op::kRevoke));
  return result;
}

absl::Status FakeTokenStore::ForgetTokens(const GrantKey& key, int64_t generation) {
  TB_RETURN_IF_ERROR(Begin(Op::kForgetTokens, key));
  {
    MutexLock lock(shared_->mutex);
    if (const auto found = shared_->records.find(EncodeGrantKey(key));
        found != shared_->records.end()) {
      ApplyForgetTokens(found->second, generation);
    }
  }
  return End(Op::kForgetTokens);
}

absl::StatusOr<GrantPage> FakeTokenStore::ListPage(std::string_view prefix, std::string_view after,
                                                   int limit) {
  TB_RETURN_IF_ERROR(Begin(Op::kListPage));
  GrantPage page;
  {
    MutexLock lock(shared_->mutex);
    auto it = after.empty() ? shared_->records.lower_bound(std::string(prefix))
                            : shared_->records.upper_bound(std::string(after));
    if (it != shared_->records.end() && it->first < prefix) {
      it = shared_->records.lower_bound(std::string(prefix));
    }
    for (; it != shared_->records.end() && it->first.compare(0, prefix.size(), prefix) == 0; ++it) {
      if (!shared_->damaged.contains(it->first) && !IsGrant(it->second)) continue;
      if (static_cast<int>(page.records.size() + page.unreadable.size()) == limit) {
        page.next = std::prev(it)->first;
        break;
      }
      if (shared_->damaged.contains(it->first)) {
        page.unreadable.push_back({DecodeGrantKey(it->first), it->first});
        continue;
      }
      page.records.push_back(WithoutSecrets(it->second));
      page.records.back().store_now = ToMilliseconds(Now());
    }
  }
  TB_RETURN_IF_ERROR(End(Op::kListPage));
  return page;
}

void FakeTokenStore::WaitForChange(const GrantKey& key, int64_t generation,
                                   absl::Duration timeout) {
  if (!Begin(Op::kWaitForChange).ok()) return;
  const std::string encoded = EncodeGrantKey(key);
  const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared_->mutex) {
    const auto found = shared_->records.find(encoded);
    return found == shared_->records.end() || found->second.generation > generation ||
           !LeaseIsLive(options_.limits, found->second, Now());
  };
  if (options_.block) {
    options_.block(
        [&] {
          MutexLock lock(shared_->mutex);
          return there();
        },
        timeout);
    return;
  }
  const absl::Time until = absl::Now() + timeout;
  MutexLock lock(shared_->mutex);
  while (!there() && absl::Now() < until) {
    // Leases end without a change.
    shared_->changed.WaitFor(shared_->mutex,
                             std::min(until - absl::Now(), absl::Milliseconds(100)));
  }
}

void FakeTokenStore::SetChangeListener(ChangeListener listener) {
  MutexLock lock(listener_mutex_);
  listener_ = std::move(listener);
}

int64_t FakeTokenStore::subscription_session() const {
  MutexLock lock(mutex_);
  return session_;
}

uint64_t FakeTokenStore::FailureDomain(const GrantKey& key) const {
  MutexLock lock(mutex_);
  const auto found = domains_.find(EncodeGrantKey(key));
  return found == domains_.end() ? 0 : found->second;
}

absl::Status FakeTokenStore::CheckWritable() { return Begin(Op::kCheckWritable); }

void FakeTokenStore::SetStatus(absl::Status status) {
  MutexLock lock(mutex_);
  status_ = std::move(status);
}

void FakeTokenStore::SetUnavailable(bool unavailable) {
  SetStatus(unavailable ? Down() : absl::OkStatus());
}

void FakeTokenStore::SetUnavailable(Op op, bool unavailable) {
  MutexLock lock(mutex_);
  unavailable_op_[op] = unavailable;
}

void FakeTokenStore::LoseReplies(Op op, int times) {
  MutexLock lock(mutex_);
  lost_[op] = times;
}

void FakeTokenStore::FailNext(Op op, absl::Status status, int times) {
  MutexLock lock(mutex_);
  failing_[op] = {std::move(status), times};
}

void FakeTokenStore::Before(Op op, std::function<void()> what) {
  MutexLock lock(mutex_);
  before_[op].push_back(std::move(what));
}

void FakeTokenStore::After(Op op, std::function<void()> what) {
  MutexLock lock(mutex_);
  after_[op].push_back(std::move(what));
}

void FakeTokenStore::SetSession(int64_t session) {
  MutexLock lock(mutex_);
  session_ = session;
}

void FakeTokenStore::SetFailureDomain(const GrantKey& key, uint64_t domain) {
  MutexLock lock(mutex_);
  domains_[EncodeGrantKey(key)] = domain;
}

void FakeTokenStore::HoldEvents() {
  MutexLock lock(mutex_);
  hold_events_ = true;
}

void FakeTokenStore::ReleaseEvents() {
  std::deque<ChangeEvent> held;
  {
    MutexLock lock(mutex_);
    hold_events_ = false;
    held.swap(held_);
  }
  for (const ChangeEvent& event : held) Deliver(event);
}

void FakeTokenStore::Damage(const GrantKey& key) {
  MutexLock lock(shared_->mutex);
  shared_->damaged.insert(EncodeGrantKey(key));
}

void FakeTokenStore::AddStrayKey(const std::string& encoded) {
  MutexLock lock(shared_->mutex);
  shared_->records[encoded];
  shared_->damaged.insert(encoded);
}

int FakeTokenStore::count(Op op) const {
  MutexLock lock(mutex_);
  const auto found = counts_.find(op);
  return found == counts_.end() ? 0 : found->second;
}

int FakeTokenStore::operations() const {
  MutexLock lock(mutex_);
  int total = 0;
  for (const auto& [op, count] : counts_) total += count;
  return total;
}

void FakeTokenStore::ResetCounts() {
  MutexLock lock(mutex_);
  counts_.clear();
}

GrantRecord FakeTokenStore::record(const GrantKey& key) const {
  MutexLock lock(shared_->mutex);
  const auto found = shared_->records.find(EncodeGrantKey(key));
  if (found == shared_->records.end()) return GrantRecord{};
  GrantRecord record = found->second;
  record.store_now = ToMilliseconds(Now());
  return record;
}

void FakeTokenStore::Edit(const GrantKey& key, const std::function<void(GrantRecord&)>& change) {
  MutexLock lock(shared_->mutex);
  change(shared_->records[EncodeGrantKey(key)]);
}

void FakeTokenStore::Erase(const GrantKey& key) {
  MutexLock lock(shared_->mutex);
  shared_->records.erase(EncodeGrantKey(key));
}

}  // namespace tokenbroker::testing
