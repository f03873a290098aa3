// Takes every guard out of the scripts, one at a time, and demands that a test of the store fails.
//
// Runs the program that TB_STORE_TEST names, which is redis_token_store_test, once as it is and
// once per guard, two at a time, on one redis-server.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "storage/redis/scripts.h"
#include "tests/testing/redis_server.h"

extern char** environ;

namespace tokenbroker {
namespace {

struct Outcome {
  bool passed = false;
  std::string failed_test;  // the first one
  std::string output;       // its first part
};

// What gtest_brief prints of the first failure: "[  FAILED  ] Suite.Test…".
std::string FirstFailedTest(const std::string& output) {
  const std::string mark = "[  FAILED  ] ";
  const size_t start = output.find(mark);
  if (start == std::string::npos) return "";
  const size_t name = start + mark.size();
  return output.substr(name, output.find_first_of(", \n", name) - name);
}

// What a mutant does not need: waiting that reaches no script, and flushing, which would disturb
// the program that runs beside it.
constexpr char kWholeSuite[] =
    "-*Subscription*:*Silent*:*Waiting*:*ThousandOnAPage*:*ServerForgot*";

// Tests that fail with all guards in place, for a mutant; more of them are a fault of the suite.
constexpr int kMaxAccidents = 4;

// Runs the tests of `filter` without `guard` ("": with all of them).
Outcome RunSuite(const std::string& program, uint16_t port, const std::string& guard,
                 const std::string& filter, const std::string& output_file) {
  std::vector<std::string> environment = {absl::StrCat("TB_REDIS_PORT=", port), "GTEST_FAIL_FAST=1",
                                          "GTEST_BRIEF=1", absl::StrCat("GTEST_FILTER=", filter)};
  if (!guard.empty()) environment.push_back(absl::StrCat("TB_REDIS_REMOVE_GUARD=", guard));
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!absl::StartsWith(*variable, "GTEST_")) environment.emplace_back(*variable);
  }
  std::vector<char*> envp;
  for (std::string& variable : environment) envp.push_back(variable.data());
  envp.push_back(nullptr);
  std::string path = program;
  char* argv[] = {path.data(), nullptr};

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, output_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC,
                                   0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  pid_t child = -1;
  const int error = posix_spawn(&child, program.c_str(), &actions, nullptr, argv, envp.data());
  posix_spawn_file_actions_destroy(&actions);
  Outcome outcome;
  if (error != 0) {
    outcome.output = absl::StrCat("cannot run ", program);
    return outcome;
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  std::ifstream file(output_file);
  outcome.output.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  outcome.passed = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  outcome.failed_test = FirstFailedTest(outcome.output);
  if (outcome.output.size() > 3000) outcome.output.resize(3000);
  return outcome;
}

// A line that decides alone whether a script goes on, and does not say so, would escape the next
// test.
TEST(RedisMutationTest, EveryCheckOnOneLineIsAGuard) {
  const redis::ScriptSet scripts = redis::ScriptSet::Embedded();
  for (size_t i = 0; i < redis::kScriptCount; ++i) {
    std::istringstream lines(scripts.source(static_cast<redis::ScriptId>(i)));
    for (std::string line; std::getline(lines, line);) {
      const size_t start = line.find_first_not_of(' ');
      if (start == std::string::npos || line.compare(start, 3, "if ") != 0) continue;
      const bool leaves = absl::StrContains(line, " return ") && absl::StrContains(line, " end");
      EXPECT_TRUE(!leaves || absl::StrContains(line, "-- guard: ")) << line;
    }
  }
}

TEST(RedisMutationTest, EveryGuardIsMissedByATest) {
  const char* program = std::getenv("TB_STORE_TEST");
  ASSERT_NE(program, nullptr) << "TB_STORE_TEST must name redis_token_store_test";
  absl::StatusOr<std::unique_ptr<RedisServer>> server = RedisServer::Start({});
  ASSERT_TRUE(server.ok()) << server.status();
  const uint16_t port = (*server)->port();
  const std::string directory = (*server)->directory();

  const Outcome whole = RunSuite(program, port, "", kWholeSuite, directory + "/out");
  ASSERT_TRUE(whole.passed) << "the suite fails with all guards in place:\n" << whole.output;

  const std::vector<std::string> guards = redis::ScriptSet::Embedded().Guards();
  ASSERT_GE(guards.size(), 55u);  // fewer: the comments were lost
  std::vector<Outcome> outcomes(guards.size());
  std::atomic<size_t> next{0};
  std::vector<std::thread> workers;
  for (int worker = 0; worker < 2; ++worker) {
    workers.emplace_back([&, worker] {
      for (size_t i = next++; i < guards.size(); i = next++) {
        const std::string output = absl::StrCat(directory, "/out", worker);
        std::string filter = kWholeSuite;
        Outcome outcome;
        for (int accidents = 0; accidents < kMaxAccidents; ++accidents) {
          outcome = RunSuite(program, port, guards[i], filter, output);
          if (outcome.failed_test.empty()) break;
          // By itself and once more, so that no accident is taken for a proof.
          const std::string failed_test = outcome.failed_test;
          outcome = RunSuite(program, port, guards[i], failed_test, output);
          if (!outcome.passed) break;
          // On a busy machine a test that waits may fail: another one has to notice.
          absl::StrAppend(&filter, ":", failed_test);
        }
        outcomes[i] = std::move(outcome);
      }
    });
  }
  for (std::thread& worker : workers) worker.join();

  for (size_t i = 0; i < guards.size(); ++i) {
    absl::PrintF("%-30s %s\n", guards[i],
                 outcomes[i].passed ? "SURVIVED" : outcomes[i].failed_test);
    EXPECT_FALSE(outcomes[i].passed) << "no test notices that guard " << guards[i] << " is gone";
    // Anything but a failed test, a crash or a missing program, proves nothing.
    EXPECT_TRUE(outcomes[i].passed || !outcomes[i].failed_test.empty()) << outcomes[i].output;
  }
}

}  // namespace
}  // namespace tokenbroker
