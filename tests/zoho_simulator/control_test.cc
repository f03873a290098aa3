// The control endpoint and the program, as scripts use them.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/zoho_simulator/simulator_fixture.h"

namespace tokenbroker::zoho_simulator {
namespace {

using testing::HasSubstr;
using testing::Not;

class ControlTest : public SimulatorTest {
 protected:
  void SetUp() override { Start(); }

  HttpResult Control(const std::string& method, const std::string& path,
                     const nlohmann::json& body = nullptr) {
    return Call(simulator_->control_url(), method, "/control/" + path,
                body.is_null() ? "" : body.dump(), "Content-Type: application/json\r\n");
  }

  nlohmann::json Ok(const HttpResult& result) {
    EXPECT_EQ(result.status, 200) << result.body;
    return Json(result);
  }
};

TEST_F(ControlTest, SeedsGrantsAndShowsRequests) {
  const auto seeded = Ok(Control("POST", "seed",
                                 {{"dc", "us"},
                                  {"client_id", "1000.APP"},
                                  {"count", 3},
                                  {"environment", "SANDBOX"},
                                  {"scopes", "ZOHOPEOPLE.leave.READ"},
                                  {"prefix", "tenant-"}}))["grants"];
  ASSERT_EQ(seeded.size(), 3u);
  EXPECT_EQ(seeded[0]["org_id"], "tenant-1");
  EXPECT_EQ(seeded[0]["environment"], "SANDBOX");
  const SeededGrant grant{{}, "us", "1000.APP", seeded[1]["refresh_token"]};
  const HttpResult minted = Refresh(grant);
  EXPECT_EQ(Json(minted)["scope"], "ZOHOPEOPLE.leave.READ");
  Call(simulator_->dc("eu").url(), "GET", "/oauth/serverinfo");

  const auto all = Ok(Control("GET", "requests"))["requests"];
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0]["outcome"], "minted");
  EXPECT_EQ(all[0]["org_id"], "tenant-2");
  EXPECT_EQ(all[0]["grant_number"], seeded[1]["grant_number"]);
  EXPECT_EQ(Ok(Control("GET", "requests?dc=eu"))["requests"].size(), 1u);
  EXPECT_EQ(Ok(Control("GET", "requests?outcome=minted&org_id=tenant-2"))["requests"].size(), 1u);
  EXPECT_EQ(Ok(Control("GET", "requests?after=1"))["requests"][0]["sequence"], 2);
  EXPECT_EQ(Ok(Control("GET", "requests?limit=1"))["requests"].size(), 1u);
  EXPECT_EQ(Control("GET", "requests?after=x").status, 400);

  const auto summary = Ok(Control("GET", "summary"));
  EXPECT_EQ(summary["requests"], 2);
  EXPECT_EQ(summary["by_outcome"]["minted"], 1);
  EXPECT_EQ(summary["max_in_flight_per_grant"], 1);
  EXPECT_EQ(summary["connections"], 2);

  // The record holds no token.
  const std::string record = Control("GET", "requests").body + Control("GET", "summary").body;
  EXPECT_THAT(record, Not(HasSubstr(grant.refresh_token)));
  EXPECT_THAT(record, Not(HasSubstr(Json(minted)["access_token"].get<std::string>())));
  EXPECT_THAT(record, Not(HasSubstr("secret-us")));

  EXPECT_EQ(Ok(Control("GET", absl::StrCat("grant?grant_number=",
                                           seeded[1]["grant_number"].get<int>())))["mints"],
            1);
  EXPECT_EQ(Ok(Control("GET",
                       "grant?dc=us&client_id=1000.APP&org_id=tenant-2&environment="
                       "SANDBOX"))["active_access_tokens"],
            1);
  EXPECT_EQ(Control("GET", "grant?grant_number=99").status, 404);
  Ok(Control("DELETE", "requests"));
  EXPECT_EQ(Ok(Control("GET", "summary"))["requests"], 0);
}

TEST_F(ControlTest, Waits) {
  EXPECT_EQ(Control("GET", "wait?count=1&timeout_ms=20").status, 408);
  std::thread caller([&] { Call(simulator_->dc("us").url(), "GET", "/oauth/serverinfo"); });
  const auto reached = Ok(Control("GET", "wait?count=1&outcome=server_info&timeout_ms=20000"));
  EXPECT_EQ(reached["reached"], true);
  EXPECT_EQ(reached["count"], 1);
  caller.join();
  EXPECT_EQ(Control("GET", "wait?count=x").status, 400);
}

TEST_F(ControlTest, Faults) {
  const SeededGrant grant = Seed();
  const auto added = Ok(Control("POST", "faults", {{"kind", "status"}, {"status", 503}}));
  EXPECT_EQ(Refresh(grant).status, 503);
  const auto list = Ok(Control("GET", "faults"))["faults"];
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0]["id"], added["id"]);
  EXPECT_EQ(list[0]["kind"], "status");
  Ok(Control("DELETE", absl::StrCat("faults?id=", added["id"].get<int>())));
  EXPECT_EQ(Control("DELETE", absl::StrCat("faults?id=", added["id"].get<int>())).status, 404);
  EXPECT_EQ(Refresh(grant).status, 200);

  Ok(Control("POST", "faults", {{"kind", "hang"}}));
  HttpConnection hanging(simulator_->dc("us").url());
  hanging.Request("POST", kTokenPath, RefreshBody(grant));
  while (simulator_->hung() == 0) std::this_thread::yield();
  EXPECT_EQ(Ok(Control("POST", "release?dc=eu"))["released"], 0);
  EXPECT_EQ(Ok(Control("POST", "release"))["released"], 1);
  EXPECT_EQ(hanging.Read().status, 200);
  Ok(Control("DELETE", "faults"));
  EXPECT_EQ(Refresh(grant).status, 200);
  EXPECT_EQ(Control("POST", "faults", {{"kind", "explode"}}).status, 400);

  Ok(Control("POST", "accept-mode", {{"dc", "us"}, {"mode", "refuse"}}));
  EXPECT_EQ(Refresh(grant).end, HttpResult::End::kRefused);
  Ok(Control("POST", "accept-mode", {{"dc", "us"}, {"mode", "serve"}}));
  EXPECT_EQ(Refresh(grant).status, 200);
  EXPECT_EQ(Control("POST", "accept-mode", {{"dc", "us"}, {"mode", "dance"}}).status, 400);
}

TEST_F(ControlTest, ClientsUsersConsentAndCodes) {
  Ok(Control("POST", "clients",
             {{"client_id", "1000.SELF"},
              {"type", "self_client"},
              {"home_dc", "us"},
              {"secrets", {{"us", "secret-self"}}}}));
  EXPECT_EQ(Control("POST", "clients", {{"client_id", "x"}}).status, 400);
  Ok(Control("POST", "users",
             {{"user_id", "bob"}, {"dc", "us"}, {"orgs", {{{"org_id", "org-bob"}}}}}));
  EXPECT_EQ(Control("POST", "users",
                    {{"user_id", "bob"}, {"dc", "us"}, {"orgs", {{{"org_id", "org-bob"}}}}})
                .status,
            409);
  const std::string code =
      Ok(Control("POST", "codes", {{"client_id", "1000.SELF"}, {"user_id", "bob"}}))["code"];
  const HttpResult minted =
      Call(simulator_->dc("us").url(), "POST", kTokenPath,
           absl::StrCat("grant_type=authorization_code&client_id=1000.SELF&client_secret=secret-"
                        "self&code=",
                        code));
  EXPECT_TRUE(Json(minted).contains("refresh_token")) << minted.body;

  const std::string consent = absl::StrCat(
      "/oauth/v2/auth?response_type=code&client_id=1000.APP&scope=ZOHOPEOPLE.forms.ALL&redirect_"
      "uri=",
      PercentEncode(kCallback));
  const std::string& us = simulator_->dc("us").url();
  EXPECT_EQ(Call(us, "GET", consent).status, 200) << "the page for humans";
  Ok(Control("POST", "default-consent", {{"user_id", "bob"}}));
  EXPECT_EQ(Call(us, "GET", consent).status, 302);
  Ok(Control("DELETE", "default-consent"));
  EXPECT_EQ(Call(us, "GET", consent).status, 200);

  Ok(Control("DELETE", "clients?client_id=1000.SELF"));
  EXPECT_EQ(Control("DELETE", "clients?client_id=1000.SELF").status, 404);
}

TEST_F(ControlTest, BehaviourAndTime) {
  const SeededGrant grant = Seed();
  Ok(Control("POST", "behaviour?dc=us", {{"access_token_life_seconds", 5}}));
  EXPECT_EQ(Json(Refresh(grant))["expires_in"], 5);
  EXPECT_EQ(Json(Refresh(Seed("eu")))["expires_in"], 3600);
  Ok(Control("POST", "behaviour", {{"scope_in_replies", false}, {"limits", {{"mints", 2}}}}));
  const auto behaviour = Ok(Control("GET", "behaviour"));
  EXPECT_EQ(behaviour["us"]["access_token_life_seconds"], 5.0) << "the rest stays";
  EXPECT_EQ(behaviour["eu"]["scope_in_replies"], false);
  Refresh(grant);
  EXPECT_EQ(Refresh(grant).status, 400) << "throttled";
  Ok(Control("POST", "advance", {{"seconds", 600}}));
  EXPECT_EQ(Refresh(grant).status, 200);
  EXPECT_EQ(Control("POST", "behaviour", {{"nonsense", 1}}).status, 400);
  EXPECT_EQ(Control("POST", "behaviour?dc=in", nlohmann::json::object()).status, 404);
}

TEST_F(ControlTest, Kill) {
  const SeededGrant grant = Seed();
  const std::string access_token = Json(Refresh(grant))["access_token"];
  const auto people = [&] {
    return Call(simulator_->dc("us").url(), "GET", "/people/api/forms", "",
                absl::StrCat("Authorization: Zoho-oauthtoken ", access_token, "\r\n"))
        .status;
  };
  EXPECT_EQ(people(), 200);
  EXPECT_EQ(
      Ok(Control("POST", "kill/access-tokens", {{"org_id", grant.identity.org_id}}))["killed"], 1);
  EXPECT_EQ(people(), 401);
  EXPECT_EQ(Json(Refresh(grant)).contains("access_token"), true);
  Ok(Control("POST", "kill/grant", {{"grant_number", grant.identity.number}}));
  EXPECT_EQ(Refresh(grant).body, "{\"error\":\"invalid_code\"}");
  EXPECT_EQ(Control("POST", "kill/grant", {{"grant_number", 99}}).status, 404);

  const SeededGrant second = Seed();
  EXPECT_EQ(
      Ok(Control("POST", "kill/user-tokens", {{"user_id", second.identity.user_id}}))["killed"], 1);
  const SeededGrant third = Seed();
  EXPECT_EQ(Ok(Control("POST", "kill/connected-app",
                       {{"user_id", third.identity.user_id}, {"client_id", "1000.APP"}}))["killed"],
            1);
  EXPECT_EQ(Refresh(third).body, "{\"error\":\"invalid_code\"}");
  EXPECT_EQ(Control("POST", "kill/time").status, 404);
}

TEST_F(ControlTest, UrlsAndMistakes) {
  const auto urls = Ok(Control("GET", "urls"));
  EXPECT_EQ(urls["dcs"]["us"]["http"], simulator_->dc("us").url());
  EXPECT_EQ(urls["control"], simulator_->control_url());
  EXPECT_EQ(urls["trap"], simulator_->trap_url());
  EXPECT_EQ(Control("GET", "nothing").status, 404);
  EXPECT_EQ(Control("PUT", "seed").status, 400);
  EXPECT_EQ(Call(simulator_->control_url(), "GET", "/").status, 404);
  EXPECT_EQ(Call(simulator_->control_url(), "POST", "/control/seed", "{").status, 400);
  EXPECT_EQ(Control("POST", "seed", {{"dc", "us"}, {"client_id", "x"}}).status, 404);
}

TEST_F(ControlTest, BytesThatAreNoUtf8DoNotHurt) {
  Call(simulator_->dc("us").url(), "POST", kTokenPath, "grant_type=x&client_id=%ff%fe");
  EXPECT_EQ(Ok(Control("GET", "requests"))["requests"].size(), 1u);
}

// The program, in a process of its own.
class ProgramTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* program = std::getenv("ZOHO_SIMULATOR");
    ASSERT_NE(program, nullptr) << "ctest sets it";
    program_ = program;
    directory_ = testing::TempDir() + "zoho-simulator-XXXXXX";
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
  }

  void TearDown() override {
    if (pid_ > 0) kill(pid_, SIGKILL);
    for (const char* name : {"config.json", "ports", "certificate.pem", "output"}) {
      unlink(File(name).c_str());
    }
    rmdir(directory_.c_str());
  }

  std::string File(const std::string& name) { return directory_ + "/" + name; }

  static std::string Contents(const std::string& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }

  void Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), program_);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const std::string output = File("output");
    pid_ = fork();
    if (pid_ == 0) {
      const int fd = open(output.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600);
      dup2(fd, 1);
      dup2(fd, 2);
      execv(program_.c_str(), argv.data());
      _exit(127);
    }
  }

  int ExitStatus() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  std::string program_;
  std::string directory_;
  pid_t pid_ = -1;
};

TEST_F(ProgramTest, ServesUntilSigterm) {
  std::ofstream(File("config.json")) << R"({"dcs": ["us"], "clients": [{
      "client_id": "c", "home_dc": "us", "secrets": {"us": "s"}}]})";
  Run({"--https", "--config", File("config.json"), "--dcs", "us,in", "--threads", "2",
       "--port-file", File("ports"), "--certificate-file", File("certificate.pem")});
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (access(File("ports").c_str(), F_OK) != 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  const auto urls = nlohmann::json::parse(Contents(File("ports")), nullptr, false);
  ASSERT_TRUE(urls.is_object()) << Contents(File("output"));
  EXPECT_EQ(urls["dcs"].size(), 2u);
  EXPECT_EQ(Call(urls["dcs"]["in"]["http"], "GET", "/oauth/serverinfo").status, 200);
  EXPECT_EQ(Call(urls["dcs"]["us"]["https"], "GET", "/oauth/serverinfo", "", "",
                 Contents(File("certificate.pem")))
                .status,
            200);
  EXPECT_EQ(
      Call(urls["control"], "POST", "/control/seed", R"({"dc": "us", "client_id": "c"})").status,
      200);
  kill(pid_, SIGTERM);
  EXPECT_EQ(ExitStatus(), 0);
  EXPECT_EQ(Contents(File("output")), Contents(File("ports")));
}

TEST_F(ProgramTest, HelpAndMistakes) {
  Run({"--help"});
  EXPECT_EQ(ExitStatus(), 0);
  EXPECT_THAT(Contents(File("output")), HasSubstr("--control-port"));
  Run({"--frobnicate"});
  EXPECT_EQ(ExitStatus(), 2);
  EXPECT_THAT(Contents(File("output")), HasSubstr("--frobnicate"));
  Run({"--control-port", "99999"});
  EXPECT_EQ(ExitStatus(), 2);
  Run({"--config", File("none")});
  EXPECT_EQ(ExitStatus(), 1);
  std::ofstream(File("config.json")) << R"({"dcz": []})";
  Run({"--config", File("config.json")});
  EXPECT_EQ(ExitStatus(), 2);
  EXPECT_THAT(Contents(File("output")), HasSubstr("config.dcz"));
}

}  // namespace
}  // namespace tokenbroker::zoho_simulator
