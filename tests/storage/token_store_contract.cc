#include "tests/storage/token_store_contract.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/errors.h"

namespace tokenbroker {
namespace {

// A clock that goes by itself may be this late by the time of the check.
constexpr absl::Duration kRoom = absl::Seconds(20);

// The value of an operation that has to succeed; after a failure, a default one, so that the test
// goes on to its own checks and fails with the status in sight.
template <typename T>
T Value(absl::StatusOr<T> result, const char* operation) {
  if (result.ok()) return *std::move(result);
  ADD_FAILURE() << operation << ": " << result.status();
  return T{};
}

}  // namespace

ProtocolLimits ContractLimits() {
  ProtocolLimits limits;
  for (absl::Duration* duration :
       {&limits.pre_send_lease, &limits.sent_lease, &limits.connect_timeout,
        &limits.response_timeout, &limits.commit_budget, &limits.clock_drift,
        &limits.throttle_cooldown}) {
    *duration *= 10;
  }
  for (ProtocolLimits::Window& window : limits.budget) window.length *= 10;
  for (absl::Duration& step : limits.failure_backoff) step *= 10;
  return limits;
}

void TokenStoreContract::SetUp() {
  ASSERT_EQ(limits_.Validate(), absl::OkStatus());
  fixture_ = GetParam().make();
  absl::StatusOr<std::unique_ptr<TokenStore>> store = fixture_->Open(limits_);
  ASSERT_TRUE(store.ok()) << store.status();
  store_ = *std::move(store);
  absl::StatusOr<std::unique_ptr<TokenStore>> other = fixture_->Open(limits_);
  ASSERT_TRUE(other.ok()) << other.status();
  other_ = *std::move(other);
}

GrantKey TokenStoreContract::Key(std::string_view org) {
  return {std::string(org), Environment::kProduction, "people-app"};
}

RegisterRequest TokenStoreContract::Registration(const GrantKey& key, std::string_view attempt) {
  RegisterRequest request;
  request.key = key;
  request.attempt_id = std::string(attempt);
  request.info.dc = "eu";
  request.info.scopes = {"ZOHOPEOPLE.forms.ALL"};
  request.refresh_token = Secret("refresh-1");
  return request;
}

MintedTokens TokenStoreContract::Tokens(std::string_view access) {
  return {.access_token = Secret(std::string(access)), .lifetime = absl::Hours(1)};
}

GrantRecord TokenStoreContract::Load(const GrantKey& key) {
  return Value(store().Load(key), "Load");
}

RegisterResult TokenStoreContract::Register(const RegisterRequest& request) {
  return Value(store().Register(request), "Register");
}

GrantRecord TokenStoreContract::RegisterOrg(const GrantKey& key) {
  RegisterResult result = Register(Registration(key));
  EXPECT_EQ(result.outcome, RegisterResult::Outcome::kCreated);
  EXPECT_EQ(result.record.generation, 1);
  return std::move(result.record);
}

AcquireResult TokenStoreContract::Acquire(const GrantKey& key, std::string_view attempt,
                                          int64_t seen_generation, Purpose purpose) {
  return Value(store().Acquire({key, std::string(attempt), seen_generation, purpose}), "Acquire");
}

MarkSentOutcome TokenStoreContract::MarkSent(const GrantKey& key, std::string_view attempt,
                                             int64_t epoch) {
  absl::StatusOr<MarkSentOutcome> outcome = store().MarkSent({key, std::string(attempt), epoch});
  if (outcome.ok()) return *outcome;
  ADD_FAILURE() << "MarkSent: " << outcome.status();
  return MarkSentOutcome::kLost;
}

CountSendResult TokenStoreContract::CountSend(const GrantKey& key, std::string_view attempt) {
  return Value(store().CountSend({key, std::string(attempt)}), "CountSend");
}

void TokenStoreContract::CountSends(const GrantKey& key, int sends) {
  for (int i = 0; i < sends; ++i) {
    EXPECT_EQ(CountSend(key, absl::StrCat("code-", ++codes_)).outcome,
              CountSendResult::Outcome::kCounted);
  }
}

GrantRecord TokenStoreContract::RegisterWithSends(const GrantKey& key, int sends) {
  CountSends(key, sends);
  return RegisterOrg(key);
}

CommitResult TokenStoreContract::Commit(const GrantKey& key, std::string_view attempt,
                                        int64_t generation, const MintedTokens& tokens) {
  return Value(store().Commit({key, std::string(attempt), generation, tokens}), "Commit");
}

FailResult TokenStoreContract::Fail(const GrantKey& key, std::string_view attempt, int64_t epoch,
                                    int64_t generation, FailureKind kind) {
  return Value(
      store().Fail({key, std::string(attempt), epoch, generation, kind, "connection reset"}),
      "Fail");
}

RevokeResult TokenStoreContract::Revoke(const GrantKey& key,
                                        std::optional<std::string> registered_by) {
  return Value(store().Revoke({key, std::move(registered_by)}), "Revoke");
}

int64_t TokenStoreContract::AcquireAndSend(const GrantKey& key, std::string_view attempt,
                                           int64_t seen_generation) {
  const AcquireResult acquired = Acquire(key, attempt, seen_generation);
  EXPECT_EQ(acquired.outcome, AcquireResult::Outcome::kGranted) << attempt;
  EXPECT_EQ(MarkSent(key, attempt, acquired.epoch), MarkSentOutcome::kMarked) << attempt;
  return acquired.epoch;
}

FailResult TokenStoreContract::FailOnce(const GrantKey& key, std::string_view attempt,
                                        FailureKind kind, int64_t generation) {
  const AcquireResult blocked = Acquire(key, attempt, generation);
  int64_t epoch = blocked.epoch;
  if (blocked.outcome == AcquireResult::Outcome::kCooldown) {
    Advance(blocked.wait);
    epoch = Acquire(key, attempt, generation).epoch;
  }
  return Fail(key, attempt, epoch, generation, kind);
}

testing::AssertionResult TokenStoreContract::About(absl::Duration actual, absl::Duration expected) {
  if (actual <= expected && actual >= expected - kRoom) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << absl::FormatDuration(actual) << " is not within " << absl::FormatDuration(kRoom)
         << " below " << absl::FormatDuration(expected);
}

}  // namespace tokenbroker
