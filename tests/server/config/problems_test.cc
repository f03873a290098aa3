// Problems that are not of one value: of several together, and of the command line and the file.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>

#include "server/config/command_line.h"
#include "server/config/settings.h"
#include "tests/server/config/fake_files.h"

namespace tokenbroker {
namespace {

FakeFiles Files(const std::string& yaml) {
  return FakeFiles().Add("broker.yaml", yaml).Add("own-org-us", kSecretText);
}

std::string Report(const std::string& yaml) {
  CommandLine line;
  line.config_file = "broker.yaml";
  return std::string(LoadSettings(line, Files(yaml).Reader()).status().message());
}

// kMinimal with more sections after it; their lines begin at 10.
std::string With(const std::string& more) { return kMinimal + more; }

// At the bound, where the sums are as long as the leases.
TEST(ProblemsTest, ProtocolInequalitiesAreChecked) {
  for (const auto& [section, problem] :
       {std::pair<std::string, std::string>{"{sent_lease: 16s}",
                                            "sent_lease: must be greater than response_timeout + "
                                            "commit_budget + clock_drift (16s), "
                                            "and is 16s"},
        {"{response_timeout: 14s}",
         "sent_lease: must be greater than response_timeout + commit_budget + clock_drift (20s), "
         "and is 20s"},
        {"{pre_send_lease: 4s}",
         "pre_send_lease: must be greater than connect_timeout + clock_drift (4s), and is 4s"},
        {"{clock_drift: 3s}",
         "pre_send_lease: must be greater than connect_timeout + clock_drift (6s), and is 6s"},
        {"{background_reserve: 2, budget: [{sends: 3, length: 5s}, {sends: 2, length: 9s}]}",
         "budget[1].sends: must be more than background_reserve (2) and at most 100"}}) {
    EXPECT_EQ(Report(With("protocol: " + section + "\n")), "broker.yaml:10: protocol." + problem);
  }
  EXPECT_EQ(Report(With("protocol: {sent_lease: 16001ms, pre_send_lease: 4001ms}\n")), "");
}

TEST(ProblemsTest, AValueOfProtocolThatCannotBeReadHidesNoOther) {
  EXPECT_EQ(
      Report(With("protocol:\n  clock_drift: nope\n  sent_lease: 10s\n"
                  "  budget: [{sends: 50, length: 10m}]\n")),
      "broker.yaml:11: protocol.clock_drift: must be a duration such as 250ms, 5s, 10m or 1h, "
      "not 'nope'\n"
      "broker.yaml:12: protocol.sent_lease: must be greater than response_timeout + "
      "commit_budget + clock_drift (15s), and is 10s\n"
      "broker.yaml:13: protocol.budget: allows 50 sends in 10m, and Zoho 10; that must be "
      "accepted by name: protocol.accept_risks: [BUDGET_ABOVE_ZOHO_LIMIT]");
}

// Nor is anything concluded from it.
TEST(ProblemsTest, AValueOfProtocolThatCannotBeReadBreaksNoRule) {
  for (const auto& [section, key] :
       {std::pair<std::string, std::string>{"{response_timeout: nope, sent_lease: 7s}",
                                            "response_timeout"},
        {"{sent_lease: nope}", "sent_lease"},
        {"{pre_send_lease: nope}", "pre_send_lease"},
        {"{budget: [{sends: 5, length: nope}]}", "budget[0].length"},
        {"{budget: [{sends: 50, length: 10m}, {sends: 5, length: 10m, per: x}]}", "budget[1].per"},
        {"{budget: [{sends: 50, length: 10m}], accept_risks: [BUDGET]}", "accept_risks[0]"},
        {"{failure_backoff: [5s, nope]}", "failure_backoff[1]"}}) {
    const std::string report = Report(With("protocol: " + section + "\n"));
    EXPECT_TRUE(report.starts_with("broker.yaml:10: protocol." + key + ": ")) << report;
    EXPECT_EQ(std::count(report.begin(), report.end(), '\n'), 0) << report;
  }
}

TEST(ProblemsTest, AValueOfIssuingThatCannotBeReadBreaksNoRule) {
  for (const std::string key : {"refresh_ahead", "forced_refresh", "min_lifetime"}) {
    EXPECT_EQ(Report(With("issuing: {" + key + ": nope}\n")),
              "broker.yaml:10: issuing." + key +
                  ": must be a duration such as 250ms, 5s, 10m or 1h, not 'nope'");
  }
}

TEST(ProblemsTest, ABadCommandLineHidesNothingOfTheFile) {
  const CommandLine line = ParseCommandLine({"--config", "broker.yaml", "--bogus", "--listen"},
                                            {{"TOKENBROKER_NONSENSE", "1"}});
  const std::string flags =
      "TOKENBROKER_NONSENSE: names no option; options are written like TOKENBROKER_GRPC_LISTEN\n"
      "--bogus: unknown flag; see --help\n"
      "--listen: needs a value: HOST:PORT";
  EXPECT_EQ(LoadSettings(line, Files(With("log: {level: x}\n")).Reader()).status().message(),
            Report(With("log: {level: x}\n")) + "\n" + flags);
  EXPECT_EQ(LoadSettings(line, Files(kMinimal).Reader()).status().message(), flags);
  EXPECT_EQ(LoadSettings(ParseCommandLine({}, {}), Files(kMinimal).Reader()).status().message(),
            "no configuration: give --config FILE or set TOKENBROKER_CONFIG");
}

}  // namespace
}  // namespace tokenbroker
