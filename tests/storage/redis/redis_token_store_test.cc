// What the Redis store does beyond the contract, on a healthy server behind a network that is not.
#include "storage/redis/redis_token_store.h"

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/storage/redis/redis_fixture.h"
#include "tests/testing/lossy_proxy.h"
#include "tests/testing/redis_server.h"

namespace tokenbroker {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kDeadline = absl::Seconds(30);

GrantKey Key(std::string_view org = "org-1") {
  return {std::string(org), Environment::kProduction, "people-app"};
}

RegisterRequest Registration(const GrantKey& key) {
  RegisterRequest request;
  request.key = key;
  request.attempt_id = "register-1";
  request.info.dc = "eu";
  request.refresh_token = Secret("refresh-" + key.org_id);
  return request;
}

MintedTokens Tokens(std::string_view access) {
  return {.access_token = Secret(std::string(access)), .lifetime = absl::Hours(1)};
}

// Waits, with a deadline, for what the store's subscription brings about.
template <typename Condition>
bool Eventually(Condition condition) {
  const auto until = std::chrono::steady_clock::now() + absl::ToChronoSeconds(kDeadline);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

// A store that reaches the shared server through a proxy.
class RedisTokenStoreTest : public testing::Test {
 protected:
  void SetUp() override { Open(fixture_.Options(ContractLimits())); }

  void Open(RedisTokenStoreOptions options) {
    options.port = proxy_.port();
    absl::StatusOr<std::unique_ptr<RedisTokenStore>> store =
        RedisTokenStore::Create(std::move(options));
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  // Registers the grant, and fails the test unless that works.
  void RegisterOrg(const GrantKey& key) {
    const absl::StatusOr<RegisterResult> result = store_->Register(Registration(key));
    ASSERT_TRUE(result.ok()) << result.status();
  }
  int64_t Acquire(const GrantKey& key, std::string_view attempt) {
    const absl::StatusOr<AcquireResult> result =
        store_->Acquire({key, std::string(attempt), 1, Purpose::kCaller});
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok()) return 0;
    EXPECT_EQ(result->outcome, AcquireResult::Outcome::kGranted);
    return result->epoch;
  }
  std::string RedisKey(std::string_view escaped_org) const {
    return absl::StrCat(fixture_.prefix(), "{",
                        absl::string_view(escaped_org.data(), escaped_org.size()),
                        ":PRODUCTION:people-app}");
  }
  std::string Command(const std::vector<std::string>& words) {
    const absl::StatusOr<std::string> reply = RedisCommand(SharedRedisPort(), words);
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.ok() ? *reply : "";
  }

  RedisFixture fixture_;
  LossyProxy proxy_{SharedRedisPort()};
  std::unique_ptr<RedisTokenStore> store_;
};

TEST(RedisTokenStoreOptionsTest, EveryWrongOptionIsNamed) {
  RedisTokenStoreOptions options;
  options.host = "";
  options.port = 0;
  options.username = "broker";
  options.database = -1;
  options.key_prefix = "tb{";
  options.replica_acks = -1;
  options.replica_ack_timeout = absl::ZeroDuration();
  options.pool_size = 0;
  options.connect_timeout = absl::InfiniteDuration();
  options.command_timeout = absl::ZeroDuration();
  options.tries = 0;
  options.limits.budget.clear();
  const absl::Status status = RedisTokenStore::Create(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  for (const char* name :
       {"host", "port", "username", "database", "key_prefix", "replica_acks", "replica_ack_timeout",
        "pool_size", "connect_timeout", "command_timeout", "tries", "budget"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  }
}

TEST(RedisTokenStoreOptionsTest, RedisIsInOnePlaceOnly) {
  const auto refusal = [](const RedisTokenStoreOptions& options) {
    return std::string(RedisTokenStore::Create(options).status().message());
  };
  RedisTokenStoreOptions options;
  options.sentinel.emplace();
  EXPECT_THAT(refusal(options), HasSubstr("exactly one"));
  options.host = "";
  EXPECT_THAT(refusal(options),
              testing::AllOf(HasSubstr("sentinel.endpoints"), HasSubstr("sentinel.primary_name")));
  options.sentinel->username = "watcher";
  options.sentinel->endpoints = {{"", 26379}};
  EXPECT_THAT(refusal(options),
              testing::AllOf(HasSubstr("sentinel.endpoints"), HasSubstr("sentinel.username")));
  options.sentinel.reset();
  options.cluster.emplace();
  options.database = 1;
  options.quarantine = -absl::Seconds(1);
  EXPECT_THAT(refusal(options), testing::AllOf(HasSubstr("cluster.seeds"), HasSubstr("database"),
                                               HasSubstr("quarantine")));
}

TEST_F(RedisTokenStoreTest, EveryKeyIsUnderThePrefixAndEachGrantInOneSlot) {
  using namespace std::string_literals;
  RegisterOrg(Key("a}{b:\0\xff%"s));
  RegisterOrg(Key("plain-1.2_3"));
  ASSERT_EQ(store_->CheckWritable(), absl::OkStatus());
  std::vector<std::string> keys;
  const std::string list = Command({"KEYS", fixture_.prefix() + "*"});
  for (size_t start = 0; start < list.size();) {
    const size_t end = std::min(list.find('\n', start), list.size());
    keys.push_back(list.substr(start, end - start));
    start = end + 1;
  }
  EXPECT_THAT(keys, testing::UnorderedElementsAre(
                        fixture_.prefix() + "index", fixture_.prefix() + "{writable}",
                        fixture_.prefix() + "{reign}", RedisKey("a%7D%7Bb%3A%00%FF%25"),
                        RedisKey("plain-1.2_3")));
}

TEST_F(RedisTokenStoreTest, ReservedRecordsExpireAndGrantsNever) {
  const auto milliseconds_left = [&](std::string_view org) {
    int64_t left = 0;
    EXPECT_TRUE(absl::SimpleAtoi(Command({"PTTL", RedisKey(std::string(org))}), &left));
    return absl::Milliseconds(left);
  };
  const absl::Duration never = absl::Milliseconds(-1);
  const absl::Duration life = ContractLimits().ReservedLife();
  ASSERT_TRUE(store_->Acquire({Key("org-1"), "a", 0, Purpose::kRegistration}).ok());
  ASSERT_TRUE(store_->CountSend({Key("org-2"), "a"}).ok());
  for (const char* org : {"org-1", "org-2"}) {
    EXPECT_LE(milliseconds_left(org), life);
    EXPECT_GT(milliseconds_left(org), life - absl::Minutes(5));
    RegisterOrg(Key(org));
    EXPECT_EQ(milliseconds_left(org), never);
    ASSERT_TRUE(store_->Acquire({Key(org), "b", 0, Purpose::kRegistration}).ok());
    ASSERT_TRUE(store_->CountSend({Key(org), "b"}).ok());
    EXPECT_EQ(milliseconds_left(org), never);
  }
}

// Its end minus the sent lease is the time of nobody's send then, and may be that of another one.
TEST_F(RedisTokenStoreTest, ReleaseOfAHeldLeaseTakesBackNobodysSend) {
  RegisterOrg(Key());
  const int64_t epoch = Acquire(Key(), "a");
  int64_t lease_end = 0;
  ASSERT_TRUE(absl::SimpleAtoi(Command({"HGET", RedisKey("org-1"), "le"}), &lease_end));
  Command({"HSET", RedisKey("org-1"), "js",
           absl::StrCat(lease_end - absl::ToInt64Milliseconds(ContractLimits().sent_lease))});
  ASSERT_TRUE(store_->Fail({Key(), "a", epoch, 1, FailureKind::kNotSent, ""}).ok());
  EXPECT_EQ(store_->Load(Key())->sends.size(), 1u);
}

TEST_F(RedisTokenStoreTest, RecordWithCiphertextsStaysCompact) {
  RegisterRequest request = Registration(Key());
  request.refresh_token = Secret(std::string(300, 'r'));
  request.tokens = Tokens(std::string(300, 'a'));
  ASSERT_TRUE(store_->Register(request).ok());
  EXPECT_EQ(Command({"OBJECT", "ENCODING", RedisKey("org-1")}), "listpack");
}

TEST_F(RedisTokenStoreTest, DamagedRecordIsUnreadableAndLeftAsItIs) {
  RegisterOrg(Key());
  for (const char* field : {"g", "ep", "st", "le", "nb", "fn"}) {
    SCOPED_TRACE(field);
    const std::string good = Command({"HGET", RedisKey("org-1"), field});
    Command({"HSET", RedisKey("org-1"), field, "12x"});
    const std::string before = Command({"HGETALL", RedisKey("org-1")});
    const absl::Status statuses[] = {
        store_->Load(Key()).status(),
        store_->Acquire({Key(), "a", 1, Purpose::kCaller}).status(),
        store_->MarkSent({Key(), "a", 1}).status(),
        store_->Commit({Key(), "a", 1, Tokens("access-2")}).status(),
        store_->Fail({Key(), "a", 1, 1, FailureKind::kTransient, ""}).status(),
        store_->Revoke({Key()}).status(),
        store_->ForgetTokens(Key(), 1)};
    for (const absl::Status& status : statuses) {
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
      EXPECT_EQ(ErrorReason(status), "RECORD_UNREADABLE");
    }
    EXPECT_EQ(Command({"HGETALL", RedisKey("org-1")}), before);
    Command({"HSET", RedisKey("org-1"), field, good});
  }
  EXPECT_TRUE(store_->Load(Key()).ok());
}

TEST_F(RedisTokenStoreTest, KeyOfAnotherTypeIsUnreadable) {
  Command({"SET", RedisKey("org-1"), "something"});
  EXPECT_EQ(ErrorReason(store_->Load(Key()).status()), "RECORD_UNREADABLE");
  EXPECT_EQ(ErrorReason(store_->Acquire({Key(), "a", 0, Purpose::kCaller}).status()),
            "RECORD_UNREADABLE");
  EXPECT_EQ(Command({"GET", RedisKey("org-1")}), "something");
}

TEST_F(RedisTokenStoreTest, FieldsOfANewerVersionAreKept) {
  RegisterOrg(Key());
  Command({"HSET", RedisKey("org-1"), "zz", "later"});
  ASSERT_TRUE(store_->Commit({Key(), "a", 1, Tokens("access-2")}).ok());
  const absl::StatusOr<GrantRecord> record = store_->Load(Key());
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->generation, 2);
  EXPECT_EQ(Command({"HGET", RedisKey("org-1"), "zz"}), "later");
}

TEST_F(RedisTokenStoreTest, ListingSkipsEntriesWithoutARecord) {
  for (int i = 0; i < 6; ++i) RegisterOrg(Key(absl::StrCat("org-", i)));
  // A crash between the index and the record, six times.
  for (int i = 0; i < 6; ++i) {
    Command({"ZADD", fixture_.prefix() + "index", "0",
             EncodeGrantKey(Key(absl::StrCat("org-", i, "-gone")))});
  }
  std::vector<std::string> orgs;
  std::string after;
  do {
    const absl::StatusOr<GrantPage> page = store_->ListPage("", after, 2);
    ASSERT_TRUE(page.ok()) << page.status();
    for (const GrantRecord& record : page->records) orgs.push_back(record.key.org_id);
    after = page->next;
  } while (!after.empty());
  EXPECT_THAT(orgs, testing::ElementsAre("org-0", "org-1", "org-2", "org-3", "org-4", "org-5"));
}

TEST_F(RedisTokenStoreTest, ScriptsAreLoadedAgainAfterTheServerForgotThem) {
  RegisterOrg(Key());
  const int64_t epoch = Acquire(Key(), "a");
  Command({"SCRIPT", "FLUSH"});
  EXPECT_EQ(*store_->MarkSent({Key(), "a", epoch}), MarkSentOutcome::kMarked);
  Command({"SCRIPT", "FLUSH"});
  EXPECT_EQ(store_->Commit({Key(), "a", 1, Tokens("access-2")})->outcome,
            CommitResult::Outcome::kCommitted);
}

// --- Lost answers: the command was carried out, and is repeated
// -----------------------------------

TEST_F(RedisTokenStoreTest, AcquireWhoseAnswerWasLostIsGrantedOnce) {
  RegisterOrg(Key());
  Acquire(Key(), "warm-up: the script is loaded");
  ASSERT_TRUE(
      store_->Fail({Key(), "warm-up: the script is loaded", 2, 1, FailureKind::kNotSent, ""}).ok());
  proxy_.LoseAnswersTo("EVALSHA", 1);
  EXPECT_EQ(Acquire(Key(), "a"), 3);
  EXPECT_EQ(proxy_.losses_left(), 0);
}

TEST_F(RedisTokenStoreTest, MarkSentWhoseAnswerWasLostIsOneSend) {
  RegisterOrg(Key());
  const int64_t epoch = Acquire(Key(), "a");
  proxy_.LoseAnswersTo("EVALSHA", 2);  // the first time it is not known yet, and loaded
  const absl::StatusOr<MarkSentOutcome> outcome = store_->MarkSent({Key(), "a", epoch});
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  // Nobody else can have sent: the caller waits for this answer.
  EXPECT_EQ(*outcome, MarkSentOutcome::kMarked);
  EXPECT_EQ(proxy_.losses_left(), 0);
  EXPECT_EQ(store_->Load(Key())->sends.size(), 1u);
  // A second call is another matter.
  EXPECT_EQ(*store_->MarkSent({Key(), "a", epoch}), MarkSentOutcome::kAlreadySent);
}

TEST_F(RedisTokenStoreTest, CommitWhoseAnswerWasLostIsStoredOnce) {
  RegisterOrg(Key());
  proxy_.LoseAnswersTo("EVALSHA", 2);
  const absl::StatusOr<CommitResult> result = store_->Commit({Key(), "a", 1, Tokens("access-2")});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->outcome, CommitResult::Outcome::kDuplicate);
  EXPECT_EQ(result->record.generation, 2);
  EXPECT_EQ(result->record.access_token, Secret("access-2"));
  EXPECT_EQ(proxy_.losses_left(), 0);
}

TEST_F(RedisTokenStoreTest, FailWhoseAnswerWasLostCountsOnce) {
  RegisterOrg(Key());
  const int64_t epoch = Acquire(Key(), "a");
  proxy_.LoseAnswersTo("EVALSHA", 2);
  const absl::StatusOr<FailResult> result =
      store_->Fail({Key(), "a", epoch, 1, FailureKind::kTransient, "reset"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->outcome, FailResult::Outcome::kRecorded);
  EXPECT_GT(result->wait, absl::ZeroDuration());
  EXPECT_EQ(store_->Load(Key())->consecutive_failures, 1);
}

TEST_F(RedisTokenStoreTest, RegisterWhoseAnswerWasLostIsMadeOnce) {
  proxy_.LoseAnswersTo("EVALSHA", 2);
  const absl::StatusOr<RegisterResult> result = store_->Register(Registration(Key()));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->record.generation, 1);
}

TEST_F(RedisTokenStoreTest, CountedSendWhoseAnswerWasLostIsOneSend) {
  RegisterOrg(Key());
  proxy_.LoseAnswersTo("EVALSHA", 2);
  const absl::StatusOr<CountSendResult> result = store_->CountSend({Key(), "a"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->outcome, CountSendResult::Outcome::kCounted);
  EXPECT_EQ(proxy_.losses_left(), 0);
  EXPECT_EQ(store_->Load(Key())->sends.size(), 1u);
}

TEST_F(RedisTokenStoreTest, TriesAreBounded) {
  RegisterOrg(Key());
  proxy_.LoseAnswersTo("EVALSHA", 1000);
  const absl::Status status = store_->Commit({Key(), "a", 1, Tokens("canary")}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ErrorReason(status), "STORE_UNAVAILABLE");
  EXPECT_EQ(proxy_.losses_left(), 997);
  EXPECT_EQ(std::string(status.message()).find("canary"), std::string::npos) << status;
  proxy_.LoseAnswersTo("", 0);
  const absl::StatusOr<CommitResult> again = store_->Commit({Key(), "a", 1, Tokens("canary")});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->record.generation, 2);
}

// --- Late answers
// -----------------------------------------------------------------------------------

TEST_F(RedisTokenStoreTest, LateAnswerIsNotTakenForTheNextOne) {
  RedisTokenStoreOptions options = fixture_.Options(ContractLimits());
  options.pool_size = 1;
  options.tries = 1;
  options.command_timeout = absl::Milliseconds(50);
  Open(options);
  // Each may meet a busy machine: only the answers matter here.
  ASSERT_TRUE(Eventually([&] { return store_->Register(Registration(Key("a"))).ok(); }));
  ASSERT_TRUE(Eventually([&] { return store_->Register(Registration(Key("b"))).ok(); }));
  ASSERT_TRUE(Eventually([&] { return store_->Load(Key("a")).ok(); }));
  proxy_.Hold();
  EXPECT_EQ(ErrorReason(store_->Load(Key("a")).status()), "STORE_UNAVAILABLE");
  proxy_.Release();
  absl::StatusOr<GrantRecord> record = absl::UnknownError("");
  ASSERT_TRUE(Eventually([&] { return (record = store_->Load(Key("b"))).ok(); }));
  EXPECT_EQ(record->refresh_token, Secret("refresh-b"));
  ASSERT_TRUE(Eventually([&] { return (record = store_->Load(Key("a"))).ok(); }));
  EXPECT_EQ(record->refresh_token, Secret("refresh-a"));
}

TEST_F(RedisTokenStoreTest, SilentServerCostsNoMoreThanTheDeadlines) {
  RedisTokenStoreOptions options = fixture_.Options(ContractLimits());
  options.command_timeout = absl::Milliseconds(20);
  options.connect_timeout = absl::Milliseconds(20);
  Open(options);
  proxy_.Hold();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(ErrorReason(store_->Load(Key()).status()), "STORE_UNAVAILABLE");
  // 3 times 20 + 20 + 20 ms, and room for a busy machine.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  proxy_.Release();
}

TEST_F(RedisTokenStoreTest, ConnectionsThatWereCutWhileIdleCostNothing) {
  RedisTokenStoreOptions options = fixture_.Options(ContractLimits());
  options.tries = 1;
  Open(options);
  RegisterOrg(Key());
  proxy_.Cut();
  EXPECT_TRUE(store_->Load(Key()).ok());
}

// --- The subscription
// -------------------------------------------------------------------------------

TEST_F(RedisTokenStoreTest, NewSubscriptionHasANewSession) {
  ASSERT_TRUE(Eventually([&] { return store_->subscription_session() != 0; }));
  const int64_t first = store_->subscription_session();
  proxy_.Cut();
  ASSERT_TRUE(Eventually([&] {
    const int64_t session = store_->subscription_session();
    return session != 0 && session != first;
  }));
}

TEST_F(RedisTokenStoreTest, SilentSubscriptionIsGivenUp) {
  ASSERT_TRUE(Eventually([&] { return store_->subscription_session() != 0; }));
  proxy_.Hold();
  EXPECT_TRUE(Eventually([&] { return store_->subscription_session() == 0; }));
  proxy_.Release();
  EXPECT_TRUE(Eventually([&] { return store_->subscription_session() != 0; }));
}

TEST_F(RedisTokenStoreTest, WaitingSurvivesALostSubscription) {
  RegisterOrg(Key());
  Acquire(Key(), "a");
  ASSERT_TRUE(Eventually([&] { return store_->subscription_session() != 0; }));
  std::thread waiting([&] { store_->WaitForChange(Key(), 1, kDeadline); });
  proxy_.Cut();
  absl::StatusOr<std::unique_ptr<TokenStore>> other = fixture_.Open(ContractLimits());
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_TRUE((*other)->Commit({Key(), "a", 1, Tokens("access-2")}).ok());
  const auto start = std::chrono::steady_clock::now();
  waiting.join();
  EXPECT_LT(std::chrono::steady_clock::now() - start, absl::ToChronoSeconds(kDeadline / 2));
}

}  // namespace
}  // namespace tokenbroker
