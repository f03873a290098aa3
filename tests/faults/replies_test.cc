#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "storage/redis/redis_token_store.h"
#include "tests/faults/fault_world.h"
#include "tests/testing/lossy_proxy.h"
#include "tests/testing/redis_server.h"

// Replies of Redis that come late, in pieces, or not to their end. The store is used without a
// broker around it, so that 100,000 operations take seconds and each answer can be checked.
namespace tokenbroker::faults {
namespace {

constexpr int kTriesPerCall = 200;
constexpr int kGrantsPerPage = 5;

// `window`: how long a send is counted. The budget is not what is tested.
ProtocolLimits Limits(absl::Duration window) {
  ProtocolLimits limits;
  limits.budget = {{100, window}};
  limits.failure_backoff = {absl::ZeroDuration()};
  return limits;
}

RedisTokenStoreOptions StoreOptions(const LossyProxy& proxy, absl::Duration timeout,
                                    absl::Duration window) {
  RedisTokenStoreOptions options;
  options.host = "127.0.0.1";
  options.port = proxy.port();
  options.command_timeout = timeout;
  options.connect_timeout = absl::Seconds(5);
  options.tries = 3;
  options.replica_acks = 0;
  options.limits = Limits(window);
  return options;
}

std::unique_ptr<RedisTokenStore> OpenStore(RedisTokenStoreOptions options) {
  auto store = RedisTokenStore::Create(std::move(options));
  EXPECT_TRUE(store.ok()) << store.status();
  return *std::move(store);
}

// One grant as it must be, and its next operation. Tokens name grant and generation, so that an
// answer that was meant for somebody else shows. Every operation is repeated until its answer
// arrives; the model changes once.
class Model {
 public:
  Model(TokenStore& store, std::string org)
      : store_(store), key_{std::move(org), Environment::kProduction, e2e::World::kWebClient} {}

  // Creates the grant, or replaces it.
  void Register() {
    RegisterRequest request;
    request.key = key_;
    request.attempt_id = NewAttemptId();
    request.info.dc = "us";
    request.info.display_name = key_.org_id;
    request.refresh_token = Secret(Name("refresh", generation_ + 1));
    request.tokens = Tokens(generation_ + 1);
    const auto result = Repeat([&] { return store_.Register(request); });
    Supersede();
    Check(result.record, "Register");
  }

  void Load() {
    Check(Repeat([&] { return store_.Load(key_); }), "Load");
  }

  // A whole refresh, or one that fails.
  void Refresh(bool fails) {
    const std::string attempt = NewAttemptId();
    const AcquireRequest acquire{key_, attempt, generation_, Purpose::kCaller};
    const AcquireResult lease = Repeat([&] { return store_.Acquire(acquire); });
    ASSERT_EQ(lease.outcome, AcquireResult::Outcome::kGranted) << key_.org_id;
    ++epoch_;
    EXPECT_EQ(lease.epoch, epoch_) << key_.org_id;  // a repetition takes no lease of its own
    Check(lease.record, "Acquire");
    const MarkSentRequest mark{key_, attempt, epoch_};
    const MarkSentOutcome marked = Repeat([&] { return store_.MarkSent(mark); });
    // Whoever asks again does not know whether the first answer let the request go.
    EXPECT_TRUE(marked == MarkSentOutcome::kMarked ||
                (repetitions_ > 0 && marked == MarkSentOutcome::kAlreadySent));
    if (fails) {
      const FailRequest fail{key_, attempt, epoch_, generation_, FailureKind::kTransient, "502"};
      const FailResult failed = Repeat([&] { return store_.Fail(fail); });
      EXPECT_EQ(failed.outcome, FailResult::Outcome::kRecorded);
      ++failures_;
      Load();
      return;
    }
    const CommitRequest commit{key_, attempt, generation_, Tokens(generation_ + 1)};
    const CommitResult committed = Repeat([&] { return store_.Commit(commit); });
    ++generation_;
    failures_ = 0;
    EXPECT_TRUE(committed.outcome == CommitResult::Outcome::kCommitted ||
                committed.outcome == CommitResult::Outcome::kDuplicate);
    Check(committed.record, "Commit");
  }

  void Revoke() {
    const RevokeResult result = Repeat([&] { return store_.Revoke({key_}); });
    EXPECT_TRUE(result.outcome == RevokeResult::Outcome::kRevoked ||
                result.outcome == RevokeResult::Outcome::kAlreadyRevoked);
    Supersede();
    EXPECT_EQ(result.record.generation, generation_);
    EXPECT_EQ(result.record.access_token, Secret(Name("access", generation_ - 1)));
  }

  // Of a grant that is revoked.
  void ForgetTokens() {
    Repeat([&]() -> absl::StatusOr<bool> {
      const absl::Status status = store_.ForgetTokens(key_, generation_);
      if (!status.ok()) return status;
      return true;
    });
    const GrantRecord record = Repeat([&] { return store_.Load(key_); });
    EXPECT_EQ(record.state, GrantState::kRevoked);
    EXPECT_EQ(record.generation, generation_) << key_.org_id;
    EXPECT_TRUE(record.access_token.empty() && record.refresh_token.empty()) << key_.org_id;
  }

  void CountSend() {
    const CountSendRequest request{key_, NewAttemptId()};
    const CountSendResult counted = Repeat([&] { return store_.CountSend(request); });
    EXPECT_EQ(counted.outcome, CountSendResult::Outcome::kCounted) << key_.org_id;
  }

  // The grants whose orgs begin with `prefix` are exactly `grants`, in this order: two pages, each
  // counted for the first of them. Which reply is whose grant's, only its place tells.
  static void List(std::vector<Model>& grants, const std::string& prefix) {
    Model& first = grants.front();
    std::vector<GrantRecord> records;
    std::string after;
    do {
      const GrantPage page =
          first.Repeat([&] { return first.store_.ListPage(prefix, after, kGrantsPerPage); });
      EXPECT_TRUE(page.unreadable.empty());
      records.insert(records.end(), page.records.begin(), page.records.end());
      after = page.next;
    } while (!after.empty() && records.size() < grants.size());
    ASSERT_EQ(records.size(), grants.size()) << prefix;
    for (size_t i = 0; i < records.size(); ++i) grants[i].CheckListed(records[i]);
  }

  int64_t operations() const { return operations_; }
  int64_t unanswered() const { return unanswered_; }
  int64_t misrouted() const { return misrouted_; }

 private:
  std::string Name(const char* kind, int64_t generation) const {
    return absl::StrCat(kind, " of ", key_.org_id, " at ", generation);
  }

  MintedTokens Tokens(int64_t generation) const {
    MintedTokens tokens;
    tokens.access_token = Secret(Name("access", generation));
    tokens.lifetime = absl::Hours(1);
    return tokens;
  }

  // What Register and Revoke have in common.
  void Supersede() {
    ++generation_;
    ++epoch_;
    failures_ = 0;
  }

  template <typename Operation>
  auto Repeat(Operation operation) -> std::decay_t<decltype(*operation())> {
    ++operations_;
    for (repetitions_ = 0; repetitions_ < kTriesPerCall; ++repetitions_) {
      auto result = operation();
      if (result.ok()) return *std::move(result);
      EXPECT_TRUE(absl::IsUnavailable(result.status())) << result.status();
      ++unanswered_;
    }
    ADD_FAILURE() << "no answer after " << kTriesPerCall << " tries";
    return {};
  }

  void Check(const GrantRecord& record, const char* operation) {
    Judge(record.access_token == Secret(Name("access", generation_)), record, operation);
  }
  void CheckListed(const GrantRecord& record) {
    Judge(record.access_token.empty(), record, "ListPage");
  }
  void Judge(bool right_token, const GrantRecord& record, const char* operation) {
    const bool right = right_token && record.key == key_ && record.generation == generation_ &&
                       record.epoch == epoch_ && record.info.display_name == key_.org_id &&
                       record.consecutive_failures == failures_;
    if (!right) ++misrouted_;
    EXPECT_TRUE(right) << operation << " of " << key_.org_id << ": generation " << record.generation
                       << " for " << generation_ << ", epoch " << record.epoch << " for " << epoch_
                       << ", failures " << record.consecutive_failures << " for " << failures_
                       << ", registered as " << record.info.display_name;
  }

  TokenStore& store_;
  const GrantKey key_;
  int64_t generation_ = 0;
  int64_t epoch_ = 0;
  int32_t failures_ = 0;  // in a row
  int repetitions_ = 0;
  int64_t operations_ = 0;
  int64_t unanswered_ = 0;
  int64_t misrouted_ = 0;
};

// Promise: G7, a reply belongs to who asked, and G2, repeating an operation changes nothing more.
// Fault: of the replies of all operations, mixed over 64 grants and 8 threads that share
// connections, 2 % come after the deadline, 4 % in slices, 4 % are cut after a byte that is another
// one each time. Asserted: 100,000 operations, 0 replies that are another grant's or another
// generation's, every registration, lease, refresh, failure and revocation carried out exactly once
// (sends are counted by the next test).
TEST(Replies, LateSlicedAndCutOnesReachNobodyElse) {
  constexpr int kThreads = 8;
  constexpr int kGrantsPerThread = 8;
  constexpr int64_t kOperations = 100'000;
  const auto server = RedisServer::Start({});
  ASSERT_TRUE(server.ok()) << server.status();
  LossyProxy proxy((*server)->port());
  std::unique_ptr<RedisTokenStore> store =
      OpenStore(StoreOptions(proxy, absl::Milliseconds(25), absl::Milliseconds(1)));
  proxy.SetWeather(
      {.delayed = 0.02, .delay = absl::Milliseconds(40), .sliced = 0.04, .cut = 0.04, .seed = 20});

  struct Totals {
    int64_t operations = 0;
    int64_t unanswered = 0;
    int64_t misrouted = 0;
  };
  std::vector<Totals> totals(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      const std::string orgs = absl::StrCat("org-", t, "-");
      std::vector<Model> grants;
      for (int i = 0; i < kGrantsPerThread; ++i) {
        grants.emplace_back(*store, absl::StrCat(orgs, i));
        grants.back().Register();
      }
      Totals& total = totals[t];
      while (total.operations < kOperations / kThreads && !::testing::Test::HasFailure()) {
        Model& grant = grants[random() % grants.size()];
        switch (random() % 11) {
          case 0:
            grant.Register();
            break;
          case 1:
            grant.Revoke();
            if (random() % 2 == 0) grant.ForgetTokens();
            grant.Register();
            break;
          case 2:
            grant.Refresh(/*fails=*/true);
            break;
          case 3:
          case 4:
            grant.Refresh(/*fails=*/false);
            break;
          case 5:
            grant.CountSend();
            break;
          case 6:
            Model::List(grants, orgs);
            break;
          default:
            grant.Load();
        }
        total = Totals();
        for (const Model& model : grants) {
          total.operations += model.operations();
          total.unanswered += model.unanswered();
          total.misrouted += model.misrouted();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  Totals all;
  for (const Totals& total : totals) {
    all.operations += total.operations;
    all.unanswered += total.unanswered;
    all.misrouted += total.misrouted;
  }
  EXPECT_GE(all.operations, kOperations);
  EXPECT_EQ(all.misrouted, 0);
  const LossyProxy::Damage damage = proxy.damage();
  EXPECT_GT(damage.delayed, 1000);
  EXPECT_GT(damage.sliced, 2000);
  EXPECT_GT(damage.cut, 2000);
  EXPECT_GT(damage.cut_after.size(), 100u);  // different lengths
  RecordProperty("unanswered", std::to_string(all.unanswered));
  RecordProperty("delayed", std::to_string(damage.delayed));
  RecordProperty("sliced", std::to_string(damage.sliced));
  RecordProperty("cut", std::to_string(damage.cut));
}

// One operation of a grant, and what it sends to Redis.
struct Operation {
  std::string name;
  std::function<void()> run;
  int scripts = 0;
  int waits = 0;  // for replicas
  int sends = 0;  // that it counts in the grant's budget
};

class CutReplies : public ::testing::Test {
 protected:
  void SetUp() override {
    auto primary = RedisServer::Start({});
    ASSERT_TRUE(primary.ok()) << primary.status();
    primary_ = *std::move(primary);
    RedisServer::Options options;
    options.replica_of = primary_->port();
    auto replica = RedisServer::Start(std::move(options));
    ASSERT_TRUE(replica.ok()) << replica.status();
    replica_ = *std::move(replica);
    ASSERT_TRUE(InStep(*primary_, {replica_.get()}));
    proxy_ = std::make_unique<LossyProxy>(primary_->port());
    RedisTokenStoreOptions store = StoreOptions(*proxy_, absl::Seconds(5), absl::Hours(1));
    store.replica_acks = 1;
    store.replica_ack_timeout = absl::Seconds(5);
    store_ = OpenStore(std::move(store));
    grant_ = std::make_unique<Model>(*store_, kOrg);
    grant_->Register();
    // Once each, so that all scripts are loaded.
    for (const Operation& operation : operations_) operation.run();
    TakeSends();
  }

  // The entries of the grant's journal of sends, which is emptied.
  int TakeSends() {
    const std::string journal = Field(*primary_, kOrg, "js");
    const std::string key = absl::StrCat("tb:{", kOrg, ":PRODUCTION:", e2e::World::kWebClient, "}");
    EXPECT_TRUE(primary_->Command({"HDEL", key, "js"}).ok());
    return static_cast<int>(
        std::vector<std::string>(absl::StrSplit(journal, ',', absl::SkipEmpty())).size());
  }

  // That the primary has carried out so far.
  int64_t Waits() const {
    int64_t calls = 0;
    const std::string statistics = primary_->Info("commandstats", "cmdstat_wait");
    const std::pair<std::string, std::string> first =
        absl::StrSplit(statistics, absl::MaxSplits(',', 1));
    EXPECT_TRUE(absl::SimpleAtoi(absl::StripPrefix(first.first, "calls="), &calls)) << statistics;
    return calls;
  }

  // Carries out the operation again and again, the reply to its n-th `command` cut after no byte,
  // after its first, and so on to its last but one. How many lengths there were; 0: there is no
  // n-th.
  int CutEach(const Operation& operation, const std::string& command, int n) {
    int cut = 0;
    const int64_t waits = Waits();
    for (size_t bytes = 0; bytes < kLongest && !HasFailure(); ++bytes) {
      const int before = proxy_->answers_lost();
      proxy_->LoseAnswersTo(command, 1, bytes, n);
      operation.run();
      EXPECT_EQ(TakeSends(), operation.sends) << "cut after " << bytes << " bytes";
      if (proxy_->answers_lost() == before) {
        // Replicas are waited for again if it is not known that they have the write.
        const int again = command == kWait ? cut : 0;
        EXPECT_EQ(Waits() - waits, (cut + 1) * operation.waits + again);
        return cut;
      }
      ++cut;
    }
    EXPECT_TRUE(HasFailure()) << "longer than " << kLongest << " bytes";
    return cut;
  }

  static constexpr size_t kLongest = 2000;
  static constexpr char kWait[] = "$4\r\nWAIT\r\n";
  static constexpr char kOrg[] = "acme";

  std::unique_ptr<RedisServer> primary_;
  std::unique_ptr<RedisServer> replica_;
  std::unique_ptr<LossyProxy> proxy_;
  std::unique_ptr<RedisTokenStore> store_;
  std::unique_ptr<Model> grant_;
  // Whatever revokes registers again.
  const std::vector<Operation> operations_ = {
      {"Register", [this] { grant_->Register(); }, 1, 1, 0},
      {"Refresh", [this] { grant_->Refresh(false); }, 3, 2, 1},
      {"Failure", [this] { grant_->Refresh(true); }, 3, 1, 1},
      {"Revoke",
       [this] {
         grant_->Revoke();
         grant_->Register();
       },
       2, 2, 0},
      {"ForgetTokens",
       [this] {
         grant_->Revoke();
         grant_->ForgetTokens();
         grant_->Register();
       },
       3, 2, 0},
      {"CountSend", [this] { grant_->CountSend(); }, 1, 1, 1},
  };
};

// Promise: an operation whose reply is lost has its one effect and gives its answer when repeated.
// Fault: the reply to each of the eight scripts, and to each WAIT for a replica, is cut after no
// byte, after its first, and so on to its last but one; the command has been carried out. Asserted:
// for every length the operation succeeds without being asked again, generation, epoch and failures
// have moved as by one of it, its send is in the journal once, and replicas were waited for again.
TEST_F(CutReplies, CutAfterEveryByteChangesNothing) {
  for (const Operation& operation : operations_) {
    SCOPED_TRACE(operation.name);
    for (int n = 0; n < operation.scripts; ++n) EXPECT_GT(CutEach(operation, "EVALSHA", n), 10);
    EXPECT_EQ(CutEach(operation, "EVALSHA", operation.scripts), 0);
    // ":1\r\n"
    for (int n = 0; n < operation.waits; ++n) EXPECT_EQ(CutEach(operation, kWait, n), 4);
    EXPECT_EQ(CutEach(operation, kWait, operation.waits), 0);
  }
  EXPECT_EQ(grant_->unanswered(), 0);
  EXPECT_EQ(grant_->misrouted(), 0);
}

}  // namespace
}  // namespace tokenbroker::faults
