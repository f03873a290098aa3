#include "server/consent/consent_state.h"

#include <string>

#include "absl/strings/escaping.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/consent/state_keys.h"

namespace tokenbroker {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

ConsentState SomeState() {
  return {.request = {.key = {std::string("a\0b:1\xff", 6), Environment::kDeveloper, "web"},
                      .dc = "eu",
                      .scopes = {"A.b.READ", "", "A.c.ALL"},
                      .display_name = "Readable Name",
                      .labels = {{"team", ""}, {"tier", "1:2"}},
                      .keep_warm = true},
          .code_verifier = Secret("readable-verifier"),
          .expire_time = kNow + absl::Seconds(60),
          .request_id = "readable-request"};
}

class ConsentStateTest : public ::testing::Test {
 protected:
  const Keyring keys_ = TestStateKeys();
};

TEST_F(ConsentStateTest, GivesBackWhatWasSealed) {
  const ConsentState sealed = SomeState();
  const absl::StatusOr<ConsentState> opened =
      OpenConsentState(*SealConsentState(sealed, keys_), keys_, kNow);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(opened->request.key, sealed.request.key);
  EXPECT_EQ(opened->request.dc, sealed.request.dc);
  EXPECT_EQ(opened->request.scopes, sealed.request.scopes);
  EXPECT_EQ(opened->request.display_name, sealed.request.display_name);
  EXPECT_EQ(opened->request.labels, sealed.request.labels);
  EXPECT_TRUE(opened->request.keep_warm);
  EXPECT_EQ(opened->code_verifier, sealed.code_verifier);
  EXPECT_EQ(opened->expire_time, sealed.expire_time);
  EXPECT_EQ(opened->request_id, sealed.request_id);
}

TEST_F(ConsentStateTest, CannotBeReadOnTheWay) {
  const std::string state = *SealConsentState(SomeState(), keys_);
  std::string bytes;
  ASSERT_TRUE(absl::WebSafeBase64Unescape(state, &bytes));
  EXPECT_THAT(bytes, Not(HasSubstr("eadable")));
  for (char c : state) {
    EXPECT_TRUE(isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_') << c;
  }
}

TEST_F(ConsentStateTest, ExpiresOnTime) {
  const std::string state = *SealConsentState(SomeState(), keys_);
  EXPECT_TRUE(OpenConsentState(state, keys_, kNow + absl::Milliseconds(59'999)).ok());
  EXPECT_TRUE(
      absl::IsOutOfRange(OpenConsentState(state, keys_, kNow + absl::Seconds(60)).status()));
}

TEST_F(ConsentStateTest, RefusesWhatWasChanged) {
  const std::string state = *SealConsentState(SomeState(), keys_);
  for (size_t i = 0; i < state.size(); ++i) {
    std::string changed = state;
    // The bit that matters even in the last character, whose low bits may be padding.
    changed[i] = changed[i] == 'A' ? 'Q' : 'A';
    std::string before, after;
    ASSERT_TRUE(absl::WebSafeBase64Unescape(state, &before));
    if (!absl::WebSafeBase64Unescape(changed, &after) || before == after) continue;
    EXPECT_TRUE(absl::IsInvalidArgument(OpenConsentState(changed, keys_, kNow).status())) << i;
  }
  for (size_t size = 0; size < state.size(); size += 7) {
    EXPECT_TRUE(
        absl::IsInvalidArgument(OpenConsentState(state.substr(0, size), keys_, kNow).status()));
  }
}

TEST_F(ConsentStateTest, RefusesWhatOthersMade) {
  const Keyring foreign = TestStateKeys('f');
  EXPECT_TRUE(absl::IsInvalidArgument(
      OpenConsentState(*SealConsentState(SomeState(), foreign), keys_, kNow).status()));
  // Sealed with our key, but for something else.
  const std::string token = *keys_.Seal("a refresh token", "grant");
  EXPECT_TRUE(absl::IsInvalidArgument(
      OpenConsentState(absl::WebSafeBase64Escape(token), keys_, kNow).status()));
  for (const std::string& text : {std::string(), std::string("not base64 !"),
                                  std::string(100'000, 'A'), std::string(5, '\0')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(OpenConsentState(text, keys_, kNow).status()));
  }
}

}  // namespace
}  // namespace tokenbroker
