// The contract suite on sealed tokens over SQLite, and what sealing adds.
#include "storage/sealing/sealing_token_store.h"

#include <memory>
#include <string>
#include <utility>

#include "common/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/storage/sqlite/sqlite_fixture.h"
#include "tests/storage/token_store_contract.h"

namespace tokenbroker {
namespace {

using testing::HasSubstr;
using testing::Not;

Keyring Ring(std::string id = "key-1", char key = '1') {
  return *Keyring::Create({{std::move(id), Secret(std::string(32, key))}});
}

class SealedSqliteFixture : public SqliteFixture {
 public:
  absl::StatusOr<std::unique_ptr<TokenStore>> Open(const ProtocolLimits& limits) override {
    absl::StatusOr<std::unique_ptr<TokenStore>> store = SqliteFixture::Open(limits);
    if (!store.ok()) return store;
    return std::make_unique<SealingTokenStore>(*std::move(store), Ring());
  }
};

INSTANTIATE_TEST_SUITE_P(SealedSqlite, TokenStoreContract,
                         testing::Values(StoreBackend{
                             "SealedSqlite",
                             [] { return std::make_unique<SealedSqliteFixture>(); }}),
                         StoreBackendName);

const GrantKey kKey = {"org-1", Environment::kProduction, "people-app"};
const GrantKey kOtherKey = {"org-1", Environment::kSandbox, "people-app"};

class SealingTokenStoreTest : public testing::Test {
 protected:
  // A store with this keyring, and one without, on the same file.
  std::unique_ptr<TokenStore> Sealing(Keyring ring) {
    return std::make_unique<SealingTokenStore>(Plain(), std::move(ring));
  }
  std::unique_ptr<TokenStore> Plain() { return *fixture_.Open(ContractLimits()); }

  static RegisterRequest Registration(const GrantKey& key = kKey) {
    RegisterRequest request;
    request.key = key;
    request.attempt_id = "register-1";
    request.info.dc = "eu";
    request.refresh_token = Secret("refresh-canary");
    request.tokens = MintedTokens{.access_token = Secret("access-canary"),
                                  .lifetime = absl::Hours(1),
                                  .refresh_token = Secret("ignored-canary")};
    return request;
  }

  SqliteFixture fixture_;
};

TEST_F(SealingTokenStoreTest, TokensAreSealedBehindIt) {
  ASSERT_TRUE(Sealing(Ring())->Register(Registration()).ok());
  ASSERT_TRUE(Sealing(Ring())
                  ->Commit({kKey,
                            "a",
                            1,
                            {.access_token = Secret("access-2-canary"),
                             .lifetime = absl::Hours(1),
                             .refresh_token = Secret("refresh-2-canary")}})
                  .ok());
  const absl::StatusOr<GrantRecord> stored = Plain()->Load(kKey);
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_THAT(std::string(stored->access_token.Reveal()), Not(HasSubstr("canary")));
  EXPECT_THAT(std::string(stored->refresh_token.Reveal()), Not(HasSubstr("canary")));
  const absl::StatusOr<GrantRecord> opened = Sealing(Ring())->Load(kKey);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_TRUE(opened->access_token == Secret("access-2-canary"));
  EXPECT_TRUE(opened->refresh_token == Secret("refresh-2-canary"));
}

TEST_F(SealingTokenStoreTest, SealedTokenOfAnotherGrantDoesNotOpen) {
  ASSERT_TRUE(Sealing(Ring())->Register(Registration()).ok());
  const absl::StatusOr<GrantRecord> stored = Plain()->Load(kKey);
  ASSERT_TRUE(stored.ok()) << stored.status();
  // Whoever can write to the database but has no key copies one org's tokens to another's record.
  RegisterRequest copy = Registration(kOtherKey);
  copy.refresh_token = stored->refresh_token;
  copy.tokens->access_token = stored->access_token;
  ASSERT_TRUE(Plain()->Register(copy).ok());
  EXPECT_EQ(ErrorReason(Sealing(Ring())->Load(kOtherKey).status()), "RECORD_UNREADABLE");
}

TEST_F(SealingTokenStoreTest, SealedTokenOfAnotherFieldDoesNotOpen) {
  ASSERT_TRUE(Sealing(Ring())->Register(Registration()).ok());
  const absl::StatusOr<GrantRecord> stored = Plain()->Load(kKey);
  ASSERT_TRUE(stored.ok()) << stored.status();
  // The refresh token would be handed to callers.
  RegisterRequest swapped = Registration();
  swapped.attempt_id = "register-2";
  swapped.refresh_token = stored->refresh_token;
  swapped.tokens->access_token = stored->refresh_token;
  ASSERT_TRUE(Plain()->Register(swapped).ok());
  EXPECT_EQ(ErrorReason(Sealing(Ring())->Load(kKey).status()), "RECORD_UNREADABLE");
}

TEST_F(SealingTokenStoreTest, TokenThatIsNotSealedDoesNotOpen) {
  ASSERT_TRUE(Plain()->Register(Registration()).ok());
  const absl::Status status = Sealing(Ring())->Load(kKey).status();
  EXPECT_EQ(ErrorReason(status), "RECORD_UNREADABLE");
  EXPECT_THAT(status.ToString(), Not(HasSubstr("canary")));
}

TEST_F(SealingTokenStoreTest, KeysOfDifferentAgesLiveTogether) {
  ASSERT_TRUE(Sealing(Ring("old", 'o'))->Register(Registration()).ok());
  const std::unique_ptr<TokenStore> rotated = std::make_unique<SealingTokenStore>(
      Plain(), *Keyring::Create(
                   {{"new", Secret(std::string(32, 'n'))}, {"old", Secret(std::string(32, 'o'))}}));
  // The access token comes from the new key, the refresh token stays under the old one.
  ASSERT_TRUE(
      rotated
          ->Commit({kKey, "a", 1, {.access_token = Secret("access-2"), .lifetime = absl::Hours(1)}})
          .ok());
  const absl::StatusOr<GrantRecord> record = rotated->Load(kKey);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_TRUE(record->access_token == Secret("access-2"));
  EXPECT_TRUE(record->refresh_token == Secret("refresh-canary"));
}

TEST_F(SealingTokenStoreTest, CommittingAnOutdatedTokenSealsItAnew) {
  ASSERT_TRUE(Sealing(Ring("old", 'o'))->Register(Registration()).ok());
  EXPECT_FALSE(Sealing(Ring("old", 'o'))->Load(kKey)->refresh_token_outdated);
  const std::unique_ptr<TokenStore> rotated = std::make_unique<SealingTokenStore>(
      Plain(), *Keyring::Create(
                   {{"new", Secret(std::string(32, 'n'))}, {"old", Secret(std::string(32, 'o'))}}));
  const absl::StatusOr<AcquireResult> lease = rotated->Acquire({kKey, "a", 1});
  ASSERT_TRUE(lease.ok()) << lease.status();
  EXPECT_TRUE(lease->record.refresh_token_outdated);
  ASSERT_TRUE(rotated
                  ->Commit({kKey,
                            "a",
                            1,
                            {.access_token = Secret("access-2"),
                             .lifetime = absl::Hours(1),
                             .refresh_token = lease->record.refresh_token}})
                  .ok());
  // The old key is of no more use.
  const absl::StatusOr<GrantRecord> record = Sealing(Ring("new", 'n'))->Load(kKey);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_TRUE(record->refresh_token == Secret("refresh-canary"));
  EXPECT_FALSE(record->refresh_token_outdated);
}

TEST_F(SealingTokenStoreTest, UnknownKeyMakesARecordUnreadableAndIsNamed) {
  ASSERT_TRUE(Sealing(Ring("lost", 'l'))->Register(Registration()).ok());
  const std::unique_ptr<TokenStore> store = Sealing(Ring());
  const absl::Status loaded = store->Load(kKey).status();
  EXPECT_EQ(loaded.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ErrorReason(loaded), "RECORD_UNREADABLE");
  EXPECT_THAT(std::string(loaded.message()), HasSubstr("'lost'"));
  // It is still listed, so that somebody can do something about it.
  const absl::StatusOr<GrantPage> page = store->ListPage("", "", 10);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(page->records.size(), 1u);
}

TEST_F(SealingTokenStoreTest, LeaseOfAnUnreadableRecordIsReleased) {
  ASSERT_TRUE(Sealing(Ring("lost", 'l'))->Register(Registration()).ok());
  const absl::Status acquired = Sealing(Ring())->Acquire({kKey, "a", 1, Purpose::kCaller}).status();
  EXPECT_EQ(ErrorReason(acquired), "RECORD_UNREADABLE");
  // A replica that has the key goes on at once.
  const absl::StatusOr<AcquireResult> other =
      Sealing(Ring("lost", 'l'))->Acquire({kKey, "b", 1, Purpose::kCaller});
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ(other->outcome, AcquireResult::Outcome::kGranted);
}

TEST_F(SealingTokenStoreTest, UnreadableRecordCanBeRevokedAndReplaced) {
  ASSERT_TRUE(Sealing(Ring("lost", 'l'))->Register(Registration()).ok());
  const std::unique_ptr<TokenStore> store = Sealing(Ring());
  const absl::StatusOr<RevokeResult> revoked = store->Revoke({kKey});
  ASSERT_TRUE(revoked.ok()) << revoked.status();
  EXPECT_EQ(revoked->outcome, RevokeResult::Outcome::kRevoked);
  EXPECT_TRUE(revoked->record.refresh_token.empty());
  EXPECT_TRUE(revoked->record.access_token.empty());
  const absl::StatusOr<AcquireResult> acquired = store->Acquire({kKey, "a", 2, Purpose::kCaller});
  ASSERT_TRUE(acquired.ok()) << acquired.status();
  EXPECT_EQ(acquired->outcome, AcquireResult::Outcome::kRevoked);

  RegisterRequest again = Registration();
  again.attempt_id = "register-2";
  ASSERT_TRUE(store->Register(again).ok());
  EXPECT_TRUE(store->Load(kKey).ok());
}

TEST_F(SealingTokenStoreTest, CommitToAnUnreadableRecordIsStillAnswered) {
  ASSERT_TRUE(Sealing(Ring("lost", 'l'))->Register(Registration()).ok());
  // The refresh token stays unreadable; the access token that Zoho gave must not be lost for that.
  const absl::StatusOr<CommitResult> committed = Sealing(Ring())->Commit(
      {kKey, "a", 1, {.access_token = Secret("access-2"), .lifetime = absl::Hours(1)}});
  ASSERT_TRUE(committed.ok()) << committed.status();
  EXPECT_EQ(committed->outcome, CommitResult::Outcome::kCommitted);
  EXPECT_EQ(committed->record.generation, 2);
}

}  // namespace
}  // namespace tokenbroker
