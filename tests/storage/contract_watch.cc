// Change events and waiting for them.
#include <algorithm>
#include <chrono>
#include <future>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/mutex.h"
#include "tests/storage/token_store_contract.h"

namespace tokenbroker {
namespace {

// Long enough for any machine; reached only by a test that fails.
constexpr absl::Duration kDeadline = absl::Seconds(30);

// Keeps what a listener is told.
class EventLog {
 public:
  TokenStore::ChangeListener Listener() {
    return [this](const ChangeEvent& event) {
      MutexLock lock(mutex_);
      events_.push_back(event);
      changed_.NotifyAll();
    };
  }
  bool Has(const GrantKey& key, int64_t generation, GrantState state) {
    MutexLock lock(mutex_);
    return Knows(key, generation, state);
  }
  // False after the deadline.
  bool WaitFor(const GrantKey& key, int64_t generation, GrantState state) {
    const auto until = std::chrono::steady_clock::now() + absl::ToChronoSeconds(kDeadline);
    MutexLock lock(mutex_);
    for (;;) {
      if (Knows(key, generation, state)) return true;
      if (std::chrono::steady_clock::now() > until) return false;
      changed_.WaitFor(mutex_, absl::Seconds(1));
    }
  }
  bool WaitForCount(size_t count) {
    const auto until = std::chrono::steady_clock::now() + absl::ToChronoSeconds(kDeadline);
    MutexLock lock(mutex_);
    while (events_.size() < count) {
      if (std::chrono::steady_clock::now() > until) return false;
      changed_.WaitFor(mutex_, absl::Seconds(1));
    }
    return true;
  }
  size_t size() {
    MutexLock lock(mutex_);
    return events_.size();
  }
  // Told twice is told once.
  size_t changes() {
    MutexLock lock(mutex_);
    std::set<std::tuple<std::string, int64_t, GrantState>> changes;
    for (const ChangeEvent& event : events_) {
      changes.emplace(EncodeGrantKey(event.key), event.generation, event.state);
    }
    return changes.size();
  }

 private:
  bool Knows(const GrantKey& key, int64_t generation, GrantState state)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return std::any_of(events_.begin(), events_.end(), [&](const ChangeEvent& event) {
      return event.key == key && event.generation == generation && event.state == state;
    });
  }

  Mutex mutex_;
  CondVar changed_;
  std::vector<ChangeEvent> events_ ABSL_GUARDED_BY(mutex_);
};

// Waits until events can no longer be missed.
bool Subscribed(TokenStore& store) {
  const auto until = std::chrono::steady_clock::now() + absl::ToChronoSeconds(kDeadline);
  while (store.subscription_session() == 0) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST_P(TokenStoreContract, ListenerHearsEveryKindOfChange) {
  EventLog log;
  store().SetChangeListener(log.Listener());
  ASSERT_TRUE(Subscribed(store()));
  RegisterOrg(Key());
  EXPECT_TRUE(log.WaitFor(Key(), 1, GrantState::kActive));
  AcquireAndSend(Key(), "a");
  Commit(Key(), "a", 1);
  EXPECT_TRUE(log.WaitFor(Key(), 2, GrantState::kActive));
  FailOnce(Key(), "b", FailureKind::kNeedsConsent, 2);
  EXPECT_TRUE(log.WaitFor(Key(), 2, GrantState::kNeedsConsent));
  Revoke(Key());
  EXPECT_TRUE(log.WaitFor(Key(), 3, GrantState::kRevoked));
  store().SetChangeListener(nullptr);
}

// Whoever registers and then asks the same replica is not answered from before.
TEST_P(TokenStoreContract, ListenerHasHeardOfARegistrationWhenItReturns) {
  EventLog log;
  store().SetChangeListener(log.Listener());
  for (int i = 1; i <= 20; ++i) {
    const GrantKey key = Key(absl::StrCat("org-", i));
    RegisterOrg(key);
    EXPECT_TRUE(log.Has(key, 1, GrantState::kActive));
    Revoke(key);
    EXPECT_TRUE(log.Has(key, 2, GrantState::kRevoked));
  }
  store().SetChangeListener(nullptr);
}

TEST_P(TokenStoreContract, ListenerHearsWhatOtherReplicasDo) {
  if (!fixture().EventsCrossStores()) GTEST_SKIP() << "this backend's events stay in one store";
  EventLog log;
  other().SetChangeListener(log.Listener());
  ASSERT_TRUE(Subscribed(other()));
  RegisterOrg(Key());
  EXPECT_TRUE(log.WaitFor(Key(), 1, GrantState::kActive));
  AcquireAndSend(Key(), "a");
  Commit(Key(), "a", 1);
  EXPECT_TRUE(log.WaitFor(Key(), 2, GrantState::kActive));
  FailOnce(Key(), "b", FailureKind::kNeedsConsent, 2);
  EXPECT_TRUE(log.WaitFor(Key(), 2, GrantState::kNeedsConsent));
  Revoke(Key());
  EXPECT_TRUE(log.WaitFor(Key(), 3, GrantState::kRevoked));
  other().SetChangeListener(nullptr);
}

TEST_P(TokenStoreContract, EventsNameHostileKeysRight) {
  using namespace std::string_literals;
  EventLog log;
  store().SetChangeListener(log.Listener());
  ASSERT_TRUE(Subscribed(store()));
  const std::vector<GrantKey> keys = {{"a:b{}\0\x01\xff"s, Environment::kSandbox, "\0"s},
                                      {std::string(1024, '\0'), Environment::kDeveloper, ""}};
  for (const GrantKey& key : keys) {
    RegisterOrg(key);
    EXPECT_TRUE(log.WaitFor(key, 1, GrantState::kActive));
  }
  store().SetChangeListener(nullptr);
}

TEST_P(TokenStoreContract, WhatChangesNothingIsNoEvent) {
  RegisterOrg(Key());
  EventLog log;
  store().SetChangeListener(log.Listener());
  ASSERT_TRUE(Subscribed(store()));
  Register(Registration(Key()));  // a duplicate
  const int64_t epoch = AcquireAndSend(Key(), "a");
  Fail(Key(), "b", epoch, 1);  // stale
  Commit(Key(), "b", 9);       // superseded
  Load(Key());
  Revoke(Key());  // the one change, and in order the last event
  Revoke(Key());
  Commit(Key(), "a", 1);  // revoked
  ASSERT_EQ(store().ForgetTokens(Key(), 2), absl::OkStatus());
  RegisterOrg(Key("org-2"));
  ASSERT_TRUE(log.WaitFor(Key("org-2"), 1, GrantState::kActive));
  // The registration before the listener may still have been under way to a subscription.
  EXPECT_TRUE(log.WaitFor(Key(), 2, GrantState::kRevoked));
  EXPECT_LE(log.changes(), 3u);
  store().SetChangeListener(nullptr);
}

TEST_P(TokenStoreContract, NoListenerIsCalledAfterItWasTakenAway) {
  EventLog log;
  store().SetChangeListener(log.Listener());
  ASSERT_TRUE(Subscribed(store()));
  RegisterOrg(Key());
  ASSERT_TRUE(log.WaitForCount(1));
  store().SetChangeListener(nullptr);
  const size_t before = log.size();
  Revoke(Key());
  store().WaitForChange(Key(), 1, kDeadline);  // the change is there; a late event had its time
  EXPECT_EQ(log.size(), before);
}

TEST_P(TokenStoreContract, WaitReturnsAtOnceWhenThereIsNothingToWaitFor) {
  const auto start = std::chrono::steady_clock::now();
  store().WaitForChange(Key(), 0, kDeadline);  // not found
  RegisterOrg(Key());
  store().WaitForChange(Key(), 0, kDeadline);  // already newer
  store().WaitForChange(Key(), 1, kDeadline);  // nobody is at it
  AcquireAndSend(Key(), "a");
  Commit(Key(), "a", 1);
  store().WaitForChange(Key(), 1, kDeadline);
  Acquire(Key(), "b", 2);
  Advance(limits_.pre_send_lease);
  store().WaitForChange(Key(), 2, kDeadline);  // the lease has run out
  EXPECT_LT(std::chrono::steady_clock::now() - start, absl::ToChronoSeconds(kDeadline / 2));
}

TEST_P(TokenStoreContract, WaitEndsWithItsTimeout) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  const auto start = std::chrono::steady_clock::now();
  store().WaitForChange(Key(), 1, absl::Milliseconds(20));
  const auto waited = std::chrono::steady_clock::now() - start;
  EXPECT_LT(waited, absl::ToChronoSeconds(kDeadline / 2));
}

// Runs WaitForChange until the record really has a newer generation or no lease (it may return
// early), as its callers do.
void WaitUntilChanged(TokenStore& store, const GrantKey& key, int64_t generation) {
  for (;;) {
    store.WaitForChange(key, generation, kDeadline);
    const absl::StatusOr<GrantRecord> record = store.Load(key);
    if (!record.ok() || record->generation > generation || record->phase == LeasePhase::kNone) {
      return;
    }
  }
}

TEST_P(TokenStoreContract, WaitEndsWithACommitOfAnotherThread) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  std::future<void> waiting =
      std::async(std::launch::async, [&] { WaitUntilChanged(store(), Key(), 1); });
  Commit(Key(), "a", 1);
  EXPECT_EQ(waiting.wait_for(absl::ToChronoSeconds(kDeadline)), std::future_status::ready);
}

TEST_P(TokenStoreContract, WaitEndsWithACommitOfAnotherReplica) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  std::future<void> waiting =
      std::async(std::launch::async, [&] { WaitUntilChanged(other(), Key(), 1); });
  Commit(Key(), "a", 1);
  EXPECT_EQ(waiting.wait_for(absl::ToChronoSeconds(kDeadline)), std::future_status::ready);
}

TEST_P(TokenStoreContract, WaitEndsWithAFailure) {
  RegisterOrg(Key());
  const int64_t epoch = AcquireAndSend(Key(), "a");
  std::future<void> waiting =
      std::async(std::launch::async, [&] { WaitUntilChanged(store(), Key(), 1); });
  Fail(Key(), "a", epoch, 1, FailureKind::kTransient);
  EXPECT_EQ(waiting.wait_for(absl::ToChronoSeconds(kDeadline)), std::future_status::ready);
}

TEST_P(TokenStoreContract, ManyMayWaitForOneGrant) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  std::vector<std::future<void>> waiting;
  for (int i = 0; i < 8; ++i) {
    waiting.push_back(std::async(std::launch::async, [&] { WaitUntilChanged(store(), Key(), 1); }));
  }
  Commit(Key(), "a", 1);
  for (std::future<void>& one : waiting) {
    EXPECT_EQ(one.wait_for(absl::ToChronoSeconds(kDeadline)), std::future_status::ready);
  }
}

TEST_P(TokenStoreContract, SubscriptionNamesItsSession) {
  ASSERT_TRUE(Subscribed(store()));
  const int64_t session = store().subscription_session();
  EXPECT_NE(session, 0);
  RegisterOrg(Key());
  EXPECT_EQ(store().subscription_session(), session);
}

}  // namespace
}  // namespace tokenbroker
