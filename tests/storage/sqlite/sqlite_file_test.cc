// The file itself: who may read it, whose it is, and what a full, busy or damaged one does.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "common/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/sqlite/connection.h"
#include "storage/sqlite/sqlite_token_store.h"
#include "tests/storage/sqlite/sqlite_fixture.h"

namespace tokenbroker {
namespace {

using testing::HasSubstr;

const GrantKey kKey = {"org-1", Environment::kProduction, "people-app"};

RegisterRequest Registration(std::string attempt = "register-1") {
  RegisterRequest request;
  request.key = kKey;
  request.attempt_id = std::move(attempt);
  request.info.dc = "eu";
  request.refresh_token = Secret("refresh-1");
  return request;
}

void ExpectUnavailable(const absl::Status& status, const std::string& text) {
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ErrorReason(status), "STORE_UNAVAILABLE");
  EXPECT_THAT(std::string(status.message()), HasSubstr(text));
}

class SqliteFileTest : public testing::Test {
 protected:
  std::string path() const { return directory_.File("grants.db"); }

  absl::StatusOr<std::unique_ptr<SqliteTokenStore>> TryOpen(
      absl::Duration busy_timeout = absl::Seconds(30)) const {
    SqliteTokenStore::Options options;
    options.path = path();
    options.busy_timeout = busy_timeout;
    options.shared = shared_;
    return SqliteTokenStore::Create(std::move(options));
  }
  std::unique_ptr<SqliteTokenStore> Open(absl::Duration busy_timeout = absl::Seconds(30)) const {
    absl::StatusOr<std::unique_ptr<SqliteTokenStore>> store = TryOpen(busy_timeout);
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
  std::unique_ptr<Connection> Connect() const {
    absl::StatusOr<std::unique_ptr<Connection>> connection =
        Connection::Open(path(), absl::Seconds(30), /*writes=*/true);
    EXPECT_TRUE(connection.ok()) << connection.status();
    return *std::move(connection);
  }
  void MakeFile(const std::string& content, mode_t mode = 0600) const {
    std::ofstream(path(), std::ios::binary) << content;
    ASSERT_EQ(chmod(path().c_str(), mode), 0);
  }
  static int Mode(const std::string& file) {
    struct stat info;
    if (stat(file.c_str(), &info) != 0) return -1;
    return info.st_mode & 07777;
  }

  TemporaryDirectory directory_;
  bool shared_ = false;
};

TEST_F(SqliteFileTest, FilesAreForTheirOwnerOnly) {
  const mode_t old = umask(0);
  const auto store = Open();
  ASSERT_TRUE(store->Register(Registration()).ok());
  umask(old);
  EXPECT_EQ(Mode(path()), 0600);
  EXPECT_EQ(Mode(path() + "-wal"), 0600);
  EXPECT_EQ(Mode(path() + "-shm"), 0600);
  EXPECT_EQ(Mode(path() + ".lock"), 0600);
}

TEST_F(SqliteFileTest, SecondStoreIsRefusedWhateverItCallsTheFile) {
  const std::string link = directory_.File("link.db");
  std::filesystem::create_symlink(path(), link);
  auto first = std::make_optional(Open());
  ExpectUnavailable(TryOpen().status(), path());
  SqliteTokenStore::Options options;
  options.path = link;
  ExpectUnavailable(SqliteTokenStore::Create(options).status(), "in use by another broker");
  // Whoever looks at the file or backs it up is no broker.
  EXPECT_EQ(*Connect()->Ask("SELECT count(*) FROM grants"), "0");
  first.reset();
  EXPECT_TRUE(TryOpen().ok());
}

TEST_F(SqliteFileTest, FileThatOthersMayReadIsMadePrivate) {
  Open();
  ASSERT_EQ(chmod(path().c_str(), 0664), 0);
  const auto store = Open();
  EXPECT_EQ(Mode(path()), 0600);
  EXPECT_EQ(Mode(path() + "-wal"), 0600);
}

TEST_F(SqliteFileTest, LogThatOthersMayReadIsMadePrivate) {
  shared_ = true;
  const auto first = Open();
  ASSERT_EQ(chmod((path() + "-wal").c_str(), 0664), 0);
  const auto second = Open();
  EXPECT_EQ(Mode(path() + "-wal"), 0600);
}

TEST_F(SqliteFileTest, ClosingLeavesOneFile) {
  {
    const auto store = Open();
    ASSERT_TRUE(store->Register(Registration()).ok());
    ASSERT_TRUE(store->Load(kKey).ok());
  }
  EXPECT_NE(Mode(path()), -1);
  EXPECT_EQ(Mode(path() + "-wal"), -1);
  EXPECT_EQ(Mode(path() + "-shm"), -1);
}

TEST_F(SqliteFileTest, ReopeningFindsTheRecord) {
  ASSERT_TRUE(Open()->Register(Registration()).ok());
  const absl::StatusOr<GrantRecord> record = Open()->Load(kKey);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->generation, 1);
  EXPECT_TRUE(record->refresh_token == Secret("refresh-1"));
}

TEST_F(SqliteFileTest, ForgottenTokensAreNotInTheFileAnyMore) {
  {
    const auto store = Open();
    RegisterRequest registration = Registration();
    registration.refresh_token = Secret("canary-refresh-token");
    ASSERT_TRUE(store->Register(registration).ok());
    ASSERT_TRUE(store->Revoke({kKey}).ok());
    ASSERT_TRUE(store->ForgetTokens(kKey, 2).ok());
  }
  std::ifstream file(path(), std::ios::binary);
  const std::string content((std::istreambuf_iterator<char>(file)), {});
  EXPECT_GT(content.size(), 4096u);
  EXPECT_EQ(content.find("canary-refresh-token"), std::string::npos);
}

TEST_F(SqliteFileTest, BadPathsAreRefused) {
  SqliteTokenStore::Options options;
  EXPECT_EQ(SqliteTokenStore::Create(options).status().code(), absl::StatusCode::kInvalidArgument);
  options.path = directory_.File("missing/grants.db");
  ExpectUnavailable(SqliteTokenStore::Create(options).status(), "cannot be made");
  options.path = std::filesystem::path(path()).parent_path();
  ExpectUnavailable(SqliteTokenStore::Create(options).status(), "no regular file");
}

TEST_F(SqliteFileTest, LimitsThatDoNotHoldAreRefused) {
  SqliteTokenStore::Options options;
  options.path = path();
  options.limits.pre_send_lease = absl::Seconds(1);
  EXPECT_EQ(SqliteTokenStore::Create(options).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Mode(path()), -1);
}

TEST_F(SqliteFileTest, SpecialNamesAreOrdinaryFiles) {
  const std::string before = std::filesystem::current_path();
  std::filesystem::current_path(directory_.File(""));
  SqliteTokenStore::Options options;
  options.path = ":memory:";
  EXPECT_TRUE(SqliteTokenStore::Create(options).ok());
  std::filesystem::current_path(before);
  EXPECT_EQ(Mode(directory_.File(":memory:")), 0600);
}

TEST_F(SqliteFileTest, FileOfAnotherKindIsRefusedAndLeftAlone) {
  const std::string content(10'000, 'x');
  MakeFile(content);
  ExpectUnavailable(TryOpen().status(), "not a database");
  std::ifstream file(path(), std::ios::binary);
  EXPECT_EQ(std::string((std::istreambuf_iterator<char>(file)), {}), content);
}

TEST_F(SqliteFileTest, DatabaseOfAnotherProgramIsRefusedAndLeftAlone) {
  MakeFile("");
  ASSERT_TRUE(Connect()->Execute("CREATE TABLE notes (text TEXT)").ok());
  ExpectUnavailable(TryOpen().status(), "another program");
  EXPECT_EQ(*Connect()->Ask("PRAGMA journal_mode"), "delete");
  EXPECT_EQ(*Connect()->Ask("SELECT count(*) FROM sqlite_schema"), "1");
}

TEST_F(SqliteFileTest, SchemaOfANewerBrokerIsRefused) {
  Open();
  ASSERT_TRUE(Connect()->Execute("PRAGMA user_version = 99").ok());
  ExpectUnavailable(TryOpen().status(), "schema 99, made by a newer broker");
}

TEST_F(SqliteFileTest, FileOfTheFirstVersionIsBroughtForward) {
  RegisterRequest registration = Registration();
  registration.tokens = MintedTokens{.access_token = Secret("old"), .lifetime = absl::Hours(1)};
  ASSERT_TRUE(Open()->Register(registration).ok());
  ASSERT_TRUE(Connect()
                  ->Execute("DROP INDEX reserved_grants;"
                            "ALTER TABLE grants DROP COLUMN last_counted_attempt;"
                            "ALTER TABLE grants DROP COLUMN throttled_until;"
                            "ALTER TABLE grants DROP COLUMN access_stored;"
                            "PRAGMA user_version = 1")
                  .ok());
  const auto store = Open();
  const absl::StatusOr<GrantRecord> record = store->Load(kKey);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->throttled_until, absl::InfinitePast());
  EXPECT_EQ(record->access_stored, absl::InfinitePast());
  EXPECT_TRUE(record->access_token == Secret("old"));
  EXPECT_GT(record->AccessLifetime(), absl::Minutes(50));
  EXPECT_EQ(store->CountSend({kKey, "a"})->outcome, CountSendResult::Outcome::kCounted);
}

TEST_F(SqliteFileTest, ReservedRecordsThatNobodyCameBackForAreClearedAway) {
  SqliteTokenStore::Options options;
  options.path = path();
  absl::Time now = absl::Now();
  options.clock.wall = [&now] { return now; };
  const auto store = *SqliteTokenStore::Create(options);
  ASSERT_TRUE(store->Register(Registration()).ok());
  const auto reserve = [&](const std::string& org) {
    ASSERT_TRUE(store->CountSend({{org, Environment::kProduction, "people-app"}, "a"}).ok());
  };
  const auto rows = [&] { return *Connect()->Ask("SELECT count(*) FROM grants"); };
  reserve("org-2");
  reserve("org-3");
  EXPECT_EQ(rows(), "3");
  now += options.limits.ReservedLife() + absl::Seconds(1);
  reserve("org-4");
  EXPECT_EQ(rows(), "2");
}

TEST_F(SqliteFileTest, EmptyFileIsFilled) {
  MakeFile("", 0644);
  EXPECT_TRUE(Open()->Register(Registration()).ok());
  EXPECT_EQ(Mode(path()), 0600);
}

TEST_F(SqliteFileTest, BusyFileIsUnavailableForWritersOnlyAndRecovers) {
  const auto store = Open(absl::Milliseconds(20));
  ASSERT_TRUE(store->Register(Registration()).ok());
  {
    const std::unique_ptr<Connection> other = Connect();
    absl::StatusOr<Transaction> transaction = Transaction::Begin(*other);
    ASSERT_TRUE(transaction.ok());
    ExpectUnavailable(store->Revoke({kKey}).status(), "locked");
    ExpectUnavailable(store->CheckWritable(), "locked");
    EXPECT_TRUE(store->Load(kKey).ok());
    EXPECT_TRUE(store->ListPage("", "", 10).ok());
  }
  EXPECT_TRUE(store->CheckWritable().ok());
  EXPECT_TRUE(store->Revoke({kKey}).ok());
}

TEST_F(SqliteFileTest, DamagedRowIsUnreadableAndOthersAreNot) {
  const auto store = Open();
  ASSERT_TRUE(store->Register(Registration()).ok());
  RegisterRequest healthy = Registration();
  healthy.key.org_id = "org-2";
  ASSERT_TRUE(store->Register(healthy).ok());
  for (const char* damage :
       {"UPDATE grants SET type = 9 WHERE rowid = 1",
        "UPDATE grants SET type = 1, state = 0 WHERE rowid = 1",
        "UPDATE grants SET state = 1, phase = 7 WHERE rowid = 1",
        "UPDATE grants SET phase = 0, last_failure = -1 WHERE rowid = 1",
        "UPDATE grants SET last_failure = 0, scopes = x'ffffffff' WHERE rowid = 1",
        "UPDATE grants SET scopes = x'', labels = x'0100000041' WHERE rowid = 1",
        "UPDATE grants SET labels = x'', sends = x'01' WHERE rowid = 1",
        "UPDATE grants SET sends = x'', key = x'00' WHERE rowid = 1"}) {
    ASSERT_TRUE(Connect()->Execute(damage).ok()) << damage;
    const absl::StatusOr<GrantPage> page = store->ListPage("", "", 10);
    ASSERT_TRUE(page.ok()) << damage << page.status();
    EXPECT_EQ(page->unreadable.size(), 1u) << damage;
    ASSERT_EQ(page->records.size(), 1u) << damage;
    EXPECT_EQ(page->records[0].key, healthy.key) << damage;
    if (std::string(damage).find("key") != std::string::npos) continue;  // it is not found any more
    EXPECT_EQ(ErrorReason(store->Load(kKey).status()), "RECORD_UNREADABLE") << damage;
    EXPECT_EQ(ErrorReason(store->Revoke({kKey}).status()), "RECORD_UNREADABLE") << damage;
  }
  EXPECT_TRUE(store->Load(healthy.key).ok());
}

TEST_F(SqliteFileTest, DamagedPagesAreUnavailableNotACrash) {
  {
    const auto store = Open();
    for (int i = 0; i < 200; ++i) {
      RegisterRequest request = Registration();
      request.key.org_id = "org-" + std::to_string(i);
      ASSERT_TRUE(store->Register(request).ok());
    }
  }
  {
    // All pages but the first, which names the schema.
    std::fstream file(path(), std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(0, std::ios::end);
    const auto size = static_cast<size_t>(file.tellp());
    ASSERT_GT(size, 20'000u);
    file.seekp(4096);
    file << std::string(size - 4096, '\xa5');
  }
  const absl::StatusOr<std::unique_ptr<SqliteTokenStore>> store = TryOpen();
  ASSERT_TRUE(store.ok()) << store.status();
  ExpectUnavailable((*store)->ListPage("", "", 1000).status(), "malformed");
  ExpectUnavailable((*store)->Register(Registration()).status(), "malformed");
  EXPECT_FALSE((*store)->CheckIntegrity().ok());
}

// A limit on file sizes is what a full disk is to SQLite's log, and needs no privileges.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old_);
    struct rlimit limit = old_;
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &old_); }

 private:
  struct rlimit old_;
};

TEST_F(SqliteFileTest, FullDiskIsUnavailableAndRecovers) {
  const auto store = Open();
  ASSERT_TRUE(store->Register(Registration()).ok());
  {
    const FileSizeLimit limit(1024);  // not one more page
    ExpectUnavailable(store->Register(Registration("register-2")).status(), "SQLite");
    ExpectUnavailable(store->CheckWritable(), "SQLite");
    // What is stored can still be read.
    const absl::StatusOr<GrantRecord> record = store->Load(kKey);
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_EQ(record->generation, 1);
  }
  EXPECT_EQ(store->CheckWritable(), absl::OkStatus());
  EXPECT_TRUE(store->Revoke({kKey}).ok());
  EXPECT_EQ(store->CheckIntegrity(), absl::OkStatus());
}

TEST_F(SqliteFileTest, ReadOnlyFileIsUnavailable) {
  Open();
  ASSERT_EQ(chmod(path().c_str(), 0400), 0);
  if (geteuid() != 0) return ExpectUnavailable(TryOpen().status(), "readonly");
  // Nothing is read-only for root: a child looks as somebody else, who owns the file and its
  // folder.
  constexpr uid_t kNobody = 65534;
  const std::string folder = path().substr(0, path().rfind('/'));
  ASSERT_EQ(chown(folder.c_str(), kNobody, kNobody), 0);
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    ASSERT_EQ(chown(entry.path().c_str(), kNobody, kNobody), 0);
  }
  EXPECT_EXIT(
      {
        const bool dropped = setgid(kNobody) == 0 && setuid(kNobody) == 0;
        const auto store = TryOpen();
        std::cerr << (dropped ? "" : "still root: ")
                  << (store.ok() ? "opened" : store.status().message());
        _exit(dropped ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "readonly");
}

}  // namespace
}  // namespace tokenbroker
