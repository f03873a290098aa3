// The same on real threads: the executor of the running service, callers from everywhere.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "common/mutex.h"
#include "server/issuing/grant_registrar.h"
#include "server/issuing/thread_executor.h"
#include "server/issuing/token_issuer.h"
#include "tests/server/issuing/world.h"
#include "tests/testing/fake_accounts_server.h"
#include "tests/testing/fake_token_store.h"

namespace tokenbroker {
namespace {

using testing::ScriptedReply;

// Answers of many calls.
class Answers {
 public:
  TokenIssuer::Callback Callback() {
    return [this](absl::StatusOr<TokenAnswer> answer) { Add(answer); };
  }
  void Add(const absl::StatusOr<TokenAnswer>& answer) {
    MutexLock lock(mutex_);
    ++total_;
    if (answer.ok()) {
      ++versions_[answer->token->version];
    } else {
      const std::string reason = ErrorReason(answer.status());
      ++errors_[reason.empty() ? answer.status().ToString() : reason];
    }
    changed_.NotifyAll();
  }
  bool WaitFor(int count) {
    const absl::Time give_up = absl::Now() + absl::Seconds(60);
    MutexLock lock(mutex_);
    while (total_ < count) {
      if (absl::Now() > give_up) return false;
      changed_.WaitFor(mutex_, absl::Seconds(1));
    }
    return true;
  }
  int total() {
    MutexLock lock(mutex_);
    return total_;
  }
  std::map<int64_t, int> versions() {
    MutexLock lock(mutex_);
    return versions_;
  }
  std::map<std::string, int> errors() {
    MutexLock lock(mutex_);
    return errors_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int total_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<int64_t, int> versions_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int> errors_ ABSL_GUARDED_BY(mutex_);
};

struct ThreadedReplica {
  ThreadedReplica(TokenStore* store, AccountsServer* accounts, const ZohoSetup* setup)
      : executor({.threads_per_lane = 4}, Clock::System()),
        refresher(ProtocolLimits(), {}, setup, store, accounts, &executor, Clock::System(),
                  &events),
        issuer(TokenIssuer::Options(), store, &refresher, &executor, Clock::System()),
        registrar(store, &refresher, &executor, Clock::System(), &events) {}
  ~ThreadedReplica() { executor.Shutdown(); }

  IssuingEvents events;
  ThreadExecutor executor;
  Refresher refresher;
  TokenIssuer issuer;
  GrantRegistrar registrar;
};

class IssuingThreads : public ::testing::Test {
 protected:
  IssuingThreads() : more_(store_.AnotherReplica()) {
    replicas_.push_back(std::make_unique<ThreadedReplica>(&store_, &zoho_, &setup_));
    replicas_.push_back(std::make_unique<ThreadedReplica>(more_.get(), &zoho_, &setup_));
  }
  ~IssuingThreads() override { zoho_.Release(); }

  static GrantKey KeyOf(const std::string& org) { return {org, Environment::kProduction, "web"}; }

  void Add(const std::string& org) {
    RegisterRequest request;
    request.key = KeyOf(org);
    request.attempt_id = NewAttemptId();
    request.info.dc = "us";
    request.refresh_token = Secret(absl::StrCat("rt-", org));
    ASSERT_TRUE(store_.Register(request).ok());
  }
  static void Ask(ThreadedReplica& replica, const TokenQuery& query, Answers& answers) {
    if (auto cached = replica.issuer.TryCached(query)) {
      answers.Add(*cached);
    } else {
      replica.issuer.GetAccessToken(query, absl::Seconds(60), answers.Callback());
    }
  }

  const ZohoSetup setup_ = TestSetup();
  testing::FakeAccountsServer zoho_;
  testing::FakeTokenStore store_;
  std::unique_ptr<testing::FakeTokenStore> more_;
  std::vector<std::unique_ptr<ThreadedReplica>> replicas_;
};

TEST_F(IssuingThreads, TenThousandCallersOnAnExpiredGrantCostOneSend) {
  Add("acme");
  zoho_.Hold();
  Answers answers;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 2500; ++i) {
        Ask(*replicas_[t % 2], {.org_id = "acme", .oauth_client = i % 2 == 0 ? "web" : ""},
            answers);
      }
    });
  }
  ASSERT_TRUE(zoho_.WaitForSends(1));
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(answers.total(), 0);
  zoho_.Release();
  ASSERT_TRUE(answers.WaitFor(10'000));
  EXPECT_EQ(zoho_.sends(), 1);
  EXPECT_TRUE(answers.errors().empty());
  EXPECT_EQ(answers.versions(), (std::map<int64_t, int>{{2, 10'000}}));
}

TEST_F(IssuingThreads, TenThousandCallersWithADeadTokenCostOneSend) {
  Add("acme");
  Answers first;
  for (auto& replica : replicas_) Ask(*replica, {.org_id = "acme", .oauth_client = "web"}, first);
  ASSERT_TRUE(first.WaitFor(2));
  ASSERT_EQ(zoho_.sends(), 1);
  Answers answers;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 2500; ++i) {
        Ask(*replicas_[t % 2], {.org_id = "acme", .oauth_client = "web", .rejected_version = 2},
            answers);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(answers.WaitFor(10'000));
  EXPECT_EQ(zoho_.sends(), 2);
  EXPECT_EQ(answers.versions(), (std::map<int64_t, int>{{3, 10'000}}));
}

TEST_F(IssuingThreads, AThousandGrantsCostAThousandSends) {
  for (int i = 0; i < 1000; ++i) Add(absl::StrCat("org", i));
  Answers answers;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 1000; ++i) {
        const std::string org = absl::StrCat("org", (i * 7 + t) % 1000);
        Ask(*replicas_[t % 2], {.org_id = org, .oauth_client = "web"}, answers);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(answers.WaitFor(4000));
  EXPECT_EQ(zoho_.sends(), 1000);
  EXPECT_EQ(answers.versions(), (std::map<int64_t, int>{{2, 4000}}));
}

// Everything at once, for the sanitizers and for "exactly once".
TEST_F(IssuingThreads, EveryCallIsAnsweredOnceWhateverHappens) {
  for (int i = 0; i < 8; ++i) Add(absl::StrCat("org", i));
  Answers answers;
  std::atomic<int> asked{0};
  std::atomic<bool> stop{false};
  std::thread troubles([&] {
    for (int i = 0; !stop; ++i) {
      testing::FakeTokenStore& store = i % 2 == 0 ? store_ : *more_;
      const std::string org = absl::StrCat("org", i % 8);
      switch (i % 7) {
        case 0:
          store.SetSession(i % 3 == 0 ? 0 : 2 + i);
          break;
        case 1:
          store.LoseReplies(testing::FakeTokenStore::Op::kCommit);
          break;
        case 2:
          zoho_.Script(absl::StrCat("rt-", org), ScriptedReply::Transient());
          break;
        case 3:
          replicas_[i % 2]->registrar.Revoke(KeyOf(org), absl::Seconds(5), [](auto) {});
          break;
        case 4:
          Add(org);
          break;
        case 5:
          replicas_[i % 2]->issuer.RefreshInBackground(KeyOf(org));
          break;
        default:
          store.LoseReplies(testing::FakeTokenStore::Op::kFail);
      }
      std::this_thread::yield();
    }
  });
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&, t] {
      ThreadedReplica& replica = *replicas_[t % 2];
      for (int i = 0; i < 1500; ++i) {
        const std::string org = absl::StrCat("org", i % 8);
        TokenQuery query{.org_id = org, .oauth_client = i % 3 == 0 ? "" : "web"};
        if (i % 5 == 0) query.rejected_version = 2;
        ++asked;
        if (auto cached = replica.issuer.TryCached(query)) {
          answers.Add(*cached);
          continue;
        }
        const auto ticket = replica.issuer.GetAccessToken(
            query, i % 4 == 0 ? absl::Milliseconds(1) : absl::Seconds(2), answers.Callback());
        if (i % 6 == 0) replica.issuer.Cancel(ticket);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  // The others go on while the first replica drains and ends.
  replicas_[0]->issuer.Drain(absl::Seconds(1));
  replicas_[0]->registrar.Drain(absl::Seconds(1));
  stop = true;
  troubles.join();
  EXPECT_TRUE(answers.WaitFor(asked));
  replicas_.clear();
  EXPECT_EQ(answers.total(), asked);
  for (int i = 0; i < 8; ++i) {
    EXPECT_LE(zoho_.max_concurrent(absl::StrCat("rt-org", i)), 1);
  }
}

}  // namespace
}  // namespace tokenbroker
