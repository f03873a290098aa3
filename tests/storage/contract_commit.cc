// Commit: what Zoho gave is stored once, or not at all.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/storage/token_store_contract.h"

namespace tokenbroker {
namespace {

using Outcome = CommitResult::Outcome;

TEST_P(TokenStoreContract, CommitStoresTheTokens) {
  RegisterOrg(Key());
  const int64_t epoch = AcquireAndSend(Key(), "a");
  const CommitResult result = Commit(Key(), "a", 1,
                                     {.access_token = Secret("access-2"),
                                      .lifetime = absl::Minutes(55),
                                      .refresh_token = Secret("refresh-2"),
                                      .scopes = {"ZOHOPEOPLE.forms.READ", "ZOHOPEOPLE.leave.READ"},
                                      .api_domain = "https://www.zohoapis.eu"});
  EXPECT_EQ(result.outcome, Outcome::kCommitted);
  EXPECT_EQ(result.record.generation, 2);

  const GrantRecord record = Load(Key());
  EXPECT_EQ(record.generation, 2);
  EXPECT_EQ(record.epoch, epoch);
  EXPECT_EQ(record.state, GrantState::kActive);
  EXPECT_TRUE(record.access_token == Secret("access-2"));
  EXPECT_TRUE(record.refresh_token == Secret("refresh-2"));
  EXPECT_EQ(record.info.scopes,
            (std::vector<std::string>{"ZOHOPEOPLE.forms.READ", "ZOHOPEOPLE.leave.READ"}));
  EXPECT_EQ(record.api_domain, "https://www.zohoapis.eu");
  EXPECT_EQ(record.info.dc, "eu");
  EXPECT_TRUE(About(record.AccessLifetime(), absl::Minutes(55)));
  EXPECT_EQ(record.phase, LeasePhase::kNone);
  EXPECT_EQ(record.last_commit_attempt, "a");
  EXPECT_EQ(record.sends.size(), 1u);
  EXPECT_EQ(record.created, result.record.created);
}

TEST_P(TokenStoreContract, CommitKeepsWhatZohoLeftOut) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  MintedTokens tokens = Tokens("access-2");
  tokens.api_domain = "https://www.zohoapis.eu";
  Commit(Key(), "a", 1, tokens);
  AcquireAndSend(Key(), "b", 2);
  Commit(Key(), "b", 2, Tokens("access-3"));
  const GrantRecord record = Load(Key());
  EXPECT_TRUE(record.access_token == Secret("access-3"));
  EXPECT_TRUE(record.refresh_token == Secret("refresh-1"));
  EXPECT_EQ(record.info.scopes, (std::vector<std::string>{"ZOHOPEOPLE.forms.ALL"}));
  EXPECT_EQ(record.api_domain, "https://www.zohoapis.eu");
}

TEST_P(TokenStoreContract, LifetimeRunsOnTheStoresClock) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  Commit(Key(), "a", 1);
  Advance(absl::Minutes(50));
  EXPECT_TRUE(About(Load(Key()).AccessLifetime(), absl::Minutes(10)));
  Advance(absl::Minutes(15));
  EXPECT_LE(Load(Key()).AccessLifetime(), -absl::Minutes(5));
  EXPECT_FALSE(Load(Key()).access_token.empty());
}

TEST_P(TokenStoreContract, TokenFromTheStoresFutureIsOfUnknownAge) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  Commit(Key(), "a", 1);
  EXPECT_TRUE(Load(Key()).AccessEnd());
  // The clock was right, and is an hour behind now: the token would seem to live for two.
  Advance(-absl::Hours(1));
  const GrantRecord record = Load(Key());
  EXPECT_FALSE(record.AccessEnd());
  EXPECT_EQ(record.AccessLifetime(), absl::ZeroDuration());
  EXPECT_TRUE(record.access_token == Secret("access-2"));
  const absl::StatusOr<GrantPage> page = store().ListPage("", "", 1);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_FALSE(page->records.at(0).AccessEnd());
  // The next one is good again; so is what comes with a registration.
  AcquireAndSend(Key(), "b", 2);
  Commit(Key(), "b", 2);
  EXPECT_TRUE(About(Load(Key()).AccessLifetime(), absl::Hours(1)));
  RegisterRequest registration = Registration(Key(), "register-2");
  registration.tokens = Tokens();
  Register(registration);
  EXPECT_TRUE(About(Load(Key()).AccessLifetime(), absl::Hours(1)));
  Advance(-absl::Hours(1));
  EXPECT_FALSE(Load(Key()).AccessEnd());
  // One without a token has none of an age.
  EXPECT_EQ(Register(Registration(Key(), "register-3")).record.access_stored, absl::InfinitePast());
}

TEST_P(TokenStoreContract, CommitAgainIsADuplicate) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  Commit(Key(), "a", 1);
  const CommitResult again = Commit(Key(), "a", 1, Tokens("other"));
  EXPECT_EQ(again.outcome, Outcome::kDuplicate);
  EXPECT_EQ(again.record.generation, 2);
  EXPECT_TRUE(again.record.access_token == Secret("access-2"));
  EXPECT_EQ(Load(Key()).generation, 2);
}

TEST_P(TokenStoreContract, CommitAgainAfterARevocationIsADuplicate) {
  // The revocation found these tokens and has them revoked upstream: not this caller's job.
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  Commit(Key(), "a", 1);
  Revoke(Key());
  EXPECT_EQ(Commit(Key(), "a", 1).outcome, Outcome::kDuplicate);
  EXPECT_EQ(Load(Key()).state, GrantState::kRevoked);
}

TEST_P(TokenStoreContract, CommitAgainAfterARegistrationIsADuplicate) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  Commit(Key(), "a", 1);
  Register(Registration(Key(), "register-2"));
  EXPECT_EQ(Commit(Key(), "a", 1).outcome, Outcome::kDuplicate);
  EXPECT_TRUE(Load(Key()).access_token.empty());
}

TEST_P(TokenStoreContract, LateSuccessIsStored) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  // Paused far past the lease. With a rotating provider this is the only valid refresh token.
  Advance(limits_.sent_lease * 3);
  MintedTokens tokens = Tokens();
  tokens.refresh_token = Secret("rotated");
  EXPECT_EQ(Commit(Key(), "a", 1, tokens).outcome, Outcome::kCommitted);
  EXPECT_TRUE(Load(Key()).refresh_token == Secret("rotated"));
}

TEST_P(TokenStoreContract, LateSuccessLeavesAnothersLeaseAlone) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  Advance(limits_.sent_lease);
  const int64_t epoch = AcquireAndSend(Key(), "b");
  EXPECT_EQ(Commit(Key(), "a", 1).outcome, Outcome::kCommitted);
  const GrantRecord record = Load(Key());
  EXPECT_EQ(record.generation, 2);
  EXPECT_EQ(record.lease_owner, "b");
  EXPECT_EQ(record.phase, LeasePhase::kSent);
  EXPECT_EQ(record.epoch, epoch);
  // One request at a time, still.
  EXPECT_EQ(Acquire(Key(), "c", 2).outcome, AcquireResult::Outcome::kBusy);
}

TEST_P(TokenStoreContract, CommitFromAnOldGenerationIsSuperseded) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  Advance(limits_.sent_lease);
  AcquireAndSend(Key(), "b");
  Commit(Key(), "b", 1, Tokens("from-b"));
  const CommitResult late = Commit(Key(), "a", 1, Tokens("from-a"));
  EXPECT_EQ(late.outcome, Outcome::kSuperseded);
  EXPECT_EQ(late.record.generation, 2);
  EXPECT_TRUE(late.record.access_token == Secret("from-b"));
  EXPECT_TRUE(Load(Key()).access_token == Secret("from-b"));
  EXPECT_EQ(Load(Key()).last_commit_attempt, "b");
}

TEST_P(TokenStoreContract, CommitFromAFutureGenerationIsSuperseded) {
  // A database that was restored from a backup: these tokens belong to a record that is gone.
  RegisterOrg(Key());
  EXPECT_EQ(Commit(Key(), "a", 7).outcome, Outcome::kSuperseded);
  EXPECT_EQ(Load(Key()).generation, 1);
}

TEST_P(TokenStoreContract, SupersededCommitGivesItsOwnLeaseBack) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  Advance(limits_.sent_lease);
  AcquireAndSend(Key(), "b");
  Commit(Key(), "a", 1);
  EXPECT_EQ(Commit(Key(), "b", 1, Tokens("from-b")).outcome, Outcome::kSuperseded);
  EXPECT_EQ(Load(Key()).phase, LeasePhase::kNone);
  EXPECT_TRUE(Load(Key()).access_token == Secret("access-2"));
  // Its fate is known: no doubt is left.
  const AcquireResult next = Acquire(Key(), "c", 2);
  EXPECT_EQ(next.outcome, AcquireResult::Outcome::kGranted);
  EXPECT_FALSE(next.previous_ambiguous);
}

TEST_P(TokenStoreContract, SupersededCommitLeavesAnothersLeaseAlone) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  Register(Registration(Key(), "register-2"));
  Acquire(Key(), "b", 2);
  EXPECT_EQ(Commit(Key(), "a", 1).outcome, Outcome::kSuperseded);
  EXPECT_EQ(Load(Key()).lease_owner, "b");
  EXPECT_EQ(Load(Key()).phase, LeasePhase::kHeld);
}

TEST_P(TokenStoreContract, CommitToARevokedGrantStoresNothing) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  Revoke(Key());
  const CommitResult result = Commit(Key(), "a", 1);
  EXPECT_EQ(result.outcome, Outcome::kRevoked);
  EXPECT_EQ(result.record.state, GrantState::kRevoked);
  EXPECT_TRUE(Load(Key()).access_token.empty());
  EXPECT_EQ(Load(Key()).state, GrantState::kRevoked);
  // Whatever generation is claimed.
  EXPECT_EQ(Commit(Key(), "a", 2).outcome, Outcome::kRevoked);
  EXPECT_EQ(Load(Key()).generation, 2);
}

TEST_P(TokenStoreContract, CommitToAGrantRegisteredAnewIsSuperseded) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  RegisterRequest registration = Registration(Key(), "register-2");
  registration.refresh_token = Secret("new-consent");
  Register(registration);
  MintedTokens tokens = Tokens();
  tokens.refresh_token = Secret("old-consent");
  EXPECT_EQ(Commit(Key(), "a", 1, tokens).outcome, Outcome::kSuperseded);
  EXPECT_TRUE(Load(Key()).refresh_token == Secret("new-consent"));
  EXPECT_TRUE(Load(Key()).access_token.empty());
}

TEST_P(TokenStoreContract, CommitToAnUnknownGrantIsNotFound) {
  EXPECT_EQ(Commit(Key(), "a", 1).outcome, Outcome::kNotFound);
  EXPECT_FALSE(store().Load(Key()).ok());
}

TEST_P(TokenStoreContract, CommitEndsTheFailureAndItsCooldown) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  Advance(limits_.sent_lease);
  FailOnce(Key(), "b", FailureKind::kTransient);
  Commit(Key(), "a", 1);
  const GrantRecord record = Load(Key());
  EXPECT_EQ(record.last_failure, FailureKind::kNone);
  EXPECT_EQ(record.last_error, "");
  EXPECT_EQ(record.consecutive_failures, 0);
  EXPECT_FALSE(record.ambiguous);
  EXPECT_EQ(record.last_failure_time, absl::InfinitePast());
  EXPECT_EQ(Acquire(Key(), "c", 2).outcome, AcquireResult::Outcome::kGranted);
}

TEST_P(TokenStoreContract, CommitBringsAGrantBackFromNeedsConsent) {
  // A was paused; B used the refresh token that A's request had rotated away, and was believed.
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  Advance(limits_.sent_lease);
  FailOnce(Key(), "b", FailureKind::kNeedsConsent);
  ASSERT_EQ(Load(Key()).state, GrantState::kNeedsConsent);
  EXPECT_EQ(Commit(Key(), "a", 1).outcome, Outcome::kCommitted);
  EXPECT_EQ(Load(Key()).state, GrantState::kActive);
  EXPECT_EQ(Acquire(Key(), "c", 2).outcome, AcquireResult::Outcome::kGranted);
}

TEST_P(TokenStoreContract, ValuesMayBeAnyBytes) {
  std::string every_byte;
  for (int i = 0; i < 256; ++i) every_byte.push_back(static_cast<char>(i));
  RegisterRequest registration = Registration(Key());
  registration.refresh_token = Secret(every_byte + "r");
  registration.info.display_name = every_byte + "d";
  registration.info.labels = {{every_byte, every_byte + "l"}, {"", "empty key"}, {"empty", ""}};
  registration.info.soid = every_byte + "s";
  registration.info.scopes = {every_byte, "", ",", "a b"};
  registration.info.dc = every_byte;
  Register(registration);
  GrantRecord record = Load(Key());
  EXPECT_TRUE(record.refresh_token == Secret(every_byte + "r"));
  EXPECT_EQ(record.info.display_name, every_byte + "d");
  EXPECT_EQ(record.info.labels, registration.info.labels);
  EXPECT_EQ(record.info.soid, every_byte + "s");
  EXPECT_EQ(record.info.scopes, registration.info.scopes);
  EXPECT_EQ(record.info.dc, every_byte);

  const std::string attempt = every_byte + "a";
  AcquireAndSend(Key(), attempt);
  MintedTokens tokens;
  tokens.access_token = Secret(every_byte + "x");
  tokens.refresh_token = Secret(std::string("\0\0\xff rotated", 11));
  tokens.lifetime = absl::Hours(1);
  tokens.api_domain = every_byte;
  EXPECT_EQ(Commit(Key(), attempt, 1, tokens).outcome, Outcome::kCommitted);
  record = Load(Key());
  EXPECT_TRUE(record.access_token == tokens.access_token);
  EXPECT_TRUE(record.refresh_token == tokens.refresh_token);
  EXPECT_EQ(record.api_domain, every_byte);
  EXPECT_EQ(record.last_commit_attempt, attempt);
  EXPECT_EQ(Commit(Key(), attempt, 1, tokens).outcome, Outcome::kDuplicate);
}

TEST_P(TokenStoreContract, LargeTokensAreStored) {
  RegisterOrg(Key());
  AcquireAndSend(Key(), "a");
  MintedTokens tokens = Tokens(std::string(64 * 1024, 't'));
  Commit(Key(), "a", 1, tokens);
  EXPECT_TRUE(Load(Key()).access_token == tokens.access_token);
}

TEST_P(TokenStoreContract, OneOfManyCommitsOfAGenerationIsStored) {
  constexpr int kThreads = 8;
  RegisterOrg(Key());
  std::atomic<int> committed = 0;
  std::atomic<int> superseded = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      TokenStore& replica = i % 2 == 0 ? store() : other();
      const absl::StatusOr<CommitResult> result = replica.Commit(
          {Key(), absl::StrCat("thread-", i), 1, Tokens(absl::StrCat("access-", i))});
      ASSERT_TRUE(result.ok()) << result.status();
      if (result->outcome == Outcome::kCommitted) ++committed;
      if (result->outcome == Outcome::kSuperseded) ++superseded;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(committed, 1);
  EXPECT_EQ(superseded, kThreads - 1);
  EXPECT_EQ(Load(Key()).generation, 2);
}

}  // namespace
}  // namespace tokenbroker
