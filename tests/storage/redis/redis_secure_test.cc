// The store over TLS, as the ACL user of the documentation: the whole contract, and that each of
// the user's rights is needed.
#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/errors.h"
#include "common/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/redis/redis_token_store.h"
#include "storage/redis/required_acl.h"
#include "storage/redis/tls.h"
#include "tests/storage/redis/redis_fixture.h"
#include "tests/storage/token_store_contract.h"
#include "tests/testing/certificate_authority.h"
#include "tests/testing/redis_server.h"

namespace tokenbroker {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kUser[] = "token-broker";

std::vector<std::string> Rules(const std::string& prefix) {
  const std::string_view acl = redis::kRequiredAcl;
  std::vector<std::string> rules = absl::StrSplit(absl::string_view(acl.data(), acl.size()), ' ');
  for (std::string& rule : rules) rule = absl::StrReplaceAll(rule, {{"tb:", prefix}});
  return rules;
}

// A server that wants TLS, a client certificate and a user; its default user is off.
class SecureServer {
 public:
  // Null: it does not start, and the test has failed.
  static SecureServer* Shared() {
    static const std::unique_ptr<SecureServer> shared(new SecureServer());
    return shared->server_ == nullptr ? nullptr : shared.get();
  }
  ~SecureServer() { std::filesystem::remove_all(directory_); }

  RedisServer& server() { return *server_; }
  const std::shared_ptr<const redis::TlsContext>& tls() const { return tls_; }

  void SetUser(const std::string& user, const std::string& password,
               const std::vector<std::string>& rules) {
    std::vector<std::string> words = {"ACL", "SETUSER", user, "reset", "on", ">" + password};
    words.insert(words.end(), rules.begin(), rules.end());
    const absl::StatusOr<std::string> reply = server_->Command(words);
    EXPECT_TRUE(reply.ok()) << reply.status();
  }

 private:
  SecureServer() {
    directory_ = (std::filesystem::temp_directory_path() / "tb-secure-XXXXXX").string();
    EXPECT_NE(mkdtemp(directory_.data()), nullptr);
    const auto ca = CertificateAuthority::Create();
    const auto own = (*ca)->Issue("IP:127.0.0.1");
    const auto mine = (*ca)->Issue("DNS:token-broker");
    EXPECT_TRUE(own.ok() && mine.ok());
    redis::TlsOptions tls = {directory_ + "/ca", directory_ + "/crt", directory_ + "/key", ""};
    std::ofstream(tls.ca_file) << (*ca)->certificate_pem();
    std::ofstream(tls.certificate_file) << mine->certificate_pem;
    std::ofstream(tls.key_file) << mine->private_key_pem;
    tls_ = *redis::TlsContext::Create(tls);
    RedisServer::Options options;
    options.tls = RedisServer::Tls{*own, (*ca)->certificate_pem(), true};
    options.users = {"default off"};
    absl::StatusOr<std::unique_ptr<RedisServer>> server = RedisServer::Start(std::move(options));
    EXPECT_TRUE(server.ok()) << server.status();
    if (server.ok()) server_ = *std::move(server);
  }

  std::string directory_;
  std::shared_ptr<const redis::TlsContext> tls_;
  std::unique_ptr<RedisServer> server_;
};

RedisTokenStoreOptions SecureOptions(SecureServer& server, const std::string& user,
                                     const std::string& password) {
  RedisTokenStoreOptions options = TestOptions(server.server().port());
  options.username = user;
  options.password = [password] { return Secret(password); };
  options.tls = server.tls();
  return options;
}

class SecureFixture : public RedisFixture {
 public:
  absl::StatusOr<std::unique_ptr<TokenStore>> Open(const ProtocolLimits& limits) override {
    SecureServer* const server = SecureServer::Shared();
    if (server == nullptr) return absl::UnavailableError("no redis-server");
    const std::string user = absl::StrCat(kUser, "-", prefix());
    server->SetUser(user, "canary", Rules(prefix()));
    RedisTokenStoreOptions options = SecureOptions(*server, user, "canary");
    options.key_prefix = prefix();
    options.limits = limits;
    options.test_clock_offset = ClockOffset();
    return RedisTokenStore::Create(std::move(options));
  }

 protected:
  void Command(const std::string&, const std::vector<std::string>& words) override {
    const absl::StatusOr<std::string> reply = SecureServer::Shared()->server().Command(words);
    EXPECT_TRUE(reply.ok()) << reply.status();
  }
};

INSTANTIATE_TEST_SUITE_P(RedisByTlsAndAcl, TokenStoreContract,
                         testing::Values(StoreBackend{
                             "Redis", [] { return std::make_unique<SecureFixture>(); }}),
                         StoreBackendName);

GrantKey Key() { return {"org-1", Environment::kProduction, "people-app"}; }

RegisterRequest Registration() {
  RegisterRequest request;
  request.key = Key();
  request.attempt_id = "register-1";
  request.info.dc = "eu";
  request.refresh_token = Secret("refresh-canary");
  return request;
}

// Everything that a broker does; what went wrong, "" if nothing did.
std::string Exercise(RedisTokenStore& store) {
  std::vector<std::string> wrong;
  const auto expect = [&](const absl::Status& status) {
    // Without replicas nothing is acknowledged; that WAIT may be asked is what matters here.
    if (!status.ok() && ErrorReason(status) != "STORE_NOT_ACKNOWLEDGED") {
      wrong.emplace_back(status.message());
    }
  };
  std::atomic<int> events{0};
  store.SetChangeListener([&](const ChangeEvent&) { ++events; });
  if (!WaitUntil([&] { return store.subscription_session() != 0; }, absl::Milliseconds(500))) {
    wrong.push_back("no subscription");
  }
  const int64_t session = store.subscription_session();
  expect(store.CheckDurability().status());
  expect(store.CheckWritable());
  expect(store.CountSend({Key(), "code"}).status());
  expect(store.Register(Registration()).status());
  const absl::StatusOr<AcquireResult> acquired = store.Acquire({Key(), "a", 1, Purpose::kCaller});
  expect(acquired.status());
  if (acquired.ok()) {
    expect(store.MarkSent({Key(), "a", acquired->epoch}).status());
    expect(
        store
            .Commit({Key(), "a", 1, {.access_token = Secret("access"), .lifetime = absl::Hours(1)}})
            .status());
  }
  expect(store.Load(Key()).status());
  expect(store.ListPage("", "", 10).status());
  expect(store.Revoke({Key()}).status());
  // Its key holds something else.
  RegisterRequest over = Registration();
  over.key.org_id = "org-2";
  expect(store.Register(over).status());
  if (wrong.empty() && !WaitUntil([&] { return events > 0; }, absl::Milliseconds(500))) {
    wrong.push_back("no event");
  }
  // The subscription asks for a sign of life after a second of silence.
  if (wrong.empty() &&
      WaitUntil([&] { return store.subscription_session() != session; }, absl::Seconds(2))) {
    wrong.push_back("the subscription was lost");
  }
  store.SetChangeListener(nullptr);
  return absl::StrJoin(wrong, "; ");
}

TEST(RedisAclTest, EveryRightOfTheDocumentedUserIsNeeded) {
  SecureServer* const server = SecureServer::Shared();
  ASSERT_NE(server, nullptr);
  const std::vector<std::string> all = Rules("tb:");
  for (size_t without = 0; without <= all.size(); ++without) {
    std::vector<std::string> rules = all;
    const std::string missing = without < all.size() ? all[without] : "nothing";
    if (without < all.size()) rules.erase(rules.begin() + static_cast<std::ptrdiff_t>(without));
    ASSERT_TRUE(server->server().Command({"FLUSHALL"}).ok());
    ASSERT_TRUE(server->server().Command({"SCRIPT", "FLUSH"}).ok());
    const std::string taken = "tb:{org-2:PRODUCTION:people-app}";
    ASSERT_TRUE(server->server().Command({"SET", taken, "something"}).ok());
    ASSERT_TRUE(server->server().Command({"MOVE", taken, "1"}).ok());
    server->SetUser("probe", "canary", rules);
    RedisTokenStoreOptions options = SecureOptions(*server, "probe", "canary");
    options.key_prefix = "tb:";
    options.database = 1;
    options.replica_acks = 1;
    options.replica_ack_timeout = absl::Milliseconds(1);
    options.quarantine = absl::Seconds(20);
    const auto store = RedisTokenStore::Create(options);
    ASSERT_TRUE(store.ok()) << store.status();
    const std::string wrong = Exercise(**store);
    EXPECT_THAT(wrong, Not(HasSubstr("canary")));
    if (missing == "nothing") {
      EXPECT_EQ(wrong, "");
    } else {
      EXPECT_NE(wrong, "") << missing << " is not needed";
    }
  }
}

TEST(RedisAclTest, TheHandbookHasTheSameRights) {
  std::ifstream file(std::string(TB_SOURCE_DIR) + "/docs/operations.md");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto in_text = [](std::string_view rules) { return HasSubstr(std::string(rules)); };
  EXPECT_THAT(
      text, HasSubstr("user token-broker on >PASSWORD " + std::string(redis::kRequiredAcl) + "\n"));
  EXPECT_THAT(text, HasSubstr("user token-broker on >PASSWORD " +
                              std::string(redis::kRequiredSentinelAcl) + "\n"));
  EXPECT_THAT(text, in_text(redis::kRequiredClusterAcl));
}

TEST(RedisAclTest, NothingElseIsAllowed) {
  SecureServer* const server = SecureServer::Shared();
  ASSERT_NE(server, nullptr);
  server->SetUser("probe", "canary", Rules("tb:"));
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"FLUSHALL"},
                                             {"KEYS", "*"},
                                             {"CONFIG", "GET", "*"},
                                             {"RENAME", "tb:x", "tb:y"},
                                             {"SCAN", "0"},
                                             {"EVAL", "return 1", "0"},
                                             {"EXPIRE", "tb:x", "1"},
                                             {"HGETALL", "other:x"},
                                             {"ACL", "LIST"}}) {
    std::vector<std::string> dry = {"ACL", "DRYRUN", "probe"};
    dry.insert(dry.end(), words.begin(), words.end());
    const absl::StatusOr<std::string> answer = server->server().Command(dry);
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_NE(*answer, "OK") << words[0];
  }
}

// A secret is rotated: the server takes the new password, then the file has it, then the old one
// ends; meanwhile connections come and go.
TEST(RedisAclTest, PasswordsAreRotatedUnderTraffic) {
  SecureServer* const server = SecureServer::Shared();
  ASSERT_NE(server, nullptr);
  Mutex mutex;
  std::string file = "canary-0";
  const auto write = [&](const std::string& password) {
    MutexLock lock(mutex);
    file = password;
  };
  server->SetUser("rotated", "canary-0", Rules("tb:"));
  RedisTokenStoreOptions options = SecureOptions(*server, "rotated", "");
  options.password = [&]() -> absl::StatusOr<Secret> {
    MutexLock lock(mutex);
    return Secret(file);
  };
  options.key_prefix = "tb:";
  const auto store = RedisTokenStore::Create(options);
  ASSERT_TRUE(store.ok()) << store.status();
  ASSERT_TRUE((*store)->Register(Registration()).ok());

  std::atomic<bool> stop{false};
  std::atomic<int> loads{0};
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      while (!stop) {
        const absl::StatusOr<GrantRecord> record = (*store)->Load(Key());
        if (!record.ok()) ++failures;
        ++loads;
      }
    });
  }
  const auto order = [&](const std::vector<std::string>& words) {
    const absl::StatusOr<std::string> reply = server->server().Command(words);
    EXPECT_TRUE(reply.ok()) << reply.status();
  };
  for (int i = 1; i <= 5; ++i) {
    const std::string before = absl::StrCat("canary-", i - 1);
    const std::string after = absl::StrCat("canary-", i);
    order({"ACL", "SETUSER", "rotated", ">" + after});
    write(after);
    order({"ACL", "SETUSER", "rotated", "<" + before});
    // All connections are made anew.
    const int seen = loads;
    order({"CLIENT", "KILL", "USER", "rotated"});
    EXPECT_TRUE(WaitUntil([&] { return loads > seen + 100; }));
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0) << "of " << loads;
}

// The server changed it first: the password that is refused is read once more.
TEST(RedisAclTest, RefusedPasswordIsReadAgainOnce) {
  SecureServer* const server = SecureServer::Shared();
  ASSERT_NE(server, nullptr);
  server->SetUser("late", "canary-new", Rules("tb:"));
  std::atomic<int> reads{0};
  RedisTokenStoreOptions options = SecureOptions(*server, "late", "");
  options.key_prefix = "tb:";
  options.tries = 1;
  options.password = [&]() -> absl::StatusOr<Secret> {
    return Secret(++reads == 1 ? "canary-old" : "canary-new");
  };
  {
    // Its subscription may be the one that meets the old password.
    const auto store = RedisTokenStore::Create(options);
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_EQ((*store)->CheckWritable(), absl::OkStatus());
  }
  options.password = [] { return Secret("canary-old"); };
  const auto wrong = RedisTokenStore::Create(options);
  const absl::Status status = (*wrong)->CheckWritable();
  EXPECT_EQ(ErrorReason(status), "STORE_UNAVAILABLE");
  EXPECT_THAT(std::string(status.message()), HasSubstr("WRONGPASS"));
  EXPECT_THAT(status.ToString(), Not(HasSubstr("canary")));
}

}  // namespace
}  // namespace tokenbroker
