#include "server/config/command_line.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"

namespace tokenbroker {
namespace {

using Variables = std::map<std::string, std::string>;

std::string Problem(const std::vector<std::string>& arguments, const Variables& environment = {}) {
  return absl::StrJoin(ParseCommandLine(arguments, environment).problems, "\n");
}

TEST(CommandLineTest, ReadsFlagsInBothForms) {
  const auto line = ParseCommandLine(
      {"--config", "a.yaml", "--listen=0.0.0.0:1", "--ops-listen", "b:2", "--log-level", "debug",
       "--set=store.redis.database=3", "--file-root", "/mnt", "--insecure"},
      {});
  ASSERT_TRUE(line.problems.empty());
  EXPECT_EQ(line.action, CommandLine::Action::kServe);
  EXPECT_EQ(line.config_file, "a.yaml");
  EXPECT_EQ(line.file_root, "/mnt");
  EXPECT_TRUE(line.insecure);
  ASSERT_EQ(line.overrides.size(), 4u);
  EXPECT_EQ(line.overrides[0].origin, "--listen");
  EXPECT_EQ(line.overrides[0].path, "grpc.listen");
  EXPECT_EQ(line.overrides[0].value, "0.0.0.0:1");
  EXPECT_EQ(line.overrides[1].path, "ops.listen");
  EXPECT_EQ(line.overrides[2].path, "log.level");
  EXPECT_EQ(line.overrides[3].path, "store.redis.database");
  EXPECT_EQ(line.overrides[3].value, "3");
}

TEST(CommandLineTest, FlagsComeAfterTheEnvironment) {
  const auto line = ParseCommandLine({"--config", "flag.yaml", "--listen", "flag:1"},
                                     {{"TOKENBROKER_CONFIG", "env.yaml"},
                                      {"TOKENBROKER_GRPC_LISTEN", "env:1"},
                                      {"TOKENBROKER_STORE_REDIS_POOL_SIZE", "4"},
                                      {"PATH", "/bin"}});
  ASSERT_TRUE(line.problems.empty());
  EXPECT_EQ(line.config_file, "flag.yaml");
  ASSERT_EQ(line.overrides.size(), 3u);
  EXPECT_EQ(line.overrides[0].origin, "TOKENBROKER_GRPC_LISTEN");
  EXPECT_EQ(line.overrides[1].path, "store.redis.pool_size");
  EXPECT_EQ(line.overrides[2].origin, "--listen");
}

TEST(CommandLineTest, ConfigMayComeFromTheEnvironment) {
  const auto line = ParseCommandLine({}, {{"TOKENBROKER_CONFIG", "env.yaml"}});
  ASSERT_TRUE(line.problems.empty());
  EXPECT_EQ(line.config_file, "env.yaml");
}

TEST(CommandLineTest, ReportsEverythingAtOnce) {
  EXPECT_EQ(Problem({"--verbose", "--set", "a", "--insecure=yes", "stray", "--listen"},
                    {{"TOKENBROKER_GRCP_LISTEN", "x"}}),
            "TOKENBROKER_GRCP_LISTEN: names no option; options are written like "
            "TOKENBROKER_GRPC_LISTEN\n"
            "--verbose: unknown flag; see --help\n"
            "--set: needs a value: KEY.PATH=VALUE\n"
            "--insecure: takes no value\n"
            "there is an argument that is no flag; see --help\n"
            "--listen: needs a value: HOST:PORT\n"
            "no configuration: give --config FILE or set TOKENBROKER_CONFIG");
}

TEST(CommandLineTest, HelpIsForThoseWhoseArgumentsAreWrong) {
  EXPECT_EQ(Problem({"--bogus", "--help"}), "");
}

TEST(CommandLineTest, AFlagIsNotTheValueOfAnother) {
  EXPECT_EQ(Problem({"--config", "--insecure"}),
            "--config: needs a value: FILE\n"
            "no configuration: give --config FILE or set TOKENBROKER_CONFIG");
}

TEST(CommandLineTest, DoesNotRepeatStrayArguments) {
  EXPECT_EQ(Problem({"--config", "a", "pasted-secret"}).find("pasted-secret"), std::string::npos);
}

TEST(CommandLineTest, KnowsItsActions) {
  using Action = CommandLine::Action;
  EXPECT_EQ(ParseCommandLine({"--help"}, {}).action, Action::kPrintHelp);
  EXPECT_EQ(ParseCommandLine({"--bogus", "--help"}, {}).action, Action::kPrintHelp);
  EXPECT_EQ(ParseCommandLine({"--version"}, {}).action, Action::kPrintVersion);
  EXPECT_EQ(ParseCommandLine({"--config=a", "--validate-config"}, {}).action,
            Action::kValidateConfig);
  EXPECT_EQ(ParseCommandLine({"--config=a", "--print-config"}, {}).action, Action::kPrintConfig);
  EXPECT_EQ(Problem({"--config=a", "--print-config", "--validate-config"}),
            "--validate-config and --print-config exclude each other");
}

TEST(CommandLineTest, IgnoresWhatKubernetesMakesForServices) {
  const auto line =
      ParseCommandLine({"--config=a"}, {{"TOKENBROKER_SERVICE_HOST", "10.0.0.1"},
                                        {"TOKENBROKER_SERVICE_PORT", "8443"},
                                        {"TOKENBROKER_SERVICE_PORT_GRPC", "8443"},
                                        {"TOKENBROKER_PORT", "tcp://10.0.0.1:8443"},
                                        {"TOKENBROKER_PORT_8443_TCP", "tcp://10.0.0.1:8443"},
                                        {"TOKENBROKER_PORT_8443_TCP_ADDR", "10.0.0.1"},
                                        {"TOKENBROKER_HEADLESS_SERVICE_HOST", "10.0.0.1"}});
  EXPECT_TRUE(line.problems.empty());
}

TEST(CommandLineTest, HelpNamesEveryFlag) {
  const std::string help = HelpText();
  for (const char* flag :
       {"--config FILE", "--listen", "--ops-listen", "--log-level", "--set", "--file-root",
        "--insecure", "--validate-config", "--print-config", "--version", "--help"}) {
    EXPECT_NE(help.find(flag), std::string::npos) << flag;
  }
}

}  // namespace
}  // namespace tokenbroker
