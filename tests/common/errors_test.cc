#include "common/errors.h"

#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace tokenbroker {
namespace {

using absl::StatusCode;

TEST(ErrorsTest, EveryErrorHasItsCodeReasonAndWait) {
  struct Case {
    absl::Status status;
    StatusCode code;
    std::string reason;
    bool waits;  // says how long to wait
  };
  const absl::Duration wait = absl::Seconds(7);
  const std::vector<Case> cases = {
      {InvalidRequestError({{"org_id", "must not be empty"}}), StatusCode::kInvalidArgument,
       "INVALID_REQUEST", false},
      {CallerUnauthenticatedError(), StatusCode::kUnauthenticated, "CALLER_UNAUTHENTICATED", false},
      {CallerNotAllowedError(), StatusCode::kPermissionDenied, "CALLER_NOT_ALLOWED", false},
      {DeadlineExceededError(), StatusCode::kDeadlineExceeded, "DEADLINE_EXCEEDED", false},
      {OrgNotFoundError(), StatusCode::kNotFound, "ORG_NOT_FOUND", false},
      {ConsentRequiredError("revoked"), StatusCode::kFailedPrecondition, "CONSENT_REQUIRED", false},
      {ScopeNotGrantedError({"A"}), StatusCode::kFailedPrecondition, "SCOPE_NOT_GRANTED", false},
      {GrantChangedError(), StatusCode::kAborted, "GRANT_CHANGED", false},
      {ClientRejectedError("eu", "app", "invalid_client", "the wrong secret"),
       StatusCode::kFailedPrecondition, "CLIENT_REJECTED", false},
      {ClientSecretMissingError("eu", "app"), StatusCode::kFailedPrecondition,
       "CLIENT_SECRET_MISSING", false},
      {OAuthClientNotConfiguredError("app"), StatusCode::kFailedPrecondition,
       "OAUTH_CLIENT_NOT_CONFIGURED", false},
      {DcNotConfiguredError("eu"), StatusCode::kFailedPrecondition, "DC_NOT_CONFIGURED", false},
      {ConsentNotConfiguredError("no URL"), StatusCode::kFailedPrecondition,
       "CONSENT_NOT_CONFIGURED", false},
      {AuthorizationCodeRejectedError("invalid_code"), StatusCode::kFailedPrecondition,
       "AUTHORIZATION_CODE_REJECTED", false},
      {RefreshTokenRejectedError("invalid_code"), StatusCode::kFailedPrecondition,
       "REFRESH_TOKEN_REJECTED", false},
      {RefreshTokenMissingError(), StatusCode::kFailedPrecondition, "REFRESH_TOKEN_MISSING", false},
      {MintBudgetExhaustedError(wait), StatusCode::kResourceExhausted, "MINT_BUDGET_EXHAUSTED",
       true},
      {ZohoThrottledError(wait), StatusCode::kResourceExhausted, "ZOHO_THROTTLED", true},
      {OverloadedError(wait), StatusCode::kResourceExhausted, "OVERLOADED", true},
      {ZohoUnavailableError("eu", "timeout", wait), StatusCode::kUnavailable, "ZOHO_UNAVAILABLE",
       true},
      {StoreUnavailableError("closed"), StatusCode::kUnavailable, "STORE_UNAVAILABLE", true},
      {StoreNotAcknowledgedError(), StatusCode::kUnavailable, "STORE_NOT_ACKNOWLEDGED", true},
      {ShuttingDownError(), StatusCode::kUnavailable, "SHUTTING_DOWN", true},
      {InternalError("bug"), StatusCode::kInternal, "INTERNAL", false},
      {RecordUnreadableError("damaged"), StatusCode::kDataLoss, "RECORD_UNREADABLE", false},
  };
  std::set<std::string> reasons;
  for (const Case& c : cases) {
    EXPECT_EQ(c.status.code(), c.code) << c.reason;
    EXPECT_EQ(ErrorReason(c.status), c.reason);
    EXPECT_FALSE(c.status.message().empty()) << c.reason;
    const std::optional<ErrorDetail> detail = GetErrorDetail(c.status);
    ASSERT_TRUE(detail.has_value()) << c.reason;
    EXPECT_EQ(detail->retry_after.has_value(), c.waits) << c.reason;
    EXPECT_TRUE(reasons.insert(c.reason).second) << "two errors of one reason: " << c.reason;
  }
}

TEST(ErrorsTest, MetadataIsWhatTheHeaderSays) {
  using Metadata = std::map<std::string, std::string>;
  const auto metadata = [](const absl::Status& status) { return GetErrorDetail(status)->metadata; };
  EXPECT_EQ(metadata(ConsentRequiredError("invalid_code")), (Metadata{{"cause", "invalid_code"}}));
  EXPECT_EQ(metadata(ScopeNotGrantedError({"A.b.C", "D.e.F"})),
            (Metadata{{"missing_scopes", "A.b.C,D.e.F"}}));
  EXPECT_EQ(metadata(ClientRejectedError("eu", "app", "invalid_client", "advice")),
            (Metadata{{"dc", "eu"}, {"oauth_client", "app"}, {"zoho_error", "invalid_client"}}));
  EXPECT_EQ(metadata(ClientSecretMissingError("eu", "app")),
            (Metadata{{"dc", "eu"}, {"oauth_client", "app"}}));
  EXPECT_EQ(metadata(ZohoUnavailableError("eu", "timeout", {})),
            (Metadata{{"dc", "eu"}, {"last_error", "timeout"}}));
  EXPECT_EQ(metadata(ZohoUnavailableError("eu", "", {})), (Metadata{{"dc", "eu"}}));
  EXPECT_EQ(GetErrorDetail(ZohoThrottledError(absl::Seconds(7)))->retry_after, absl::Seconds(7));
}

TEST(ErrorsTest, DetailSurvivesWhateverItHolds) {
  ErrorDetail detail;
  detail.reason = "REASON";
  detail.metadata = {{"", ""},
                     {"3:abc", "5:"},
                     {std::string("nul\0key", 7), std::string("\0\xff\n", 3)},
                     {"long", std::string(100'000, 'x')}};
  detail.retry_after = absl::Nanoseconds(1'500'000'001);
  detail.violations = {
      {"min_lifetime", "must be between 0 s and 3000 s"}, {"", ""}, {"a:b", "12:"}};
  const std::optional<ErrorDetail> read =
      GetErrorDetail(WithDetail(absl::InvalidArgumentError("message"), detail));
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->reason, detail.reason);
  EXPECT_EQ(read->metadata, detail.metadata);
  EXPECT_EQ(read->retry_after, detail.retry_after);
  ASSERT_EQ(read->violations.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(read->violations[i].field, detail.violations[i].field);
    EXPECT_EQ(read->violations[i].description, detail.violations[i].description);
  }
}

TEST(ErrorsTest, DetailReplacesTheOneBefore) {
  const absl::Status status = WithDetail(OrgNotFoundError(), {.reason = "OTHER"});
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_EQ(ErrorReason(status), "OTHER");
}

TEST(ErrorsTest, MetadataIsAddedToWhatThereIs) {
  const absl::Status status = WithMetadata(ConsentRequiredError("revoked"), "authorization_url",
                                           "https://accounts.zoho.eu");
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(ErrorReason(status), "CONSENT_REQUIRED");
  const std::optional<ErrorDetail> detail = GetErrorDetail(status);
  ASSERT_TRUE(detail.has_value());
  EXPECT_EQ(detail->metadata.at("cause"), "revoked");
  EXPECT_EQ(detail->metadata.at("authorization_url"), "https://accounts.zoho.eu");
  const absl::Status waits = WithMetadata(ZohoThrottledError(absl::Seconds(7)), "dc", "eu");
  EXPECT_EQ(GetErrorDetail(waits)->retry_after, absl::Seconds(7));
}

TEST(ErrorsTest, AllViolationsAreInTheMessageToo) {
  const absl::Status status =
      InvalidRequestError({{"org_id", "must not be empty"}, {"page_size", "must not be negative"}});
  EXPECT_EQ(status.message(), "org_id: must not be empty; page_size: must not be negative");
  ASSERT_EQ(GetErrorDetail(status)->violations.size(), 2u);
}

TEST(ErrorsTest, StatusesFromElsewhereHaveNoDetail) {
  EXPECT_EQ(GetErrorDetail(absl::UnavailableError("x")), std::nullopt);
  EXPECT_EQ(ErrorReason(absl::UnavailableError("x")), "");
  EXPECT_EQ(ErrorReason(absl::OkStatus()), "");
}

TEST(ErrorsTest, DamagedPayloadIsReadAsFarAsItGoes) {
  const absl::Status good =
      WithDetail(absl::UnavailableError("x"),
                 {.reason = "REASON", .metadata = {{"a", "b"}}, .retry_after = absl::Seconds(1)});
  std::string type;
  std::string payload;
  good.ForEachPayload([&](absl::string_view url, const absl::Cord& bytes) {
    type = std::string(url);
    payload = std::string(bytes);
  });
  for (size_t size = 0; size < payload.size(); ++size) {
    absl::Status damaged = absl::UnavailableError("x");
    damaged.SetPayload(type, absl::Cord(payload.substr(0, size)));
    EXPECT_TRUE(GetErrorDetail(damaged).has_value()) << size;
  }
}

}  // namespace
}  // namespace tokenbroker
