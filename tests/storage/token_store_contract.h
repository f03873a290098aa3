#ifndef TOKEN_BROKER_TESTS_STORAGE_TOKEN_STORE_CONTRACT_H_
#define TOKEN_BROKER_TESTS_STORAGE_TOKEN_STORE_CONTRACT_H_

#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "storage/protocol_limits.h"
#include "storage/token_store.h"

// What every TokenStore has to do, as one suite that runs on each backend. A backend's test file
// provides a StoreFixture and instantiates the suite:
//
//   INSTANTIATE_TEST_SUITE_P(Sqlite, TokenStoreContract, testing::Values(StoreBackend{
//       "Sqlite", [] { return std::make_unique<SqliteFixture>(); }}), StoreBackendName);
//
// and links the CMake target tb_token_store_contract, which holds the tests.
namespace tokenbroker {

// One empty database, and the clock that its stores go by.
class StoreFixture {
 public:
  virtual ~StoreFixture() = default;
  // A store on the database. Several may be open at once: they are replicas. The fixture outlives
  // them.
  virtual absl::StatusOr<std::unique_ptr<TokenStore>> Open(const ProtocolLimits& limits) = 0;
  // Moves the clock of all stores of this fixture, the open ones too; a negative duration moves it
  // back. The clock may also go on by itself: the suite leaves 20 s of room in every check.
  virtual void AdvanceTime(absl::Duration by) = 0;
  // Whether a change made through one store reaches the listeners of the others.
  virtual bool EventsCrossStores() const = 0;
  // Ways in which a record of this backend can become unreadable, each done behind the stores' back
  // to a record that is sound: 0 to damages() - 1.
  virtual int damages() const = 0;
  virtual void Damage(const GrantKey& key, int way) = 0;
  // Whether the journal of sends and the time until which Zoho throttles stay as they were.
  virtual bool DamageSparesLimits(int way) const = 0;
  // Adds a key that no grant's key encodes to.
  virtual void AddStrayKey(const std::string& encoded) = 0;
};

struct StoreBackend {
  std::string name;  // letters and digits
  std::function<std::unique_ptr<StoreFixture>()> make;
};

inline std::string StoreBackendName(const ::testing::TestParamInfo<StoreBackend>& info) {
  return info.param.name;
}
inline void PrintTo(const StoreBackend& backend, std::ostream* out) { *out << backend.name; }

// The defaults times ten, so that a slow machine on a clock that goes by itself does not matter.
ProtocolLimits ContractLimits();

class TokenStoreContract : public ::testing::TestWithParam<StoreBackend> {
 protected:
  void SetUp() override;

  // The store that most tests use, and a second one on the same database.
  TokenStore& store() { return *store_; }
  TokenStore& other() { return *other_; }
  StoreFixture& fixture() { return *fixture_; }
  void Advance(absl::Duration by) { fixture_->AdvanceTime(by); }

  static GrantKey Key(std::string_view org = "org-1");
  // A registration of `org` with a refresh token and no access token.
  static RegisterRequest Registration(const GrantKey& key, std::string_view attempt = "register-1");
  static MintedTokens Tokens(std::string_view access = "access-2");

  // Each of these does one operation with valid arguments and fails the test unless it returns OK.
  GrantRecord Load(const GrantKey& key);
  RegisterResult Register(const RegisterRequest& request);
  GrantRecord RegisterOrg(const GrantKey& key);  // generation 1
  CountSendResult CountSend(const GrantKey& key, std::string_view attempt);
  AcquireResult Acquire(const GrantKey& key, std::string_view attempt, int64_t seen_generation = 1,
                        Purpose purpose = Purpose::kCaller);
  MarkSentOutcome MarkSent(const GrantKey& key, std::string_view attempt, int64_t epoch);
  CommitResult Commit(const GrantKey& key, std::string_view attempt, int64_t generation,
                      const MintedTokens& tokens = Tokens());
  FailResult Fail(const GrantKey& key, std::string_view attempt, int64_t epoch, int64_t generation,
                  FailureKind kind = FailureKind::kTransient);
  RevokeResult Revoke(const GrantKey& key, std::optional<std::string> registered_by = std::nullopt);

  // Counts `sends` codes, and fails the test unless the budget has room for them.
  void CountSends(const GrantKey& key, int sends);
  // A grant with generation 1 and so many sends in its journal.
  GrantRecord RegisterWithSends(const GrantKey& key, int sends);

  // Acquires and marks sent, and fails the test unless both are granted. Returns the epoch.
  int64_t AcquireAndSend(const GrantKey& key, std::string_view attempt,
                         int64_t seen_generation = 1);
  // A whole attempt that fails, after whatever cooldown there is.
  FailResult FailOnce(const GrantKey& key, std::string_view attempt, FailureKind kind,
                      int64_t generation = 1);

  // The store's clock may have gone on by itself since `expected` was true.
  static ::testing::AssertionResult About(absl::Duration actual, absl::Duration expected);

  ProtocolLimits limits_ = ContractLimits();

 private:
  int codes_ = 0;  // that were counted
  std::unique_ptr<StoreFixture> fixture_;
  std::unique_ptr<TokenStore> store_;
  std::unique_ptr<TokenStore> other_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_STORAGE_TOKEN_STORE_CONTRACT_H_
