#include "server/consent/callback.h"

#include <future>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/issuing/thread_executor.h"
#include "tests/server/consent/query.h"
#include "tests/server/consent/state_keys.h"
#include "tests/server/rpc/zoho_setup.h"
#include "tests/testing/fake_accounts_server.h"
#include "tests/testing/fake_token_store.h"

namespace tokenbroker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using testing::ScriptedReply;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

constexpr char kUsRedirect[] = "&location=us&accounts-server=https%3A%2F%2Faccounts.zoho.com&";

class ConsentCallbackTest : public ::testing::Test {
 protected:
  ConsentCallbackTest()
      : executor_({.threads_per_lane = 4}, Clock::System()),
        refresher_(ProtocolLimits(), {}, &setup_, &store_, &zoho_, &executor_, Clock::System(),
                   &events_),
        registrar_(&store_, &refresher_, &executor_, Clock::System(), &events_),
        urls_({.callback_url = kCallbackUrl}, &keys_, &setup_, Clock::System()) {}
  ~ConsentCallbackTest() override {
    zoho_.Release();
    executor_.Shutdown();
  }

  // The state of a fresh authorization URL, as it stands in a query.
  std::string NewState() {
    const std::string url = urls_
                                .Create({.key = kKey,
                                         .dc = "us",
                                         .scopes = {"A.b.READ"},
                                         .display_name = "Acme <& Sons>",
                                         .labels = {{"team", "a"}},
                                         .keep_warm = true})
                                ->url;
    return url.substr(url.find("state=") + 6);
  }

  CallbackPage Handle(const std::string& query, absl::Duration timeout = absl::Seconds(20)) {
    const ConsentCallback callback({.callback_url = kCallbackUrl, .timeout = timeout}, &keys_,
                                   &setup_, &registrar_, Clock::System());
    std::promise<CallbackPage> made;
    callback.Handle(ParseCallbackQuery(query),
                    [&made](CallbackPage page) { made.set_value(std::move(page)); });
    CallbackPage page = made.get_future().get();
    EXPECT_FALSE(page.title.empty());
    EXPECT_FALSE(page.text.empty());
    EXPECT_THAT(page.text, Not(HasSubstr("1000.code")));
    return page;
  }

  const GrantKey kKey{"acme", Environment::kSandbox, "web"};
  const ZohoSetup setup_ = TestSetup();
  const Keyring keys_ = TestStateKeys();
  testing::FakeTokenStore store_;
  testing::FakeAccountsServer zoho_;
  IssuingEvents events_;
  ThreadExecutor executor_;
  Refresher refresher_;
  GrantRegistrar registrar_;
  const AuthorizationUrls urls_;
};

TEST_F(ConsentCallbackTest, RegistersWhatTheStateSays) {
  // As Zoho sends it: state first, a trailing "&" (facts, section 3); others may be added.
  const CallbackPage page =
      Handle(absl::StrCat("state=", NewState(), "&code=1000.code.x", kUsRedirect, "new=1&"));
  EXPECT_EQ(page.http_status, 200);
  EXPECT_EQ(page.title, "Connected");
  EXPECT_THAT(page.text, HasSubstr("Acme <& Sons>"));

  const absl::StatusOr<GrantRecord> record = store_.Load(kKey);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->state, GrantState::kActive);
  EXPECT_EQ(record->info.dc, "us");
  EXPECT_THAT(record->info.scopes, ElementsAre("A.b.READ"));
  EXPECT_EQ(record->info.display_name, "Acme <& Sons>");
  EXPECT_THAT(record->info.labels, UnorderedElementsAre(Pair("team", "a")));
  EXPECT_TRUE(record->info.keep_warm);

  const std::vector<TokenRequest> sent = zoho_.requests();
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_EQ(sent[0].code, Secret("1000.code.x"));
  EXPECT_EQ(sent[0].redirect_uri, kCallbackUrl);
  ASSERT_TRUE(sent[0].code_verifier.has_value());
  EXPECT_EQ(sent[0].code_verifier->size(), 43u);
}

TEST_F(ConsentCallbackTest, BelievesZohoAboutScopes) {
  zoho_.SetScopes({"A.b.READ", "A.z.READ"});
  Handle(absl::StrCat("state=", NewState(), "&code=1000.code.x", kUsRedirect));
  EXPECT_THAT(store_.Load(kKey)->info.scopes, ElementsAre("A.b.READ", "A.z.READ"));
}

TEST_F(ConsentCallbackTest, TakesTheDcOfTheRedirect) {
  const CallbackPage page =
      Handle(absl::StrCat("state=", NewState(), "&code=1000.code.x",
                          "&location=eu&accounts-server=https%3A%2F%2Faccounts.zoho.eu"));
  EXPECT_EQ(page.http_status, 200);
  EXPECT_EQ(store_.Load(kKey)->info.dc, "eu");
  EXPECT_EQ(zoho_.requests()[0].dc.name, "eu");
  EXPECT_EQ(zoho_.requests()[0].client_secret, Secret("web-eu-secret"));
}

TEST_F(ConsentCallbackTest, StaysAtTheDcOfTheStateWithoutARedirects) {
  EXPECT_EQ(Handle(absl::StrCat("state=", NewState(), "&code=1000.code.x")).http_status, 200);
  EXPECT_EQ(store_.Load(kKey)->info.dc, "us");
}

TEST_F(ConsentCallbackTest, BelievesNoForeignAccountsServer) {
  for (const char* redirect :
       {"&location=us&accounts-server=https%3A%2F%2Faccounts.zoho.com.evil.example",
        "&location=us&accounts-server=https%3A%2F%2Faccounts.zoho.eu",
        "&location=mars&accounts-server=https%3A%2F%2Faccounts.zoho.com", "&location=us",
        "&accounts-server=https%3A%2F%2Faccounts.zoho.com",
        "&location=us&location=eu&accounts-server=https%3A%2F%2Faccounts.zoho.com"}) {
    SCOPED_TRACE(redirect);
    EXPECT_EQ(Handle(absl::StrCat("state=", NewState(), "&code=1000.code.x", redirect)).http_status,
              400);
  }
  EXPECT_EQ(zoho_.sends(), 0);
}

TEST_F(ConsentCallbackTest, SpendsNothingOnAReload) {
  const std::string query = absl::StrCat("state=", NewState(), "&code=1000.code.x", kUsRedirect);
  EXPECT_EQ(Handle(query).http_status, 200);
  EXPECT_EQ(Handle(query).http_status, 200);
  EXPECT_EQ(zoho_.sends(), 1);
}

TEST_F(ConsentCallbackTest, RegistersASecondConsentOfTheSameLink) {
  const std::string state = NewState();
  Handle(absl::StrCat("state=", state, "&code=1000.code.x", kUsRedirect));
  EXPECT_EQ(Handle(absl::StrCat("state=", state, "&code=1000.code.y", kUsRedirect)).http_status,
            200);
  EXPECT_EQ(zoho_.sends(), 2);
  EXPECT_EQ(store_.Load(kKey)->generation, 2);
}

TEST_F(ConsentCallbackTest, SaysWhenThePersonRefused) {
  const CallbackPage page = Handle(absl::StrCat("state=", NewState(), "&error=access_denied"));
  EXPECT_EQ(page.http_status, 403);
  EXPECT_THAT(page.text, HasSubstr("did not give your consent"));
  EXPECT_EQ(Handle(absl::StrCat("state=", NewState(), "&error=%3Cb%3E")).http_status, 400);
  EXPECT_EQ(zoho_.sends(), 0);
}

TEST_F(ConsentCallbackTest, RefusesStatesThatAreNotItsOwn) {
  std::string changed = NewState();
  changed[changed.size() / 2] = changed[changed.size() / 2] == 'A' ? 'B' : 'A';
  for (const std::string& query :
       {std::string(), std::string("code=1000.code.x"), std::string("state=&code=1000.code.x"),
        absl::StrCat("state=", changed, "&code=1000.code.x", kUsRedirect),
        absl::StrCat("state=", NewState(), "&state=", NewState(), "&code=1000.code.x"),
        absl::StrCat("state=", NewState()), absl::StrCat("state=", NewState(), "&code="),
        absl::StrCat("state=", NewState(), "&code=", std::string(2049, 'c'))}) {
    EXPECT_EQ(Handle(query).http_status, 400) << query;
  }
  EXPECT_EQ(zoho_.sends(), 0);
}

TEST_F(ConsentCallbackTest, RefusesAnExpiredState) {
  const AuthorizationUrls expired(
      {.callback_url = kCallbackUrl, .state_lifetime = -absl::Seconds(1)}, &keys_, &setup_,
      Clock::System());
  const std::string url = expired.Create({.key = kKey, .dc = "us", .scopes = {"A.b.READ"}})->url;
  const CallbackPage page =
      Handle(absl::StrCat(url.substr(url.find("state=")), "&code=1000.code.x", kUsRedirect));
  EXPECT_EQ(page.http_status, 400);
  EXPECT_THAT(page.text, HasSubstr("expired"));
  EXPECT_EQ(zoho_.sends(), 0);
}

TEST_F(ConsentCallbackTest, SaysWhatWentWrong) {
  const auto page_for = [this](const ScriptedReply& reply) {
    zoho_.ScriptAll(reply);
    return Handle(absl::StrCat("state=", NewState(), "&code=1000.code.x", kUsRedirect));
  };
  EXPECT_EQ(page_for(ScriptedReply::Dead()).http_status, 400);
  CallbackPage page = page_for(ScriptedReply::ClientRejected());
  EXPECT_EQ(page.http_status, 500);
  EXPECT_THAT(page.text, HasSubstr("CLIENT_REJECTED"));
  page = page_for(ScriptedReply::Success(absl::Hours(1)));
  EXPECT_EQ(page.http_status, 500);
  EXPECT_THAT(page.text, HasSubstr("REFRESH_TOKEN_MISSING"));
  EXPECT_EQ(page_for(ScriptedReply::Throttled()).http_status, 503);
  EXPECT_EQ(page_for(ScriptedReply::Unreachable()).http_status, 503);

  zoho_.ClearScripts();
  store_.SetStatus(StoreUnavailableError("down"));
  page = Handle(absl::StrCat("state=", NewState(), "&code=1000.code.x", kUsRedirect));
  EXPECT_EQ(page.http_status, 503);
  EXPECT_THAT(page.text, HasSubstr("STORE_UNAVAILABLE"));
}

// The caller is the HTTP listener's only thread.
TEST_F(ConsentCallbackTest, WaitsForZohoWithoutTheCaller) {
  zoho_.Hold();
  const ConsentCallback callback({.callback_url = kCallbackUrl}, &keys_, &setup_, &registrar_,
                                 Clock::System());
  std::promise<CallbackPage> made;
  callback.Handle(
      ParseCallbackQuery(absl::StrCat("state=", NewState(), "&code=1000.code.x", kUsRedirect)),
      [&made](CallbackPage page) { made.set_value(std::move(page)); });
  // It has returned, and Zoho has not answered.
  EXPECT_TRUE(zoho_.WaitForSends(1));
  zoho_.Release();
  EXPECT_EQ(made.get_future().get().http_status, 200);
}

TEST_F(ConsentCallbackTest, AsksForAReloadWhenItTakesTooLong) {
  zoho_.Hold();
  const std::string query = absl::StrCat("state=", NewState(), "&code=1000.code.x", kUsRedirect);
  EXPECT_EQ(Handle(query, absl::Milliseconds(100)).http_status, 504);
  EXPECT_TRUE(zoho_.WaitForSends(1));
  zoho_.Release();
  // By then it is stored, or the reload waits until it is; the code is dead for a second exchange.
  EXPECT_TRUE(registrar_.Drain(absl::Seconds(10)));
  EXPECT_EQ(store_.Load(kKey)->state, GrantState::kActive);
}

TEST_F(ConsentCallbackTest, AsksForAReloadWhenTheProcessEndsFirst) {
  zoho_.Hold();
  const std::string query = absl::StrCat("state=", NewState(), "&code=1000.code.x", kUsRedirect);
  CallbackPage page;
  std::thread browser([&] { page = Handle(query); });
  EXPECT_TRUE(zoho_.WaitForSends(1));
  registrar_.StopWaiting();
  browser.join();
  EXPECT_EQ(page.http_status, 503);
  EXPECT_THAT(page.text, HasSubstr("reload this page"));
  zoho_.Release();
  EXPECT_TRUE(registrar_.Drain(absl::Seconds(10)));
  EXPECT_EQ(store_.Load(kKey)->state, GrantState::kActive);
}

TEST(RenderHtml, Escapes) {
  const std::string html =
      RenderHtml({.http_status = 200, .title = "<b>", .text = "\"A\" & 'B' <script>"});
  EXPECT_THAT(html, HasSubstr("<h1>&lt;b&gt;</h1>"));
  EXPECT_THAT(html, HasSubstr("&quot;A&quot; &amp; &#39;B&#39; &lt;script&gt;"));
  EXPECT_THAT(html, Not(HasSubstr("<script>")));
}

}  // namespace
}  // namespace tokenbroker
