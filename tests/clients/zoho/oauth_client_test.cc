#include "clients/zoho/oauth_client.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tokenbroker {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

const std::vector<std::string>& KnownDcs() {
  static const auto& dcs = *new std::vector<std::string>{"eu", "us"};
  return dcs;
}

OAuthClient ServerBased() {
  OAuthClient client;
  client.name = "people-sync";
  client.type = OAuthClientType::kServerBased;
  client.client_name = "People Sync";
  client.client_id = "1000.ABCDEF";
  client.homepage_url = "https://www.yourdomain.com";
  client.redirect_uris = {"https://www.your-domain.com/callback"};
  client.secrets.emplace("us", Secret("secret-us"));
  return client;
}

OAuthClient ClientBased() {
  OAuthClient client = ServerBased();
  client.type = OAuthClientType::kClientBased;
  client.javascript_domains = {"https://www.yourdomain.com", "http://www.yourdomain.com:8080"};
  return client;
}

OAuthClient SelfClient() {
  OAuthClient client;
  client.name = "nightly";
  client.type = OAuthClientType::kSelfClient;
  client.client_id = "1000.SELF";
  client.secrets.emplace("eu", Secret("secret-eu"));
  return client;
}

std::vector<std::string> FieldsOf(const OAuthClient& client) {
  std::vector<std::string> fields;
  for (const OAuthClientProblem& problem : CheckOAuthClient(client, KnownDcs())) {
    fields.push_back(problem.field);
  }
  return fields;
}

std::string DescriptionOf(const OAuthClient& client, const std::string& field) {
  for (const OAuthClientProblem& problem : CheckOAuthClient(client, KnownDcs())) {
    if (problem.field == field) return problem.description;
  }
  return "";
}

TEST(OAuthClientTest, WellFormedClientsPass) {
  EXPECT_THAT(FieldsOf(ServerBased()), IsEmpty());
  EXPECT_THAT(FieldsOf(ClientBased()), IsEmpty());
  EXPECT_THAT(FieldsOf(SelfClient()), IsEmpty());
  OAuthClient shared = ServerBased();
  shared.secrets.clear();
  shared.shared_secret = Secret("same-everywhere");
  EXPECT_THAT(FieldsOf(shared), IsEmpty());
}

// The guide's table of mandatory entries, row by row.
TEST(OAuthClientTest, MandatoryEntriesPerType) {
  struct Row {
    OAuthClientType type;
    std::vector<std::string> mandatory;
  };
  const Row rows[] = {
      {OAuthClientType::kClientBased,
       {"client_name", "homepage_url", "redirect_uris", "javascript_domains"}},
      {OAuthClientType::kServerBased, {"client_name", "homepage_url", "redirect_uris"}},
      {OAuthClientType::kMobile, {"client_name", "homepage_url", "redirect_uris"}},
      {OAuthClientType::kSelfClient, {}},
      {OAuthClientType::kNonBrowser, {"client_name", "homepage_url"}},
  };
  for (const Row& row : rows) {
    OAuthClient client = SelfClient();
    client.type = row.type;
    EXPECT_THAT(FieldsOf(client), ::testing::UnorderedElementsAreArray(row.mandatory))
        << OAuthClientTypeName(row.type);
  }
}

TEST(OAuthClientTest, EntriesThatDoNotApply) {
  OAuthClient server = ServerBased();
  server.javascript_domains = {"https://www.yourdomain.com"};
  EXPECT_THAT(FieldsOf(server), UnorderedElementsAre("javascript_domains"));
  OAuthClient self = SelfClient();
  self.redirect_uris = {"https://www.your-domain.com/callback"};
  self.javascript_domains = {"https://www.yourdomain.com"};
  EXPECT_THAT(FieldsOf(self), UnorderedElementsAre("redirect_uris", "javascript_domains"));
  OAuthClient device = ServerBased();
  device.type = OAuthClientType::kNonBrowser;
  EXPECT_THAT(FieldsOf(device), IsEmpty());  // not mandatory, yet possible
}

// Whichever the type, what is written has to be right; what is missing may not have to be there.
TEST(OAuthClientTest, OfAnUnknownTypeWhatHoldsForAll) {
  const auto fields = [](const OAuthClient& client) {
    std::vector<std::string> found;
    for (const OAuthClientProblem& problem : CheckUntypedOAuthClient(client, KnownDcs())) {
      found.push_back(problem.field);
    }
    return found;
  };
  for (const OAuthClient& fine : {ServerBased(), ClientBased(), SelfClient()}) {
    EXPECT_THAT(fields(fine), IsEmpty()) << fine.name;
  }
  OAuthClient bad;
  bad.name = "bad";
  bad.client_name = "Web$app";
  bad.homepage_url = "ftp://app";
  bad.redirect_uris = {"https://app.example/cb", "app.example"};
  bad.javascript_domains = {"app.example"};
  EXPECT_THAT(fields(bad),
              UnorderedElementsAre("client_id", "client_name", "homepage_url", "redirect_uris[1]",
                                   "javascript_domains[0]", "secrets"));
}

TEST(OAuthClientTest, ClientNames) {
  OAuthClient client = ServerBased();
  for (const char* fine : {"People", "R&D_sync 2", "Müller", "Ænima ªº", "Людзі", "صلة", "हिन्दी",
                           "人々", "データ", "ＡＢ１", "Ⅷ", "\U0002000B"}) {
    client.client_name = fine;
    EXPECT_THAT(FieldsOf(client), IsEmpty()) << fine;
  }
  for (const char* bad :
       {"people-sync", "people.sync", "a/b",  "a@b", "a\tb",     "a!",       "(a)",   "a'b",
        "A™",          "A—B",         "„A“",  "a…",  "a\u00a0b", "a\u200bb", "«a»",   "a×b",
        "5 €",         "人、人",      "ａ！", "a😀",  "a\uf8ff",  "\xc3",     "a\x80", "\xe2\x84"}) {
    client.client_name = bad;
    EXPECT_THAT(FieldsOf(client), UnorderedElementsAre("client_name")) << bad;
  }
  EXPECT_THAT(DescriptionOf(client, "client_name"), HasSubstr("'_' and '&'"));
  // Where the name is optional, its rule holds all the same.
  OAuthClient self = SelfClient();
  self.client_name = "a-b";
  EXPECT_THAT(FieldsOf(self), UnorderedElementsAre("client_name"));
}

TEST(OAuthClientTest, HomepageUrls) {
  OAuthClient client = ServerBased();
  for (const char* fine : {"https://www.yourdomain.com", "https://yourdomain.com/home?x=1",
                           "http://localhost:3000", "http://127.0.0.1"}) {
    client.homepage_url = fine;
    EXPECT_THAT(FieldsOf(client), IsEmpty()) << fine;
  }
  for (const char* bad : {"www.yourdomain.com", "http://www.yourdomain.com", "ftp://x.example",
                          "https://", "https://a b.example", "javascript:alert(1)"}) {
    client.homepage_url = bad;
    EXPECT_THAT(FieldsOf(client), UnorderedElementsAre("homepage_url")) << bad;
  }
  EXPECT_THAT(DescriptionOf(client, "homepage_url"), HasSubstr("https://www.yourdomain.com"));
}

TEST(OAuthClientTest, RedirectUris) {
  OAuthClient client = ServerBased();
  client.redirect_uris = {"https://www.your-domain.com/callback",
                          "http://www.your-domain.com/callback",
                          "http://localhost:8080/callback",
                          "https://www.your-domain.com/callback#part",
                          "www.your-domain.com/callback",
                          "http://[::1]:8080/callback",
                          ""};
  EXPECT_THAT(FieldsOf(client), UnorderedElementsAre("redirect_uris[1]", "redirect_uris[3]",
                                                     "redirect_uris[4]", "redirect_uris[6]"));
  EXPECT_THAT(DescriptionOf(client, "redirect_uris[1]"),
              HasSubstr("https://www.your-domain.com/callback"));
}

TEST(OAuthClientTest, JavascriptDomains) {
  OAuthClient client = ClientBased();
  client.javascript_domains = {"https://www.yourdomain.com", "www.yourdomain.com",
                               "https://a.example,https://b.example", "http://yourdomain.com",
                               "https://yourdomain.com/app"};
  EXPECT_THAT(FieldsOf(client),
              UnorderedElementsAre("javascript_domains[1]", "javascript_domains[2]",
                                   "javascript_domains[4]"));
  EXPECT_THAT(DescriptionOf(client, "javascript_domains[1]"), HasSubstr("http"));
}

TEST(OAuthClientTest, Identity) {
  OAuthClient client = ServerBased();
  client.name = "";
  client.client_id = "";
  EXPECT_THAT(FieldsOf(client), UnorderedElementsAre("name", "client_id"));
  client.name = std::string(129, 'n');
  client.client_id = "1000.A B";
  EXPECT_THAT(FieldsOf(client), UnorderedElementsAre("name", "client_id"));
}

TEST(OAuthClientTest, Secrets) {
  OAuthClient none = ServerBased();
  none.secrets.clear();
  EXPECT_THAT(FieldsOf(none), UnorderedElementsAre("secrets"));

  OAuthClient both = ServerBased();
  both.shared_secret = Secret("x");
  EXPECT_THAT(FieldsOf(both), UnorderedElementsAre("secrets"));

  OAuthClient odd = ServerBased();
  odd.secrets.emplace("mars", Secret("x"));
  odd.secrets.emplace("eu", Secret(""));
  EXPECT_THAT(FieldsOf(odd), UnorderedElementsAre("secrets[mars]", "secrets[eu]"));

  OAuthClient empty = ServerBased();
  empty.secrets.clear();
  empty.shared_secret = Secret("");
  EXPECT_THAT(FieldsOf(empty), UnorderedElementsAre("shared_secret"));
}

TEST(OAuthClientTest, ASelfClientLivesInOneDc) {
  OAuthClient two = SelfClient();
  two.secrets.emplace("us", Secret("secret-us"));
  EXPECT_THAT(FieldsOf(two), UnorderedElementsAre("secrets"));
  OAuthClient shared = SelfClient();
  shared.secrets.clear();
  shared.shared_secret = Secret("x");
  EXPECT_THAT(FieldsOf(shared), UnorderedElementsAre("secrets"));
  EXPECT_THAT(DescriptionOf(shared, "secrets"), HasSubstr("exactly one DC"));
  OAuthClient none = SelfClient();
  none.secrets.clear();
  EXPECT_THAT(FieldsOf(none), UnorderedElementsAre("secrets"));
}

TEST(OAuthClientTest, ProblemsNeverHoldASecret) {
  OAuthClient client = SelfClient();
  client.secrets.emplace("mars", Secret("CANARY-1"));
  client.shared_secret = Secret("CANARY-2");
  for (const OAuthClientProblem& problem : CheckOAuthClient(client, KnownDcs())) {
    EXPECT_THAT(problem.field + problem.description, ::testing::Not(HasSubstr("CANARY")));
  }
}

TEST(OAuthClientTest, SecretFor) {
  const OAuthClient per_dc = ServerBased();
  ASSERT_NE(per_dc.SecretFor("us"), nullptr);
  EXPECT_EQ(per_dc.SecretFor("us")->Reveal(), "secret-us");
  EXPECT_EQ(per_dc.SecretFor("eu"), nullptr);
  OAuthClient shared = ServerBased();
  shared.secrets.clear();
  shared.shared_secret = Secret("same");
  EXPECT_EQ(shared.SecretFor("eu")->Reveal(), "same");
}

TEST(OAuthClientRegistryTest, FindsByName) {
  const auto registry = OAuthClientRegistry::Create({ServerBased(), SelfClient()});
  ASSERT_TRUE(registry.ok());
  EXPECT_EQ(registry->all().size(), 2u);
  ASSERT_NE(registry->Find("nightly"), nullptr);
  EXPECT_EQ(registry->Find("nightly")->client_id, "1000.SELF");
  EXPECT_EQ(registry->Find("Nightly"), nullptr);
}

TEST(OAuthClientRegistryTest, NamesAreUnique) {
  const auto registry = OAuthClientRegistry::Create({ServerBased(), ServerBased()});
  EXPECT_EQ(registry.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(registry.status().message()), HasSubstr("people-sync"));
}

}  // namespace
}  // namespace tokenbroker
