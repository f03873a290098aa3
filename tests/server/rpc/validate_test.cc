#include "server/rpc/validate.h"

#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "common/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/rpc/page_token.h"
#include "tests/server/rpc/refused_fields.h"

namespace tokenbroker {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

// --- GetAccessToken ------------------------------------------------------------------------------

std::vector<std::string> Refused(const v1::GetAccessTokenRequest& request) {
  return FieldsOf(ValidateGetAccessToken(request, Zoho(), absl::Seconds(60)).status());
}

v1::GetAccessTokenRequest TokenRequestOf(
    const std::function<void(v1::GetAccessTokenRequest&)>& change) {
  v1::GetAccessTokenRequest request;
  request.set_org_id("acme");
  change(request);
  return request;
}

TEST(ValidateGetAccessToken, FillsInDefaults) {
  const v1::GetAccessTokenRequest request = TokenRequestOf([](auto&) {});
  const absl::StatusOr<TokenQuery> query =
      ValidateGetAccessToken(request, Zoho(), absl::Seconds(61));
  ASSERT_TRUE(query.ok()) << query.status();
  EXPECT_EQ(query->org_id, "acme");
  EXPECT_EQ(query->environment, Environment::kProduction);
  EXPECT_EQ(query->oauth_client, "");
  EXPECT_THAT(query->scopes, IsEmpty());
  EXPECT_EQ(query->min_lifetime, absl::Seconds(61));
  EXPECT_EQ(query->rejected_version, 0);
}

TEST(ValidateGetAccessToken, TakesWhatIsSet) {
  const v1::GetAccessTokenRequest request = TokenRequestOf([](auto& r) {
    r.set_environment(v1::ENVIRONMENT_SANDBOX);
    r.set_oauth_client("web");
    r.add_scopes("A.b.READ");
    r.mutable_min_lifetime()->set_nanos(5'000'000);
    r.set_rejected_version(7);
  });
  const absl::StatusOr<TokenQuery> query =
      ValidateGetAccessToken(request, Zoho(), absl::Seconds(60));
  ASSERT_TRUE(query.ok()) << query.status();
  EXPECT_EQ(query->environment, Environment::kSandbox);
  EXPECT_EQ(query->oauth_client, "web");
  EXPECT_THAT(query->scopes, ElementsAre("A.b.READ"));
  EXPECT_EQ(query->min_lifetime, absl::Milliseconds(5));
  EXPECT_EQ(query->rejected_version, 7);
}

TEST(ValidateGetAccessToken, KeepsToTheLimits) {
  using R = v1::GetAccessTokenRequest;
  struct Row {
    std::function<void(R&)> change;
    std::vector<std::string> fields;
  };
  const std::vector<Row> rows = {
      {[](R& r) { r.clear_org_id(); }, {"org_id"}},
      {[](R& r) { r.set_org_id(std::string(1024, 'o')); }, {}},
      {[](R& r) { r.set_org_id(std::string(1025, 'o')); }, {"org_id"}},
      {[](R& r) { r.set_org_id(std::string("a\0b:{}", 6)); }, {}},
      {[](R& r) { r.set_environment(static_cast<v1::Environment>(9)); }, {"environment"}},
      {[](R& r) { r.set_oauth_client("nobody"); }, {"oauth_client"}},
      {[](R& r) {
         for (int i = 0; i < 100; ++i) r.add_scopes("A.b.READ");
       },
       {}},
      {[](R& r) {
         for (int i = 0; i < 101; ++i) r.add_scopes("A.b.READ");
       },
       {"scopes"}},
      {[](R& r) { r.add_scopes(std::string(256, 's')); }, {}},
      {[](R& r) { r.add_scopes(std::string(257, 's')); }, {"scopes[0]"}},
      {[](R& r) {
         r.add_scopes("A.b.READ");
         r.add_scopes("");
       },
       {"scopes[1]"}},
      {[](R& r) { r.add_scopes("A.b.READ,A.c.READ"); }, {"scopes[0]"}},
      {[](R& r) { r.add_scopes("A.b.READ A.c.READ"); }, {"scopes[0]"}},
      {[](R& r) { r.mutable_min_lifetime(); }, {}},
      {[](R& r) { r.mutable_min_lifetime()->set_seconds(3000); }, {}},
      {[](R& r) { r.mutable_min_lifetime()->set_seconds(3001); }, {"min_lifetime"}},
      {[](R& r) {
         r.mutable_min_lifetime()->set_seconds(3000);
         r.mutable_min_lifetime()->set_nanos(1);
       },
       {"min_lifetime"}},
      {[](R& r) { r.mutable_min_lifetime()->set_nanos(-1); }, {"min_lifetime"}},
      {[](R& r) { r.mutable_min_lifetime()->set_seconds(INT64_MAX); }, {"min_lifetime"}},
      {[](R& r) { r.set_rejected_version(-1); }, {"rejected_version"}},
  };
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(Refused(TokenRequestOf(rows[i].change)), rows[i].fields) << "row " << i;
  }
}

TEST(ValidateGetAccessToken, NamesEverythingAtOnce) {
  EXPECT_THAT(Refused(TokenRequestOf([](auto& r) {
                r.clear_org_id();
                r.set_environment(static_cast<v1::Environment>(9));
                r.set_oauth_client("nobody");
                r.add_scopes("");
                r.mutable_min_lifetime()->set_seconds(-1);
                r.set_rejected_version(-5);
              })),
              ElementsAre("org_id", "environment", "oauth_client", "scopes[0]", "min_lifetime",
                          "rejected_version"));
}

// --- ListOrgs ------------------------------------------------------------------------------------

TEST(ValidateListOrgs, FillsInDefaults) {
  const absl::StatusOr<OrgListing> listing = ValidateListOrgs(v1::ListOrgsRequest());
  ASSERT_TRUE(listing.ok()) << listing.status();
  EXPECT_EQ(listing->page_size, 100);
  EXPECT_EQ(listing->after, "");
  EXPECT_FALSE(listing->filter.environment.has_value());
  EXPECT_FALSE(listing->filter.state.has_value());
}

TEST(ValidateListOrgs, TakesTheFilter) {
  v1::ListOrgsRequest request;
  request.set_page_size(1000);
  request.mutable_filter()->set_dc("retired-dc");
  request.mutable_filter()->set_environment(v1::ENVIRONMENT_SANDBOX);
  request.mutable_filter()->set_state(v1::GRANT_STATE_NEEDS_CONSENT);
  request.mutable_filter()->set_oauth_client("retired-client");
  (*request.mutable_filter()->mutable_labels())["team"] = "a";
  const absl::StatusOr<OrgListing> listing = ValidateListOrgs(request);
  ASSERT_TRUE(listing.ok()) << listing.status();
  EXPECT_EQ(listing->page_size, 1000);
  EXPECT_EQ(listing->filter.dc, "retired-dc");
  EXPECT_EQ(listing->filter.environment, Environment::kSandbox);
  EXPECT_EQ(listing->filter.state, GrantState::kNeedsConsent);
  EXPECT_EQ(listing->filter.oauth_client, "retired-client");
  EXPECT_THAT(listing->filter.labels, UnorderedElementsAre(Pair("team", "a")));
}

TEST(ValidateListOrgs, KeepsToTheLimits) {
  v1::ListOrgsRequest request;
  request.set_page_size(1001);
  request.set_page_token("made up");
  request.mutable_filter()->set_dc(std::string(33, 'd'));
  request.mutable_filter()->set_environment(static_cast<v1::Environment>(9));
  request.mutable_filter()->set_state(static_cast<v1::GrantState>(9));
  request.mutable_filter()->set_oauth_client(std::string(129, 'c'));
  (*request.mutable_filter()->mutable_labels())["Team"] = "a";
  EXPECT_THAT(FieldsOf(ValidateListOrgs(request).status()),
              ElementsAre("page_size", "filter.dc", "filter.environment", "filter.state",
                          "filter.labels", "filter.oauth_client", "page_token"));
  request.Clear();
  request.set_page_size(-1);
  EXPECT_THAT(FieldsOf(ValidateListOrgs(request).status()), ElementsAre("page_size"));
}

TEST(ValidateListOrgs, ReadsAPageTokenOfTheSameFilterOnly) {
  v1::ListOrgsRequest request;
  request.mutable_filter()->set_dc("eu");
  request.set_page_token(EncodePageToken("key", ValidateListOrgs(request)->filter));
  const absl::StatusOr<OrgListing> listing = ValidateListOrgs(request);
  ASSERT_TRUE(listing.ok()) << listing.status();
  EXPECT_EQ(listing->after, "key");
  request.mutable_filter()->set_dc("us");
  EXPECT_THAT(FieldsOf(ValidateListOrgs(request).status()), ElementsAre("page_token"));
}

// --- GetOrg, RevokeGrant, CreateAuthorizationUrl
// ---------------------------------------------------

TEST(ValidateGetOrg, WantsAnOrgId) {
  v1::GetOrgRequest request;
  EXPECT_THAT(FieldsOf(ValidateGetOrg(request).status()), ElementsAre("org_id"));
  request.set_org_id("acme");
  EXPECT_EQ(*ValidateGetOrg(request), "acme");
}

TEST(ValidateRevokeGrant, WantsAWholeKey) {
  v1::RevokeGrantRequest request;
  EXPECT_THAT(FieldsOf(ValidateRevokeGrant(request).status()),
              ElementsAre("org_id", "oauth_client"));
  request.set_org_id("acme");
  request.set_oauth_client("retired-client");
  EXPECT_EQ(*ValidateRevokeGrant(request),
            (GrantKey{"acme", Environment::kProduction, "retired-client"}));
}

v1::CreateAuthorizationUrlRequest UrlRequest(
    const std::function<void(v1::CreateAuthorizationUrlRequest&)>& change) {
  v1::CreateAuthorizationUrlRequest request;
  request.set_org_id("acme");
  request.set_oauth_client("web");
  request.set_dc("us");
  request.add_scopes("A.b.READ");
  change(request);
  return request;
}

TEST(ValidateCreateAuthorizationUrl, TakesWhatIsSet) {
  const absl::StatusOr<AuthorizationRequest> wanted =
      ValidateCreateAuthorizationUrl(UrlRequest([](auto& r) {
                                       r.set_display_name("Acme");
                                       (*r.mutable_labels())["team"] = "a";
                                       r.set_keep_warm(true);
                                     }),
                                     Zoho());
  ASSERT_TRUE(wanted.ok()) << wanted.status();
  EXPECT_EQ(wanted->key, (GrantKey{"acme", Environment::kProduction, "web"}));
  EXPECT_EQ(wanted->dc, "us");
  EXPECT_THAT(wanted->scopes, ElementsAre("A.b.READ"));
  EXPECT_EQ(wanted->display_name, "Acme");
  EXPECT_THAT(wanted->labels, UnorderedElementsAre(Pair("team", "a")));
  EXPECT_TRUE(wanted->keep_warm);
}

TEST(ValidateCreateAuthorizationUrl, KeepsToTheLimits) {
  const auto refused = [](const v1::CreateAuthorizationUrlRequest& request) {
    return FieldsOf(ValidateCreateAuthorizationUrl(request, Zoho()).status());
  };
  EXPECT_THAT(refused({}), ElementsAre("org_id", "oauth_client", "dc", "scopes"));
  EXPECT_THAT(refused(UrlRequest([](auto& r) { r.set_oauth_client("self"); })),
              ElementsAre("oauth_client"));
  EXPECT_THAT(refused(UrlRequest([](auto& r) {
                r.set_environment(static_cast<v1::Environment>(9));
                r.set_display_name(std::string(257, 'd'));
                (*r.mutable_labels())["Team"] = "a";
              })),
              ElementsAre("environment", "display_name", "labels"));
}

TEST(ValidateCreateAuthorizationUrl, RefusesADcWithoutASecret) {
  EXPECT_EQ(ErrorReason(
                ValidateCreateAuthorizationUrl(UrlRequest([](auto& r) { r.set_dc("in"); }), Zoho())
                    .status()),
            "CLIENT_SECRET_MISSING");
}

}  // namespace
}  // namespace tokenbroker
