#include "server/rpc/status.h"

#include <string>
#include <vector>

#include "common/errors.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "tests/server/rpc/error_details.h"

namespace tokenbroker {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

struct Row {
  absl::Status error;
  grpc::StatusCode code;
  std::string reason;
  bool has_retry = false;
};

// Every error of the catalogue, with what a caller must see of it.
std::vector<Row> Catalogue() {
  return {
      {InvalidRequestError({{"org_id", "is required"}}), grpc::INVALID_ARGUMENT, "INVALID_REQUEST"},
      {CallerUnauthenticatedError(), grpc::UNAUTHENTICATED, "CALLER_UNAUTHENTICATED"},
      {CallerNotAllowedError(), grpc::PERMISSION_DENIED, "CALLER_NOT_ALLOWED"},
      {DeadlineExceededError(), grpc::DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"},
      {OrgNotFoundError(), grpc::NOT_FOUND, "ORG_NOT_FOUND"},
      {ConsentRequiredError("invalid_code"), grpc::FAILED_PRECONDITION, "CONSENT_REQUIRED"},
      {ScopeNotGrantedError({"A.b.READ"}), grpc::FAILED_PRECONDITION, "SCOPE_NOT_GRANTED"},
      {GrantChangedError(), grpc::ABORTED, "GRANT_CHANGED"},
      {ClientRejectedError("eu", "web", "invalid_client", "check the DC"),
       grpc::FAILED_PRECONDITION, "CLIENT_REJECTED"},
      {ClientSecretMissingError("eu", "web"), grpc::FAILED_PRECONDITION, "CLIENT_SECRET_MISSING"},
      {OAuthClientNotConfiguredError("web"), grpc::FAILED_PRECONDITION,
       "OAUTH_CLIENT_NOT_CONFIGURED"},
      {DcNotConfiguredError("xx"), grpc::FAILED_PRECONDITION, "DC_NOT_CONFIGURED"},
      {ConsentNotConfiguredError("no key"), grpc::FAILED_PRECONDITION, "CONSENT_NOT_CONFIGURED"},
      {AuthorizationCodeRejectedError("invalid_code"), grpc::FAILED_PRECONDITION,
       "AUTHORIZATION_CODE_REJECTED"},
      {RefreshTokenRejectedError("invalid_code"), grpc::FAILED_PRECONDITION,
       "REFRESH_TOKEN_REJECTED"},
      {RefreshTokenMissingError(), grpc::FAILED_PRECONDITION, "REFRESH_TOKEN_MISSING"},
      {MintBudgetExhaustedError(absl::Seconds(90)), grpc::RESOURCE_EXHAUSTED,
       "MINT_BUDGET_EXHAUSTED", true},
      {ZohoThrottledError(absl::Seconds(600)), grpc::RESOURCE_EXHAUSTED, "ZOHO_THROTTLED", true},
      {OverloadedError(absl::Seconds(1)), grpc::RESOURCE_EXHAUSTED, "OVERLOADED", true},
      {ZohoUnavailableError("eu", "http_502", absl::Seconds(5)), grpc::UNAVAILABLE,
       "ZOHO_UNAVAILABLE", true},
      {StoreUnavailableError("connection refused"), grpc::UNAVAILABLE, "STORE_UNAVAILABLE", true},
      {StoreNotAcknowledgedError(), grpc::UNAVAILABLE, "STORE_NOT_ACKNOWLEDGED", true},
      {ShuttingDownError(), grpc::UNAVAILABLE, "SHUTTING_DOWN", true},
      {RecordUnreadableError("wrong keyring?"), grpc::DATA_LOSS, "RECORD_UNREADABLE"},
      {InternalError("lost the flight"), grpc::INTERNAL, "INTERNAL"},
  };
}

TEST(ToGrpcStatus, SendsEveryErrorOfTheCatalogue) {
  for (const Row& row : Catalogue()) {
    SCOPED_TRACE(row.reason);
    const grpc::Status sent = ToGrpcStatus(row.error);
    EXPECT_EQ(sent.error_code(), row.code);
    EXPECT_EQ(static_cast<int>(SentCode(row.error)), static_cast<int>(row.code));
    const google::rpc::Status details = DetailsOf(sent);
    EXPECT_EQ(details.code(), row.code);
    EXPECT_EQ(details.message(), sent.error_message());
    const auto info = DetailOf<google::rpc::ErrorInfo>(sent);
    ASSERT_TRUE(info.has_value());
    EXPECT_EQ(info->reason(), row.reason);
    EXPECT_EQ(info->domain(), "tokenbroker.v1");
    EXPECT_EQ(DetailOf<google::rpc::RetryInfo>(sent).has_value(), row.has_retry);
    EXPECT_EQ(DetailOf<google::rpc::BadRequest>(sent).has_value(),
              row.code == grpc::INVALID_ARGUMENT);
    EXPECT_FALSE(sent.error_message().empty());
  }
}

TEST(ToGrpcStatus, IsOkForOk) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_EQ(ToGrpcStatus(absl::OkStatus()).error_details(), "");
}

TEST(ToGrpcStatus, SendsMetadata) {
  const grpc::Status sent =
      ToGrpcStatus(ClientRejectedError("eu", "web", "invalid_client", "check the DC"));
  EXPECT_THAT(DetailOf<google::rpc::ErrorInfo>(sent)->metadata(),
              UnorderedElementsAre(Pair("dc", "eu"), Pair("oauth_client", "web"),
                                   Pair("zoho_error", "invalid_client")));
}

TEST(ToGrpcStatus, SendsHowLongToWait) {
  const auto retry_after = [](absl::Duration wait) {
    return *DetailOf<google::rpc::RetryInfo>(ToGrpcStatus(ZohoThrottledError(wait)));
  };
  EXPECT_EQ(retry_after(absl::Milliseconds(1500)).retry_delay().seconds(), 1);
  EXPECT_EQ(retry_after(absl::Milliseconds(1500)).retry_delay().nanos(), 500'000'000);
  // What no caller can make sense of is brought within reason.
  EXPECT_EQ(retry_after(absl::Seconds(-3)).retry_delay().seconds(), 0);
  EXPECT_EQ(retry_after(absl::Hours(1000)).retry_delay().seconds(), 24 * 3600);
}

TEST(ToGrpcStatus, SendsEveryViolatedField) {
  const grpc::Status sent = ToGrpcStatus(
      InvalidRequestError({{"org_id", "is required"}, {"min_lifetime", "must be 0 s to 3000 s"}}));
  const auto bad_request = DetailOf<google::rpc::BadRequest>(sent);
  ASSERT_EQ(bad_request->field_violations_size(), 2);
  EXPECT_EQ(bad_request->field_violations(0).field(), "org_id");
  EXPECT_EQ(bad_request->field_violations(1).field(), "min_lifetime");
  EXPECT_EQ(bad_request->field_violations(1).description(), "must be 0 s to 3000 s");
}

TEST(ToGrpcStatus, KeepsInternalTextsInside) {
  for (const absl::Status& error :
       {InternalError("canary of the catalogue"), absl::InternalError("canary of a library"),
        absl::UnknownError("canary"), absl::NotFoundError("canary outside the catalogue"),
        absl::InvalidArgumentError("canary")}) {
    const grpc::Status sent = ToGrpcStatus(error);
    EXPECT_EQ(sent.error_code(), grpc::INTERNAL);
    EXPECT_THAT(sent.error_message(), Not(HasSubstr("canary")));
    EXPECT_THAT(sent.error_details(), Not(HasSubstr("canary")));
    EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(sent)->reason(), "INTERNAL");
    EXPECT_EQ(SentCode(error), absl::StatusCode::kInternal);
  }
}

TEST(ToGrpcStatus, LetsCancellationThrough) {
  EXPECT_EQ(ToGrpcStatus(absl::CancelledError("gone")).error_code(), grpc::CANCELLED);
}

// What clients accept by default: 8 KiB of trailers, and details are sent in base64.
TEST(ToGrpcStatus, FitsIntoTrailers) {
  std::vector<FieldViolation> violations;
  for (int i = 0; i < 1000; ++i) {
    violations.push_back({"scopes[" + std::to_string(i) + "]", "must be 1 to 256 bytes"});
  }
  const grpc::Status sent = ToGrpcStatus(InvalidRequestError(violations));
  EXPECT_LT(sent.error_message().size() + sent.error_details().size() * 4 / 3, 7000u);
  const auto bad_request = DetailOf<google::rpc::BadRequest>(sent);
  ASSERT_GT(bad_request->field_violations_size(), 20);
  EXPECT_THAT(bad_request->field_violations().rbegin()->description(), HasSubstr(" more"));

  const grpc::Status with_url = ToGrpcStatus(WithMetadata(
      ConsentRequiredError("invalid_code"), "authorization_url", std::string(4096, 'u')));
  EXPECT_LT(with_url.error_message().size() + with_url.error_details().size() * 4 / 3, 7000u);
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(with_url)->metadata().at("authorization_url").size(),
            4096u);

  // What a request may ask for, and what an org may have.
  const grpc::Status missing =
      ToGrpcStatus(ScopeNotGrantedError(std::vector<std::string>(100, std::string(100, 's'))));
  EXPECT_LT(missing.error_message().size() + missing.error_details().size() * 4 / 3, 7000u);
  EXPECT_THAT(DetailOf<google::rpc::ErrorInfo>(missing)->metadata().at("missing_scopes"),
              AllOf(StartsWith("ssss"), EndsWith("s…")));
  const grpc::Status unreadable = ToGrpcStatus(WithMetadata(
      RecordUnreadableError("wrong keyring?"), "unreadable_grants", std::string(100'000, 'g')));
  EXPECT_LT(unreadable.error_message().size() + unreadable.error_details().size() * 4 / 3, 7000u);
}

TEST(ToGrpcStatus, CutsTextsBetweenCharacters) {
  std::string text;
  while (text.size() < 2000) text += "\xF0\x9F\x94\x91";  // four bytes each
  const grpc::Status sent =
      ToGrpcStatus(WithMetadata(StoreUnavailableError("x" + text), "key", "x" + text));
  EXPECT_LT(sent.error_message().size(), 600u);
  EXPECT_EQ(DetailsOf(sent).message(), sent.error_message());  // parsed: so it was valid UTF-8
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(sent)->metadata().at("key"),
            "x" + text.substr(0, 1020) + "…");
}

TEST(StatusCodeName, IsWhatGrpcWrites) {
  EXPECT_EQ(StatusCodeName(absl::StatusCode::kOk), "OK");
  EXPECT_EQ(StatusCodeName(absl::StatusCode::kFailedPrecondition), "FAILED_PRECONDITION");
  EXPECT_EQ(StatusCodeName(absl::StatusCode::kDataLoss), "DATA_LOSS");
}

}  // namespace
}  // namespace tokenbroker
