// Several processes on one file, and processes that are killed.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/sqlite/sqlite_token_store.h"
#include "tests/storage/sqlite/sqlite_fixture.h"

namespace tokenbroker {
namespace {

const GrantKey kKey = {"org-1", Environment::kProduction, "people-app"};

// Runs `body` in a child process, which reports numbers through a pipe. Forks: the parent must have
// no store open and no other thread.
class Child {
 public:
  explicit Child(const std::function<void(const std::function<void(int64_t)>& report)>& body) {
    int ends[2];
    if (pipe(ends) != 0) {
      ADD_FAILURE() << "pipe";
      return;
    }
    process_ = fork();
    if (process_ == 0) {
      close(ends[0]);
      body([&](int64_t number) {
        // Shorter than PIPE_BUF: whole or not at all.
        if (write(ends[1], &number, sizeof(number)) != sizeof(number)) _exit(2);
      });
      _exit(0);
    }
    close(ends[1]);
    read_end_ = ends[0];
  }
  ~Child() {
    Kill();
    if (read_end_ >= 0) close(read_end_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // False: the child has ended.
  bool Next(int64_t& number) {
    return read(read_end_, &number, sizeof(number)) == static_cast<ssize_t>(sizeof(number));
  }
  void Kill() {
    if (process_ <= 0) return;
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
    process_ = -1;
  }

 private:
  pid_t process_ = -1;
  int read_end_ = -1;
};

class SqliteProcessTest : public testing::Test {
 protected:
  std::unique_ptr<SqliteTokenStore> Open() const {
    SqliteTokenStore::Options options;
    options.path = directory_.File("grants.db");
    options.busy_timeout = absl::Seconds(60);
    options.shared = true;
    absl::StatusOr<std::unique_ptr<SqliteTokenStore>> store =
        SqliteTokenStore::Create(std::move(options));
    if (!store.ok()) {
      ADD_FAILURE() << store.status();
      return nullptr;
    }
    return *std::move(store);
  }
  void RegisterOrg() const {
    RegisterRequest request;
    request.key = kKey;
    request.attempt_id = "register-1";
    request.info.dc = "eu";
    request.refresh_token = Secret("refresh-1");
    ASSERT_TRUE(Open()->Register(request).ok());
  }
  static CommitRequest CommitFrom(int64_t generation) {
    CommitRequest request{kKey, absl::StrCat("attempt-", generation), generation, {}};
    request.tokens.access_token = Secret(absl::StrCat("access-", generation + 1));
    request.tokens.refresh_token = Secret(absl::StrCat("refresh-", generation + 1));
    request.tokens.lifetime = absl::Hours(1);
    return request;
  }

  TemporaryDirectory directory_;
};

TEST_F(SqliteProcessTest, WhatWasAcknowledgedSurvivesKill) {
  RegisterOrg();
  int64_t acknowledged = 1;
  for (int round = 0; round < 6; ++round) {
    Child child([&](const std::function<void(int64_t)>& report) {
      const std::unique_ptr<SqliteTokenStore> store = Open();
      if (store == nullptr) return;
      absl::StatusOr<GrantRecord> record = store->Load(kKey);
      for (int64_t generation = record.ok() ? record->generation : -1;;) {
        const absl::StatusOr<CommitResult> committed = store->Commit(CommitFrom(generation));
        if (!committed.ok() || committed->outcome != CommitResult::Outcome::kCommitted) return;
        report(generation = committed->record.generation);
      }
    });
    // Somewhere in the middle of a later commit.
    for (int i = 0; i < 20 + 7 * round; ++i) ASSERT_TRUE(child.Next(acknowledged));
    child.Kill();
    // Acknowledged before it died, though read only now.
    while (child.Next(acknowledged)) {
    }

    const std::unique_ptr<SqliteTokenStore> store = Open();
    ASSERT_NE(store, nullptr);
    EXPECT_EQ(store->CheckIntegrity(), absl::OkStatus());
    const absl::StatusOr<GrantRecord> record = store->Load(kKey);
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_GE(record->generation, acknowledged);
    // At most the one commit whose acknowledgement was not heard.
    EXPECT_LE(record->generation, acknowledged + 1);
    EXPECT_TRUE(record->access_token == Secret(absl::StrCat("access-", record->generation)));
    EXPECT_TRUE(record->refresh_token == Secret(absl::StrCat("refresh-", record->generation)));
    EXPECT_EQ(record->last_commit_attempt, absl::StrCat("attempt-", record->generation - 1));
    acknowledged = record->generation;
    EXPECT_EQ(store->CheckWritable(), absl::OkStatus());
  }
  EXPECT_GT(acknowledged, 100);
}

TEST_F(SqliteProcessTest, TheFileBelongsToOneProcessUntilItIsKilled) {
  SqliteTokenStore::Options options;
  options.path = directory_.File("grants.db");
  Child child([&](const std::function<void(int64_t)>& report) {
    const absl::StatusOr<std::unique_ptr<SqliteTokenStore>> store =
        SqliteTokenStore::Create(options);
    report(store.ok() ? 1 : 0);
    pause();
  });
  int64_t opened = 0;
  ASSERT_TRUE(child.Next(opened));
  ASSERT_EQ(opened, 1);
  const absl::Status refused = SqliteTokenStore::Create(options).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(refused.message()), testing::HasSubstr(options.path));
  EXPECT_THAT(std::string(refused.message()), testing::HasSubstr("in use by another broker"));
  child.Kill();
  const absl::StatusOr<std::unique_ptr<SqliteTokenStore>> store = SqliteTokenStore::Create(options);
  EXPECT_TRUE(store.ok()) << store.status();
}

TEST_F(SqliteProcessTest, KilledHolderLeavesItsLeaseToRunOut) {
  RegisterOrg();
  Child child([&](const std::function<void(int64_t)>& report) {
    const std::unique_ptr<SqliteTokenStore> store = Open();
    const absl::StatusOr<AcquireResult> held = store->Acquire({kKey, "a", 1, Purpose::kCaller});
    if (!held.ok()) return;
    if (!store->MarkSent({kKey, "a", held->epoch}).ok()) return;
    report(held->epoch);
    pause();
  });
  int64_t epoch = 0;
  ASSERT_TRUE(child.Next(epoch));
  child.Kill();
  const std::unique_ptr<SqliteTokenStore> store = Open();
  ASSERT_NE(store, nullptr);
  const absl::StatusOr<AcquireResult> result = store->Acquire({kKey, "b", 1, Purpose::kCaller});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->outcome, AcquireResult::Outcome::kBusy);
  EXPECT_EQ(result->record.epoch, epoch);
  EXPECT_EQ(result->record.sends.size(), 1u);
}

TEST_F(SqliteProcessTest, OneOfManyProcessesAcquires) {
  RegisterOrg();
  std::vector<std::unique_ptr<Child>> children;
  for (int i = 0; i < 6; ++i) {
    children.push_back(std::make_unique<Child>([&, i](const auto& report) {
      const absl::StatusOr<AcquireResult> result =
          Open()->Acquire({kKey, absl::StrCat("process-", i), 1, Purpose::kCaller});
      if (!result.ok()) return;
      report(result->outcome == AcquireResult::Outcome::kGranted ? 1 : 0);
    }));
  }
  int64_t granted = 0;
  for (const std::unique_ptr<Child>& child : children) {
    int64_t one = 0;
    ASSERT_TRUE(child->Next(one));
    granted += one;
  }
  EXPECT_EQ(granted, 1);
}

TEST_F(SqliteProcessTest, ProcessesMayCreateTheFileTogether) {
  std::vector<std::unique_ptr<Child>> children;
  for (int i = 0; i < 6; ++i) {
    children.push_back(std::make_unique<Child>([&, i](const auto& report) {
      const std::unique_ptr<SqliteTokenStore> store = Open();
      RegisterRequest request;
      request.key = {absl::StrCat("org-", i), Environment::kProduction, "people-app"};
      request.attempt_id = "register";
      report(store != nullptr && store->Register(request).ok() ? 1 : 0);
    }));
  }
  for (const std::unique_ptr<Child>& child : children) {
    int64_t registered = 0;
    ASSERT_TRUE(child->Next(registered));
    EXPECT_EQ(registered, 1);
  }
  const absl::StatusOr<GrantPage> page = Open()->ListPage("", "", 100);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(page->records.size(), 6u);
}

TEST_F(SqliteProcessTest, CommitsOfTwoProcessesNeverOverwriteEachOther) {
  RegisterOrg();
  constexpr int kCommits = 50;
  const auto body = [&](const std::function<void(int64_t)>& report) {
    const std::unique_ptr<SqliteTokenStore> store = Open();
    const std::string me = absl::StrCat("process-", getpid(), "-");
    int64_t generation = 1;
    for (int done = 0; done < kCommits;) {
      CommitRequest request = CommitFrom(generation);
      request.attempt_id = absl::StrCat(me, generation);
      const absl::StatusOr<CommitResult> result = store->Commit(request);
      if (!result.ok()) return;
      generation = result->record.generation;
      if (result->outcome == CommitResult::Outcome::kCommitted) {
        report(generation);
        ++done;
      }
    }
  };
  Child a(body);
  Child b(body);
  std::vector<int> times(2 * kCommits + 2, 0);
  for (Child* child : {&a, &b}) {
    int64_t generation = 0;
    while (child->Next(generation)) {
      ASSERT_LT(generation, static_cast<int64_t>(times.size()));
      ++times[generation];
    }
  }
  // Every generation was made by exactly one of them.
  for (size_t generation = 2; generation < times.size(); ++generation) {
    EXPECT_EQ(times[generation], 1) << generation;
  }
}

TEST_F(SqliteProcessTest, WaitSeesWhatAnotherProcessCommits) {
  RegisterOrg();
  Child child([&](const std::function<void(int64_t)>& report) {
    const std::unique_ptr<SqliteTokenStore> store = Open();
    const absl::StatusOr<AcquireResult> held = store->Acquire({kKey, "a", 1, Purpose::kCaller});
    if (!held.ok()) return;
    report(held->epoch);
    while (store->Commit(CommitFrom(1)).ok()) {
      report(2);
      pause();
    }
  });
  int64_t epoch = 0;
  ASSERT_TRUE(child.Next(epoch));
  const std::unique_ptr<SqliteTokenStore> store = Open();
  ASSERT_NE(store, nullptr);
  for (int i = 0; i < 100; ++i) {
    store->WaitForChange(kKey, 1, absl::Seconds(30));
    const absl::StatusOr<GrantRecord> record = store->Load(kKey);
    ASSERT_TRUE(record.ok()) << record.status();
    if (record->generation == 2) return;
  }
  FAIL() << "the commit was not seen";
}

}  // namespace
}  // namespace tokenbroker
