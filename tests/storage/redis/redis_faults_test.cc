// Servers that die, refuse, fill up, or have replicas that lag: each on a redis-server of its own.
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "common/errors.h"
#include "common/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/redis/redis_token_store.h"
#include "storage/redis/required_acl.h"
#include "tests/storage/redis/redis_fixture.h"
#include "tests/testing/redis_server.h"

namespace tokenbroker {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr absl::Duration kDeadline = absl::Seconds(30);

GrantKey Key(std::string_view org = "org-1") {
  return {std::string(org), Environment::kProduction, "people-app"};
}

RegisterRequest Registration(const GrantKey& key, std::string_view attempt = "register-1") {
  RegisterRequest request;
  request.key = key;
  request.attempt_id = std::string(attempt);
  request.info.dc = "eu";
  request.refresh_token = Secret("refresh-canary");
  return request;
}

MintedTokens Tokens(std::string_view access) {
  return {.access_token = Secret(std::string(access)), .lifetime = absl::Hours(1)};
}

std::unique_ptr<RedisServer> StartServer(RedisServer::Options options = {}) {
  absl::StatusOr<std::unique_ptr<RedisServer>> server = RedisServer::Start(std::move(options));
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

std::unique_ptr<RedisTokenStore> OpenStore(RedisTokenStoreOptions options) {
  absl::StatusOr<std::unique_ptr<RedisTokenStore>> store =
      RedisTokenStore::Create(std::move(options));
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *std::move(store) : nullptr;
}

std::string Order(const RedisServer& server, const std::vector<std::string>& words) {
  const absl::StatusOr<std::string> reply = server.Command(words);
  EXPECT_TRUE(reply.ok()) << words[0] << ": " << reply.status();
  return reply.ok() ? *reply : "";
}

// Waits for what a server or a subscription does by itself.
template <typename Condition>
bool Eventually(Condition condition) {
  const auto until = std::chrono::steady_clock::now() + absl::ToChronoSeconds(kDeadline);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

void ExpectUnavailable(const absl::Status& status, std::string_view text) {
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_EQ(ErrorReason(status), "STORE_UNAVAILABLE") << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(text)));
  EXPECT_THAT(status.ToString(), Not(HasSubstr("canary")));
}

TEST(RedisFaultsTest, StoreMayBeOpenedBeforeTheServerIsThere) {
  std::unique_ptr<RedisServer> server = StartServer();
  ASSERT_NE(server, nullptr);
  server->Stop();
  std::unique_ptr<RedisTokenStore> store = OpenStore(TestOptions(server->port()));
  ExpectUnavailable(store->CheckWritable(), absl::StrCat("127.0.0.1:", server->port()));
  EXPECT_EQ(store->subscription_session(), 0);
  ASSERT_EQ(server->Restart(), absl::OkStatus());
  EXPECT_EQ(store->CheckWritable(), absl::OkStatus());
  EXPECT_TRUE(Eventually([&] { return store->subscription_session() != 0; }));
}

// What a store said it had done is there after the server was killed in the middle of it.
TEST(RedisFaultsTest, AcknowledgedCommitsSurviveAKilledServer) {
  std::unique_ptr<RedisServer> server = StartServer({.append_only = true});
  ASSERT_NE(server, nullptr);
  RedisTokenStoreOptions options = TestOptions(server->port());
  options.connect_timeout = absl::Milliseconds(100);
  std::unique_ptr<RedisTokenStore> store = OpenStore(options);

  struct Writer {
    GrantKey key;
    int64_t acknowledged = 0;  // generation
    std::thread thread;
  };
  constexpr int kWriters = 4;
  constexpr int kCommitsBeforeTheKill = 200;
  Writer writers[kWriters];
  std::atomic<int> commits{0};
  std::atomic<bool> failed{false};
  for (int i = 0; i < kWriters; ++i) {
    writers[i].key = Key(absl::StrCat("org-", i));
    ASSERT_TRUE(store->Register(Registration(writers[i].key)).ok());
    writers[i].acknowledged = 1;
  }
  for (Writer& writer : writers) {
    writer.thread = std::thread([&] {
      while (true) {
        const int64_t g = writer.acknowledged;
        const absl::StatusOr<CommitResult> result = store->Commit(
            {writer.key, absl::StrCat("attempt-", g), g, Tokens(absl::StrCat("access-", g + 1))});
        if (!result.ok()) break;  // the server is gone
        if (result->outcome != CommitResult::Outcome::kCommitted &&
            result->outcome != CommitResult::Outcome::kDuplicate) {
          failed = true;
          break;
        }
        writer.acknowledged = g + 1;
        ++commits;
      }
    });
  }
  EXPECT_TRUE(Eventually([&] { return commits >= kCommitsBeforeTheKill; }));
  server->Kill();
  for (Writer& writer : writers) writer.thread.join();
  EXPECT_FALSE(failed);
  ASSERT_EQ(server->Restart(), absl::OkStatus());

  for (const Writer& writer : writers) {
    absl::StatusOr<GrantRecord> record = store->Load(writer.key);
    ASSERT_TRUE(record.ok()) << record.status();
    // The one that was under way may have been stored, too, but never half of it.
    EXPECT_GE(record->generation, writer.acknowledged);
    EXPECT_LE(record->generation, writer.acknowledged + 1);
    EXPECT_EQ(record->access_token, Secret(absl::StrCat("access-", record->generation)));
    // Whoever had it under way repeats it and learns the truth.
    const int64_t g = writer.acknowledged;
    const absl::StatusOr<CommitResult> again = store->Commit(
        {writer.key, absl::StrCat("attempt-", g), g, Tokens(absl::StrCat("access-", g + 1))});
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->record.generation, g + 1);
  }
}

TEST(RedisFaultsTest, LeasesSurviveARestartedServer) {
  std::unique_ptr<RedisServer> server = StartServer({.append_only = true});
  ASSERT_NE(server, nullptr);
  RedisTokenStoreOptions options = TestOptions(server->port());
  options.quarantine = absl::ZeroDuration();
  std::unique_ptr<RedisTokenStore> store = OpenStore(options);
  ASSERT_TRUE(store->Register(Registration(Key())).ok());
  const absl::StatusOr<AcquireResult> acquired = store->Acquire({Key(), "a", 1, Purpose::kCaller});
  ASSERT_TRUE(acquired.ok()) << acquired.status();
  server->Kill();
  ASSERT_EQ(server->Restart(), absl::OkStatus());
  EXPECT_EQ(store->Acquire({Key(), "b", 1, Purpose::kCaller})->outcome,
            AcquireResult::Outcome::kBusy);
  EXPECT_EQ(*store->MarkSent({Key(), "a", acquired->epoch}), MarkSentOutcome::kMarked);
}

TEST(RedisFaultsTest, PausedServerIsUnavailableAndThenRight) {
  std::unique_ptr<RedisServer> server = StartServer();
  ASSERT_NE(server, nullptr);
  RedisTokenStoreOptions options = TestOptions(server->port());
  std::unique_ptr<RedisTokenStore> patient = OpenStore(options);
  ASSERT_TRUE(patient->Register(Registration(Key("a"))).ok());
  ASSERT_TRUE(patient->Register(Registration(Key("b"))).ok());
  options.command_timeout = absl::Milliseconds(50);
  options.connect_timeout = absl::Milliseconds(50);
  options.pool_size = 1;
  std::unique_ptr<RedisTokenStore> store = OpenStore(options);
  server->Freeze();
  ExpectUnavailable(store->Commit({Key("a"), "x", 1, Tokens("access-canary")}).status(), "");
  ExpectUnavailable(store->Load(Key("a")).status(), "");
  server->Thaw();
  absl::StatusOr<GrantRecord> record = absl::UnknownError("");
  ASSERT_TRUE(Eventually([&] { return (record = store->Load(Key("b"))).ok(); }));
  EXPECT_EQ(record->key, Key("b"));
  EXPECT_EQ(record->generation, 1);
  // The commit may have been carried out meanwhile; repeating it settles that.
  const absl::StatusOr<CommitResult> again =
      patient->Commit({Key("a"), "x", 1, Tokens("access-canary")});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->record.generation, 2);
}

TEST(RedisFaultsTest, WrongPasswordNamesTheUserAndIsReadAgain) {
  std::unique_ptr<RedisServer> server = StartServer({.password = "right-canary"});
  ASSERT_NE(server, nullptr);
  Mutex mutex;
  std::string password = "wrong-canary";
  RedisTokenStoreOptions options = TestOptions(server->port());
  options.password = [&]() -> absl::StatusOr<Secret> {
    MutexLock lock(mutex);
    return Secret(password);
  };
  std::unique_ptr<RedisTokenStore> store = OpenStore(options);
  ExpectUnavailable(store->CheckWritable(), "the default user");
  {
    MutexLock lock(mutex);
    password = "right-canary";
  }
  EXPECT_EQ(store->CheckWritable(), absl::OkStatus());

  options.username = "nobody";
  ExpectUnavailable(OpenStore(options)->CheckWritable(), "user 'nobody'");
  options.username = "";
  options.password = nullptr;
  ExpectUnavailable(OpenStore(options)->CheckWritable(), "NOAUTH");
  options.password = []() -> absl::StatusOr<Secret> { return StoreUnavailableError("no file"); };
  ExpectUnavailable(OpenStore(options)->CheckWritable(), "no file");
}

// The rights that the header names are enough, and are needed.
TEST(RedisFaultsTest, AclUserWithTheDocumentedRights) {
  std::unique_ptr<RedisServer> server = StartServer();
  ASSERT_NE(server, nullptr);
  std::vector<std::string> rights = {"ACL", "SETUSER", "broker", "on", ">secret"};
  const absl::string_view rules(redis::kRequiredAcl.data(), redis::kRequiredAcl.size());
  for (const absl::string_view rule : absl::StrSplit(rules, ' ')) rights.emplace_back(rule);
  Order(*server, rights);
  RedisTokenStoreOptions options = TestOptions(server->port());
  options.key_prefix = "tb:";
  options.username = "broker";
  options.password = [] { return Secret("secret"); };
  options.database = 1;
  std::unique_ptr<RedisTokenStore> store = OpenStore(options);
  ASSERT_EQ(store->CheckWritable(), absl::OkStatus());
  ASSERT_TRUE(Eventually([&] { return store->subscription_session() != 0; }));
  std::atomic<int> events{0};
  store->SetChangeListener([&](const ChangeEvent&) { ++events; });
  ASSERT_TRUE(store->Register(Registration(Key())).ok());
  const absl::StatusOr<AcquireResult> acquired = store->Acquire({Key(), "a", 1, Purpose::kCaller});
  ASSERT_TRUE(acquired.ok()) << acquired.status();
  EXPECT_TRUE(store->MarkSent({Key(), "a", acquired->epoch}).ok());
  EXPECT_TRUE(store->Fail({Key(), "a", acquired->epoch, 1, FailureKind::kTransient, ""}).ok());
  EXPECT_TRUE(store->Commit({Key(), "a", 1, Tokens("access-2")}).ok());
  EXPECT_TRUE(store->Load(Key()).ok());
  EXPECT_TRUE(store->ListPage("", "", 10).ok());
  EXPECT_TRUE(store->Revoke({Key()}).ok());
  EXPECT_EQ(store->ForgetTokens(Key(), 3), absl::OkStatus());
  EXPECT_TRUE(Eventually([&] { return events >= 4; })) << events;
  store->SetChangeListener(nullptr);

  // Another prefix is not the user's.
  options.key_prefix = "other:";
  ExpectUnavailable(OpenStore(options)->CheckWritable(), "user 'broker'");
}

TEST(RedisFaultsTest, PublishingMayBeForbiddenWithoutLosingWrites) {
  std::unique_ptr<RedisServer> server = StartServer();
  ASSERT_NE(server, nullptr);
  Order(*server, {"ACL", "SETUSER", "broker", "on", ">secret", "~*", "resetchannels", "+@all"});
  RedisTokenStoreOptions options = TestOptions(server->port());
  options.username = "broker";
  options.password = [] { return Secret("secret"); };
  std::unique_ptr<RedisTokenStore> store = OpenStore(options);
  EXPECT_TRUE(store->Register(Registration(Key())).ok());
  EXPECT_EQ(store->Commit({Key(), "a", 1, Tokens("access-2")})->outcome,
            CommitResult::Outcome::kCommitted);
  EXPECT_EQ(store->subscription_session(), 0);
}

TEST(RedisFaultsTest, DatabasesAndPrefixesAreSeparate) {
  std::unique_ptr<RedisServer> server = StartServer();
  ASSERT_NE(server, nullptr);
  RedisTokenStoreOptions options = TestOptions(server->port());
  options.key_prefix = "a:";
  std::unique_ptr<RedisTokenStore> first = OpenStore(options);
  options.database = 3;
  std::unique_ptr<RedisTokenStore> database = OpenStore(options);
  options.database = 0;
  options.key_prefix = "b:";
  std::unique_ptr<RedisTokenStore> prefix = OpenStore(options);
  for (RedisTokenStore* store : {first.get(), database.get(), prefix.get()}) {
    ASSERT_TRUE(Eventually([&] { return store->subscription_session() != 0; }));
  }
  std::atomic<int> foreign{0};
  for (RedisTokenStore* store : {database.get(), prefix.get()}) {
    store->SetChangeListener([&](const ChangeEvent& event) { foreign += event.key == Key(); });
  }
  ASSERT_TRUE(first->Register(Registration(Key())).ok());
  for (RedisTokenStore* store : {database.get(), prefix.get()}) {
    EXPECT_EQ(ErrorReason(store->Load(Key()).status()), "ORG_NOT_FOUND");
    EXPECT_TRUE(store->ListPage("", "", 10)->records.empty());
    // Their own event comes after the foreign one would have.
    std::atomic<bool> own{false};
    store->SetChangeListener([&](const ChangeEvent& event) {
      if (event.key == Key()) ++foreign;
      if (event.key == Key("own")) own = true;
    });
    ASSERT_TRUE(store->Register(Registration(Key("own"))).ok());
    EXPECT_TRUE(Eventually([&] { return own.load(); }));
    store->SetChangeListener(nullptr);
  }
  EXPECT_EQ(foreign, 0);
}

TEST(RedisFaultsTest, FullServerSaysSo) {
  std::unique_ptr<RedisServer> server = StartServer();
  ASSERT_NE(server, nullptr);
  std::unique_ptr<RedisTokenStore> store = OpenStore(TestOptions(server->port()));
  ASSERT_TRUE(store->Register(Registration(Key())).ok());
  Order(*server, {"CONFIG", "SET", "maxmemory", "1"});
  ExpectUnavailable(store->CheckWritable(), "maxmemory");
  ExpectUnavailable(store->Commit({Key(), "a", 1, Tokens("access-canary")}).status(), "maxmemory");
  EXPECT_EQ(store->Load(Key())->generation, 1);  // reads go on
  Order(*server, {"CONFIG", "SET", "maxmemory", "0"});
  EXPECT_EQ(store->Commit({Key(), "a", 1, Tokens("access-2")})->outcome,
            CommitResult::Outcome::kCommitted);
}

TEST(RedisFaultsTest, ReplicaIsNotTakenForThePrimary) {
  std::unique_ptr<RedisServer> primary = StartServer();
  ASSERT_NE(primary, nullptr);
  std::unique_ptr<RedisServer> replica =
      StartServer({.arguments = {"--replicaof", absl::StrCat("127.0.0.1 ", primary->port())}});
  ASSERT_NE(replica, nullptr);
  std::unique_ptr<RedisTokenStore> store = OpenStore(TestOptions(replica->port()));
  // LOADING or MASTERDOWN until the first synchronisation is over.
  EXPECT_TRUE(Eventually([&] {
    return store->CheckWritable().message().find("READONLY") != absl::string_view::npos;
  }));
  ExpectUnavailable(store->Register(Registration(Key())).status(), "primary");
}

TEST(RedisFaultsTest, UnacknowledgedWritesAreReportedUntilAReplicaHasThem) {
  std::unique_ptr<RedisServer> primary = StartServer();
  ASSERT_NE(primary, nullptr);
  std::unique_ptr<RedisServer> replica =
      StartServer({.arguments = {"--replicaof", absl::StrCat("127.0.0.1 ", primary->port())}});
  ASSERT_NE(replica, nullptr);
  RedisTokenStoreOptions options = TestOptions(primary->port());
  options.replica_acks = 1;
  options.replica_ack_timeout = absl::Milliseconds(50);
  std::unique_ptr<RedisTokenStore> store = OpenStore(options);
  ASSERT_TRUE(Eventually([&] { return store->CheckWritable().ok(); }));
  const auto settled = [&](auto operation) {  // a replica on a busy machine may be late
    auto result = operation();
    EXPECT_TRUE(Eventually([&] { return result.ok() || (result = operation()).ok(); }))
        << result.status();
    return result;
  };
  ASSERT_TRUE(settled([&] { return store->Register(Registration(Key())); }).ok());
  const absl::StatusOr<AcquireResult> acquired = store->Acquire({Key(), "a", 1, Purpose::kCaller});
  ASSERT_TRUE(acquired.ok()) << acquired.status();

  replica->Freeze();
  EXPECT_EQ(ErrorReason(store->MarkSent({Key(), "a", acquired->epoch}).status()),
            "STORE_NOT_ACKNOWLEDGED");
  EXPECT_EQ(ErrorReason(store->CheckWritable()), "STORE_NOT_ACKNOWLEDGED");
  EXPECT_TRUE(store->Fail({Key(), "a", acquired->epoch, 1, FailureKind::kNotSent, ""}).ok());
  EXPECT_TRUE(store->Load(Key())->sends.empty());
  const auto commit = [&] { return store->Commit({Key(), "a", 1, Tokens("access-2")}); };
  EXPECT_EQ(ErrorReason(commit().status()), "STORE_NOT_ACKNOWLEDGED");
  // The repetition has nothing to write, and is no more acknowledged than the first one was: not on
  // the same connection, and not on a new one.
  EXPECT_EQ(ErrorReason(commit().status()), "STORE_NOT_ACKNOWLEDGED");
  Order(*primary, {"CLIENT", "KILL", "TYPE", "normal"});
  EXPECT_EQ(ErrorReason(commit().status()), "STORE_NOT_ACKNOWLEDGED");
  EXPECT_EQ(ErrorReason(store->Register(Registration(Key("org-2"))).status()),
            "STORE_NOT_ACKNOWLEDGED");
  // What only this primary knows is no reason to let go of a token: the next one may need it.
  const auto superseded = [&] { return store->Commit({Key(), "b", 1, Tokens("access-3")}); };
  EXPECT_EQ(ErrorReason(superseded().status()), "STORE_NOT_ACKNOWLEDGED");
  EXPECT_EQ(ErrorReason(store->Revoke({Key("org-2")}).status()), "STORE_NOT_ACKNOWLEDGED");
  const auto revoked = [&] { return store->Commit({Key("org-2"), "c", 1, Tokens("access-3")}); };
  EXPECT_EQ(ErrorReason(revoked().status()), "STORE_NOT_ACKNOWLEDGED");

  replica->Thaw();
  EXPECT_EQ(settled(superseded)->outcome, CommitResult::Outcome::kSuperseded);
  EXPECT_EQ(settled(revoked)->outcome, CommitResult::Outcome::kRevoked);
  const absl::StatusOr<CommitResult> committed = settled(commit);
  ASSERT_TRUE(committed.ok());
  EXPECT_EQ(committed->outcome, CommitResult::Outcome::kDuplicate);
  EXPECT_EQ(committed->record.generation, 2);
}

TEST(RedisFaultsTest, OneConnectionServesManyThreads) {
  std::unique_ptr<RedisServer> server = StartServer();
  ASSERT_NE(server, nullptr);
  RedisTokenStoreOptions options = TestOptions(server->port());
  options.pool_size = 1;
  std::unique_ptr<RedisTokenStore> store = OpenStore(options);
  ASSERT_TRUE(store->Register(Registration(Key())).ok());
  std::vector<std::thread> threads;
  std::atomic<int> loaded{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 50; ++n) loaded += store->Load(Key()).ok();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(loaded, 400);
  // The pool's, the subscription's and this command's own.
  EXPECT_TRUE(Eventually([&] {
    return Order(*server, {"INFO", "clients"}).find("connected_clients:3\r") != std::string::npos;
  }));
}

TEST(RedisFaultsTest, UnresolvableHostSaysSo) {
  RedisTokenStoreOptions options = TestOptions(1);
  options.host = "no-such-host.invalid";  // RFC 6761: never resolves
  options.connect_timeout = absl::Milliseconds(200);
  ExpectUnavailable(OpenStore(options)->CheckWritable(), "no-such-host.invalid");
}

}  // namespace
}  // namespace tokenbroker
