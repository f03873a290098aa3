#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "common/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/rpc/page_token.h"
#include "server/rpc/validate.h"
#include "tests/server/rpc/refused_fields.h"

namespace tokenbroker {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

// --- RegisterGrant -------------------------------------------------------------------------------

using Registrations = v1::RegisterGrantRequest;

Registrations CodeRequest(const std::function<void(Registrations&)>& change) {
  Registrations request;
  request.set_org_id("acme");
  request.set_oauth_client("web");
  request.set_dc("eu");
  request.mutable_authorization_code()->set_code("1000.c.d");
  request.mutable_authorization_code()->set_redirect_uri("https://app.example.com/back");
  change(request);
  return request;
}

std::vector<std::string> Refused(const Registrations& request) {
  return FieldsOf(ValidateRegisterGrant(request, Zoho()).status());
}

TEST(ValidateRegisterGrant, TakesACode) {
  const absl::StatusOr<Registration> registration = ValidateRegisterGrant(
      CodeRequest([](auto& r) {
        r.set_environment(v1::ENVIRONMENT_DEVELOPER);
        r.mutable_authorization_code()->set_code_verifier(std::string(43, 'v'));
        r.set_display_name("Acme");
        (*r.mutable_labels())["team"] = "a";
        r.set_keep_warm(true);
        r.set_request_id("r-1");
        r.add_scopes("A.b.READ");
      }),
      Zoho());
  ASSERT_TRUE(registration.ok()) << registration.status();
  EXPECT_EQ(registration->key, (GrantKey{"acme", Environment::kDeveloper, "web"}));
  EXPECT_EQ(registration->dc, "eu");
  const auto& code = std::get<CodeCredential>(registration->credential);
  EXPECT_EQ(code.code, Secret("1000.c.d"));
  EXPECT_EQ(code.redirect_uri, "https://app.example.com/back");
  EXPECT_EQ(code.code_verifier, Secret(std::string(43, 'v')));
  EXPECT_THAT(registration->scopes, ElementsAre("A.b.READ"));
  EXPECT_EQ(registration->display_name, "Acme");
  EXPECT_THAT(registration->labels, UnorderedElementsAre(Pair("team", "a")));
  EXPECT_TRUE(registration->keep_warm);
  EXPECT_EQ(registration->request_id, "r-1");
}

TEST(ValidateRegisterGrant, TakesAnImport) {
  const absl::StatusOr<Registration> registration =
      ValidateRegisterGrant(CodeRequest([](auto& r) { r.set_refresh_token("1000.r.t"); }), Zoho());
  ASSERT_TRUE(registration.ok()) << registration.status();
  EXPECT_EQ(std::get<ImportCredential>(registration->credential).refresh_token, Secret("1000.r.t"));
}

TEST(ValidateRegisterGrant, TakesClientCredentials) {
  const absl::StatusOr<Registration> registration =
      ValidateRegisterGrant(CodeRequest([](auto& r) {
                              r.set_oauth_client("self");
                              r.set_dc("us");
                              r.mutable_client_credentials()->set_soid("Service.12345678");
                              r.mutable_client_credentials()->add_scopes("A.b.ALL");
                            }),
                            Zoho());
  ASSERT_TRUE(registration.ok()) << registration.status();
  EXPECT_EQ(std::get<ClientCredentialsCredential>(registration->credential).soid,
            "Service.12345678");
  EXPECT_THAT(registration->scopes, ElementsAre("A.b.ALL"));
}

TEST(ValidateRegisterGrant, TakesTheDcOfTheRedirect) {
  const absl::StatusOr<Registration> registration =
      ValidateRegisterGrant(CodeRequest([](auto& r) {
                              r.clear_dc();
                              r.set_location("us");
                              r.set_accounts_server("https://accounts.zoho.com");
                            }),
                            Zoho());
  ASSERT_TRUE(registration.ok()) << registration.status();
  EXPECT_EQ(registration->dc, "us");
}

TEST(ValidateRegisterGrant, KeepsToTheLimits) {
  using R = Registrations;
  struct Row {
    std::function<void(R&)> change;
    std::vector<std::string> fields;
  };
  const std::string code = "authorization_code.";
  const std::vector<Row> rows = {
      {[](R&) {}, {}},
      {[](R& r) { r.clear_org_id(); }, {"org_id"}},
      {[](R& r) { r.set_environment(static_cast<v1::Environment>(-1)); }, {"environment"}},
      {[](R& r) { r.clear_oauth_client(); }, {"oauth_client"}},
      {[](R& r) { r.set_oauth_client("nobody"); }, {"oauth_client"}},
      // The data centre.
      {[](R& r) { r.clear_dc(); }, {"dc"}},
      {[](R& r) { r.set_dc("mars"); }, {"dc"}},
      {[](R& r) { r.set_location("eu"); }, {"accounts_server"}},
      {[](R& r) { r.set_accounts_server("https://accounts.zoho.eu"); }, {"location"}},
      {[](R& r) {
         r.set_location("eu");
         r.set_accounts_server("https://accounts.zoho.eu");
       },
       {}},
      {[](R& r) {
         r.set_dc("us");
         r.set_location("eu");
         r.set_accounts_server("https://accounts.zoho.eu");
       },
       {"dc"}},
      // Posting the client secret to a server of the browser's choice: facts, section 8.
      {[](R& r) {
         r.set_location("eu");
         r.set_accounts_server("https://accounts.zoho.eu.evil.example");
       },
       {"accounts_server"}},
      {[](R& r) {
         r.set_location("eu");
         r.set_accounts_server("https://accounts.zoho.com");
       },
       {"accounts_server"}},
      {[](R& r) {
         r.set_location("mars");
         r.set_accounts_server("https://accounts.zoho.com");
       },
       {"location"}},
      // The credential.
      {[](R& r) { r.clear_authorization_code(); }, {"credential"}},
      {[](R& r) { r.mutable_authorization_code()->clear_code(); }, {code + "code"}},
      {[](R& r) { r.mutable_authorization_code()->set_code(std::string(2048, 'c')); }, {}},
      {[](R& r) { r.mutable_authorization_code()->set_code(std::string(2049, 'c')); },
       {code + "code"}},
      {[](R& r) { r.mutable_authorization_code()->clear_redirect_uri(); }, {code + "redirect_uri"}},
      {[](R& r) {
         r.mutable_authorization_code()->set_redirect_uri("https://app.example.com/back/");
       },
       {code + "redirect_uri"}},
      {[](R& r) {
         r.set_oauth_client("self");
         r.set_dc("us");
       },
       {code + "redirect_uri"}},
      {[](R& r) {
         r.set_oauth_client("self");
         r.set_dc("us");
         r.mutable_authorization_code()->clear_redirect_uri();
       },
       {}},
      {[](R& r) { r.mutable_authorization_code()->set_code_verifier(std::string(42, 'v')); },
       {code + "code_verifier"}},
      {[](R& r) { r.mutable_authorization_code()->set_code_verifier(std::string(128, '~')); }, {}},
      {[](R& r) { r.mutable_authorization_code()->set_code_verifier(std::string(129, 'v')); },
       {code + "code_verifier"}},
      {[](R& r) { r.mutable_authorization_code()->set_code_verifier(std::string(42, 'v') + "/"); },
       {code + "code_verifier"}},
      {[](R& r) { r.set_refresh_token(""); }, {"refresh_token"}},
      {[](R& r) { r.set_refresh_token(std::string(2049, 'r')); }, {"refresh_token"}},
      {[](R& r) {
         r.mutable_client_credentials()->set_soid("Service.1");
         r.mutable_client_credentials()->add_scopes("A.b.ALL");
       },
       {"client_credentials"}},
      {[](R& r) {
         r.set_oauth_client("self");
         r.set_dc("us");
         r.mutable_client_credentials()->set_soid("12345678");
       },
       {"client_credentials.soid", "client_credentials.scopes"}},
      {[](R& r) {
         r.set_oauth_client("self");
         r.set_dc("us");
         r.mutable_client_credentials()->set_soid("Service." + std::string(249, '1'));
         r.mutable_client_credentials()->add_scopes("A.b.ALL");
       },
       {"client_credentials.soid"}},
      // The rest.
      {[](R& r) { r.set_display_name(std::string(256, 'd')); }, {}},
      {[](R& r) { r.set_display_name(std::string(257, 'd')); }, {"display_name"}},
      {[](R& r) {
         for (int i = 0; i < 32; ++i) (*r.mutable_labels())["k" + std::to_string(i)] = "v";
       },
       {}},
      {[](R& r) {
         for (int i = 0; i < 33; ++i) (*r.mutable_labels())["k" + std::to_string(i)] = "v";
       },
       {"labels"}},
      {[](R& r) { (*r.mutable_labels())["a-b_c.9"] = std::string(256, 'v'); }, {}},
      {[](R& r) { (*r.mutable_labels())["team"] = std::string(257, 'v'); }, {"labels[\"team\"]"}},
      {[](R& r) { (*r.mutable_labels())["Team"] = "a"; }, {"labels"}},
      {[](R& r) { (*r.mutable_labels())[""] = "a"; }, {"labels"}},
      {[](R& r) { (*r.mutable_labels())[std::string(63, 'k')] = "a"; }, {}},
      {[](R& r) { (*r.mutable_labels())[std::string(64, 'k')] = "a"; }, {"labels"}},
      {[](R& r) { r.set_request_id(std::string(128, 'i')); }, {}},
      {[](R& r) { r.set_request_id(std::string(129, 'i')); }, {"request_id"}},
      {[](R& r) { r.add_scopes("a,b"); }, {"scopes[0]"}},
  };
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(Refused(CodeRequest(rows[i].change)), rows[i].fields) << "row " << i;
  }
}

TEST(ValidateRegisterGrant, NamesEverythingAtOnce) {
  EXPECT_THAT(Refused(Registrations()), ElementsAre("org_id", "oauth_client", "dc", "credential"));
}

TEST(ValidateRegisterGrant, RefusesADcWithoutASecret) {
  const absl::Status status =
      ValidateRegisterGrant(CodeRequest([](auto& r) { r.set_dc("in"); }), Zoho()).status();
  EXPECT_EQ(ErrorReason(status), "CLIENT_SECRET_MISSING");
  EXPECT_THAT(GetErrorDetail(status)->metadata,
              UnorderedElementsAre(Pair("dc", "in"), Pair("oauth_client", "web")));
}

}  // namespace
}  // namespace tokenbroker
