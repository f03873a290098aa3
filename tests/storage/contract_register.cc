// Load, register, revoke, forget; and ids that try to be somebody else's.
#include <string>
#include <vector>

#include "common/errors.h"
#include "tests/storage/token_store_contract.h"

namespace tokenbroker {
namespace {

using Outcome = RegisterResult::Outcome;

TEST_P(TokenStoreContract, UnknownGrantIsNotFound) {
  const absl::Status status = store().Load(Key()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ErrorReason(status), "ORG_NOT_FOUND");
}

TEST_P(TokenStoreContract, RegistrationIsStored) {
  RegisterRequest request = Registration(Key());
  request.info = {.type = GrantType::kClientCredentials,
                  .dc = "in",
                  .scopes = {"A.b.C", "D.e.F"},
                  .soid = "Service.12345",
                  .display_name = "Zylker",
                  .labels = {{"tier", "gold"}, {"region", "south"}},
                  .keep_warm = true};
  request.refresh_token = Secret("refresh-1");
  const RegisterResult result = Register(request);
  EXPECT_EQ(result.outcome, Outcome::kCreated);
  const GrantRecord stored = Load(Key());
  for (const GrantRecord& record : {result.record, stored}) {
    EXPECT_EQ(record.key, Key());
    EXPECT_EQ(record.state, GrantState::kActive);
    EXPECT_EQ(record.generation, 1);
    EXPECT_EQ(record.info.type, GrantType::kClientCredentials);
    EXPECT_EQ(record.info.dc, "in");
    EXPECT_EQ(record.info.scopes, request.info.scopes);
    EXPECT_EQ(record.info.soid, "Service.12345");
    EXPECT_EQ(record.info.display_name, "Zylker");
    EXPECT_EQ(record.info.labels, request.info.labels);
    EXPECT_TRUE(record.info.keep_warm);
    EXPECT_TRUE(record.refresh_token == Secret("refresh-1"));
    EXPECT_TRUE(record.access_token.empty());
    EXPECT_LE(record.AccessLifetime(), absl::ZeroDuration());
    EXPECT_EQ(record.api_domain, "");
    EXPECT_EQ(record.phase, LeasePhase::kNone);
    EXPECT_EQ(record.last_failure, FailureKind::kNone);
    EXPECT_EQ(record.consecutive_failures, 0);
    EXPECT_FALSE(record.ambiguous);
    EXPECT_TRUE(record.sends.empty());
    EXPECT_EQ(record.last_register_attempt, "register-1");
    EXPECT_EQ(record.created, record.updated);
    EXPECT_TRUE(About(record.created - record.store_now, absl::ZeroDuration()));
  }
}

TEST_P(TokenStoreContract, RegistrationWithTokensCanBeUsedAtOnce) {
  RegisterRequest request = Registration(Key());
  request.tokens = MintedTokens{.access_token = Secret("access-1"),
                                .lifetime = absl::Hours(1),
                                .refresh_token = Secret("not looked at"),
                                .scopes = {"ZOHOPEOPLE.leave.READ"},
                                .api_domain = "https://www.zohoapis.eu"};
  Register(request);
  const GrantRecord record = Load(Key());
  EXPECT_EQ(record.generation, 1);
  EXPECT_TRUE(record.access_token == Secret("access-1"));
  EXPECT_TRUE(record.refresh_token == Secret("refresh-1"));
  EXPECT_EQ(record.info.scopes, (std::vector<std::string>{"ZOHOPEOPLE.leave.READ"}));
  EXPECT_EQ(record.api_domain, "https://www.zohoapis.eu");
  EXPECT_TRUE(About(record.AccessLifetime(), absl::Hours(1)));
  // A refresh of an older state is answered by these tokens.
  EXPECT_EQ(Acquire(Key(), "a", 0).outcome, AcquireResult::Outcome::kFresh);
}

TEST_P(TokenStoreContract, RegisterAgainWithTheSameAttemptIsADuplicate) {
  RegisterRequest request = Registration(Key());
  Register(request);
  AcquireAndSend(Key(), "a");
  Commit(Key(), "a", 1);
  request.refresh_token = Secret("other");
  const RegisterResult again = Register(request);
  EXPECT_EQ(again.outcome, Outcome::kDuplicate);
  EXPECT_EQ(again.record.generation, 2);
  EXPECT_TRUE(again.record.access_token == Secret("access-2"));
  EXPECT_TRUE(Load(Key()).refresh_token == Secret("refresh-1"));
}

TEST_P(TokenStoreContract, LateRepetitionOfARegistrationRevivesNothing) {
  Register(Registration(Key()));
  Revoke(Key());
  const RegisterResult again = Register(Registration(Key()));
  EXPECT_EQ(again.outcome, Outcome::kDuplicate);
  EXPECT_EQ(again.record.state, GrantState::kRevoked);
  EXPECT_EQ(Load(Key()).state, GrantState::kRevoked);
}

// Whoever registered or revoked the grant since this registration began has the last word.
TEST_P(TokenStoreContract, RegisterReplacesTheConsentThatItFoundOnly) {
  RegisterRequest first = Registration(Key());
  first.replaces = Consent();
  EXPECT_EQ(Register(first).outcome, Outcome::kCreated);

  RegisterRequest late = Registration(Key(), "register-late");
  late.refresh_token = Secret("refresh-late");
  late.replaces = Consent();
  RegisterResult result = Register(late);
  EXPECT_EQ(result.outcome, Outcome::kSuperseded);
  EXPECT_EQ(result.record.last_register_attempt, "register-1");
  EXPECT_EQ(result.record.generation, 1);

  late.replaces = Load(Key()).consent();
  Revoke(Key());
  result = Register(late);
  EXPECT_EQ(result.outcome, Outcome::kSuperseded);
  EXPECT_EQ(result.record.state, GrantState::kRevoked);
  EXPECT_EQ(Load(Key()).state, GrantState::kRevoked);
  EXPECT_TRUE(Load(Key()).refresh_token == Secret("refresh-1"));

  late.replaces = Load(Key()).consent();
  EXPECT_EQ(Register(late).outcome, Outcome::kReplaced);
  EXPECT_TRUE(Load(Key()).refresh_token == Secret("refresh-late"));
  // Its repetition is one, whatever it had found.
  EXPECT_EQ(Register(late).outcome, Outcome::kDuplicate);
}

TEST_P(TokenStoreContract, RefreshesDoNotChangeTheConsent) {
  Register(Registration(Key()));
  const Consent found = Load(Key()).consent();
  AcquireAndSend(Key(), "a");
  Commit(Key(), "a", 1);
  FailOnce(Key(), "b", FailureKind::kNeedsConsent, 2);
  RegisterRequest second = Registration(Key(), "register-2");
  second.replaces = found;
  EXPECT_EQ(Register(second).outcome, Outcome::kReplaced);
  const RevokeResult revoked = Revoke(Key(), "register-2");
  EXPECT_EQ(revoked.outcome, RevokeResult::Outcome::kRevoked);
}

TEST_P(TokenStoreContract, RevokeEndsTheConsentThatItFoundOnly) {
  Register(Registration(Key()));
  Register(Registration(Key(), "register-2"));
  RevokeResult result = Revoke(Key(), "register-1");
  EXPECT_EQ(result.outcome, RevokeResult::Outcome::kSuperseded);
  EXPECT_EQ(Load(Key()).state, GrantState::kActive);
  EXPECT_EQ(Load(Key()).generation, 2);
  result = Revoke(Key(), "register-2");
  EXPECT_EQ(result.outcome, RevokeResult::Outcome::kRevoked);
  EXPECT_EQ(Revoke(Key(), "register-2").outcome, RevokeResult::Outcome::kAlreadyRevoked);
  EXPECT_EQ(Revoke(Key(), "register-1").outcome, RevokeResult::Outcome::kSuperseded);
}

TEST_P(TokenStoreContract, RegisterReplacesTheGrant) {
  RegisterRequest first = Registration(Key());
  first.info.soid = "Service.1";
  first.info.labels = {{"tier", "gold"}};
  first.tokens = Tokens("access-1");
  first.tokens->api_domain = "https://www.zohoapis.eu";
  const GrantRecord created = Register(first).record;
  FailOnce(Key(), "a", FailureKind::kAmbiguous);
  Advance(absl::Minutes(30));
  const AcquireResult held = Acquire(Key(), "b");
  ASSERT_EQ(held.outcome, AcquireResult::Outcome::kGranted);

  RegisterRequest second = Registration(Key(), "register-2");
  second.info.dc = "us";
  second.refresh_token = Secret("refresh-2");
  const RegisterResult result = Register(second);
  EXPECT_EQ(result.outcome, Outcome::kReplaced);
  const GrantRecord record = Load(Key());
  EXPECT_EQ(record.generation, 2);
  EXPECT_EQ(record.epoch, held.epoch + 1);
  EXPECT_EQ(record.info.dc, "us");
  EXPECT_EQ(record.info.soid, "");
  EXPECT_TRUE(record.info.labels.empty());
  EXPECT_TRUE(record.refresh_token == Secret("refresh-2"));
  // Of the old grant, perhaps of the old DC: gone.
  EXPECT_TRUE(record.access_token.empty());
  EXPECT_EQ(record.api_domain, "");
  EXPECT_EQ(record.phase, LeasePhase::kNone);
  EXPECT_EQ(record.last_failure, FailureKind::kNone);
  EXPECT_EQ(record.last_error, "");
  EXPECT_EQ(record.consecutive_failures, 0);
  EXPECT_FALSE(record.ambiguous);
  EXPECT_EQ(record.created, created.created);
  EXPECT_GE(record.updated - record.created, absl::Minutes(30));
}

TEST_P(TokenStoreContract, RegisterEndsTheCooldown) {
  RegisterOrg(Key());
  FailOnce(Key(), "a", FailureKind::kTransient);
  Register(Registration(Key(), "register-2"));
  EXPECT_EQ(Acquire(Key(), "b", 2).outcome, AcquireResult::Outcome::kGranted);
}

TEST_P(TokenStoreContract, NothingButTimeEndsAThrottle) {
  RegisterOrg(Key());
  // Sent before, and answered after it.
  AcquireAndSend(Key(), "late");
  Advance(limits_.sent_lease);
  FailOnce(Key(), "a", FailureKind::kThrottled);
  ASSERT_EQ(Commit(Key(), "late", 1).outcome, CommitResult::Outcome::kCommitted);
  EXPECT_EQ(Acquire(Key(), "b", 2).outcome, AcquireResult::Outcome::kCooldown);
  Register(Registration(Key(), "register-2"));
  EXPECT_EQ(Acquire(Key(), "b", 3).outcome, AcquireResult::Outcome::kCooldown);
  Revoke(Key());
  const AcquireResult refused = Acquire(Key(), "b", 0, Purpose::kRegistration);
  EXPECT_EQ(refused.outcome, AcquireResult::Outcome::kCooldown);
  EXPECT_TRUE(About(refused.wait, limits_.throttle_cooldown));
  EXPECT_EQ(CountSend(Key(), "c").outcome, CountSendResult::Outcome::kThrottled);
  Advance(limits_.throttle_cooldown);
  EXPECT_EQ(Acquire(Key(), "b", 0, Purpose::kRegistration).outcome,
            AcquireResult::Outcome::kGranted);
  EXPECT_EQ(CountSend(Key(), "c").outcome, CountSendResult::Outcome::kCounted);
}

TEST_P(TokenStoreContract, RegisterBringsADeadOrRevokedGrantBack) {
  RegisterOrg(Key());
  FailOnce(Key(), "a", FailureKind::kNeedsConsent);
  EXPECT_EQ(Register(Registration(Key(), "register-2")).outcome, Outcome::kReplaced);
  EXPECT_EQ(Load(Key()).state, GrantState::kActive);
  Revoke(Key());
  EXPECT_EQ(Register(Registration(Key(), "register-3")).outcome, Outcome::kReplaced);
  EXPECT_EQ(Load(Key()).state, GrantState::kActive);
  // The generation never starts over, or an attempt from before would fit again.
  EXPECT_EQ(Load(Key()).generation, 4);
}

TEST_P(TokenStoreContract, RevokeMarksAndKeepsTheTokens) {
  RegisterRequest request = Registration(Key());
  request.tokens = Tokens("access-1");
  Register(request);
  const AcquireResult held = Acquire(Key(), "a");
  const RevokeResult result = Revoke(Key());
  EXPECT_EQ(result.outcome, RevokeResult::Outcome::kRevoked);
  const GrantRecord stored = Load(Key());
  for (const GrantRecord& record : {result.record, stored}) {
    EXPECT_EQ(record.state, GrantState::kRevoked);
    EXPECT_EQ(record.generation, 2);
    EXPECT_EQ(record.epoch, held.epoch + 1);
    EXPECT_EQ(record.phase, LeasePhase::kNone);
    EXPECT_TRUE(record.refresh_token == Secret("refresh-1"));
    EXPECT_TRUE(record.access_token == Secret("access-1"));
  }
}

TEST_P(TokenStoreContract, RevokeAgainChangesNothing) {
  RegisterOrg(Key());
  const GrantRecord first = Revoke(Key()).record;
  Advance(absl::Minutes(1));
  const RevokeResult again = Revoke(Key());
  EXPECT_EQ(again.outcome, RevokeResult::Outcome::kAlreadyRevoked);
  EXPECT_EQ(again.record.generation, first.generation);
  EXPECT_EQ(again.record.epoch, first.epoch);
  EXPECT_EQ(again.record.updated, first.updated);
  // Whoever died between the mark and the revocation upstream is repeated.
  EXPECT_TRUE(again.record.refresh_token == Secret("refresh-1"));
}

TEST_P(TokenStoreContract, RevokeOfAnUnknownGrantIsNotFound) {
  EXPECT_EQ(Revoke(Key()).outcome, RevokeResult::Outcome::kNotFound);
  EXPECT_FALSE(store().Load(Key()).ok());
}

TEST_P(TokenStoreContract, ForgetDropsTheTokensOfARevokedGrant) {
  RegisterRequest request = Registration(Key());
  request.tokens = Tokens("access-1");
  Register(request);
  const int64_t generation = Revoke(Key()).record.generation;
  EXPECT_EQ(store().ForgetTokens(Key(), generation), absl::OkStatus());
  const GrantRecord record = Load(Key());
  EXPECT_TRUE(record.refresh_token.empty());
  EXPECT_TRUE(record.access_token.empty());
  EXPECT_EQ(record.state, GrantState::kRevoked);
  EXPECT_EQ(record.generation, generation);
  EXPECT_EQ(store().ForgetTokens(Key(), generation), absl::OkStatus());
}

TEST_P(TokenStoreContract, ForgetLeavesALiveGrantAlone) {
  RegisterOrg(Key());
  EXPECT_EQ(store().ForgetTokens(Key(), 1), absl::OkStatus());
  EXPECT_FALSE(Load(Key()).refresh_token.empty());
}

TEST_P(TokenStoreContract, ForgetLeavesAnotherGenerationAlone) {
  RegisterOrg(Key());
  const int64_t first = Revoke(Key()).record.generation;
  Register(Registration(Key(), "register-2"));
  Revoke(Key());
  EXPECT_EQ(store().ForgetTokens(Key(), first), absl::OkStatus());
  EXPECT_FALSE(Load(Key()).refresh_token.empty());
}

TEST_P(TokenStoreContract, ForgetOfAnUnknownGrantDoesNothing) {
  EXPECT_EQ(store().ForgetTokens(Key(), 1), absl::OkStatus());
}

TEST_P(TokenStoreContract, ReplicasSeeEachOthersChanges) {
  RegisterOrg(Key());
  const absl::StatusOr<GrantRecord> loaded = other().Load(Key());
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->generation, 1);
  EXPECT_TRUE(loaded->refresh_token == Secret("refresh-1"));
  ASSERT_TRUE(other().Revoke({Key()}).ok());
  EXPECT_EQ(Load(Key()).state, GrantState::kRevoked);
}

// Pairs that a careless concatenation, escape, glob or C string would take for one.
TEST_P(TokenStoreContract, HostileIdsAreKeptApart) {
  using namespace std::string_literals;
  const std::string four_bytes = "\xF0\x9F\x98\x80";
  const std::vector<GrantKey> keys = {
      {"a", Environment::kProduction, "b:c"},
      {"a:b", Environment::kProduction, "c"},
      {"a:1:b", Environment::kProduction, "c"},
      {"a", Environment::kProduction, "b"},
      {"a", Environment::kSandbox, "b"},
      {"a\0"s, Environment::kProduction, "b"},
      {"a"s, Environment::kProduction, "\0b"s},
      {"a\0\x01"s, Environment::kProduction, "b"},
      {"a\0\xff"s, Environment::kProduction, "b"},
      {"\0"s, Environment::kProduction, "\0"s},
      {"\0\0"s, Environment::kProduction, ""s},
      {""s, Environment::kProduction, "\0\0"s},
      {"{a}", Environment::kProduction, "{b}"},
      {"{}", Environment::kProduction, "}{"},
      {"}", Environment::kProduction, "b"},
      {"*", Environment::kProduction, "?"},
      {"[a-z]", Environment::kProduction, "b"},
      {"%s%n", Environment::kProduction, "b' OR 1=1 --"},
      {"a\r\nSET x 1\r\n", Environment::kProduction, "b"},
      {four_bytes, Environment::kProduction, four_bytes},
      {"\xff\xff\xff", Environment::kProduction, "\xff"},
      {"\xfe", Environment::kProduction, "\xc0\x80"},
      {std::string(1024, 'x'), Environment::kDeveloper, std::string(128, 'y')},
      {std::string(1023, 'x'), Environment::kDeveloper, std::string(128, 'y')},
      {std::string(1024, '\0'), Environment::kDeveloper, std::string(128, '\0')},
  };
  for (size_t i = 0; i < keys.size(); ++i) {
    RegisterRequest request = Registration(keys[i]);
    request.refresh_token = Secret("token of " + std::to_string(i));
    EXPECT_EQ(Register(request).outcome, Outcome::kCreated) << i;
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    const GrantRecord record = Load(keys[i]);
    EXPECT_TRUE(record.key == keys[i]) << i;
    EXPECT_TRUE(record.refresh_token == Secret("token of " + std::to_string(i))) << i;
    EXPECT_EQ(Acquire(keys[i], "a").outcome, AcquireResult::Outcome::kGranted) << i;
    EXPECT_EQ(Commit(keys[i], "a", 1).outcome, CommitResult::Outcome::kCommitted) << i;
  }
  // Listed once each, whole.
  const absl::StatusOr<GrantPage> page = store().ListPage("", "", 1000);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(page->records.size(), keys.size());
}

TEST_P(TokenStoreContract, StoreIsWritable) {
  EXPECT_EQ(store().CheckWritable(), absl::OkStatus());
  // And the check leaves nothing behind.
  const absl::StatusOr<GrantPage> page = store().ListPage("", "", 1000);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_TRUE(page->records.empty());
}

}  // namespace
}  // namespace tokenbroker
