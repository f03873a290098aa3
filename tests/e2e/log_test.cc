#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "tests/e2e/world.h"
#include "tests/zoho_simulator/certificate.h"

// Whatever happens, standard error is JSON, line by line, and every call has one of them.
namespace tokenbroker::e2e {
namespace {

using nlohmann::json;

// All lines, or a failed test for each that is not what a log line is.
std::vector<json> Lines(const std::string& err) {
  std::vector<json> lines;
  for (const absl::string_view line : absl::StrSplit(err, '\n', absl::SkipEmpty())) {
    json parsed = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (parsed.is_object() && parsed.contains("time") && parsed.contains("level") &&
        parsed.contains("event")) {
      lines.push_back(std::move(parsed));
    } else {
      ADD_FAILURE() << "no line of the log: " << line;
    }
  }
  return lines;
}

std::vector<json> Calls(const std::string& err) {
  std::vector<json> calls;
  for (json& line : Lines(err)) {
    if (line["event"] == "call") calls.push_back(std::move(line));
  }
  return calls;
}

TEST(Log, EveryCallIsOneLine) {
  World world;
  Broker& broker = world.StartBroker();
  world.RegisterImported(broker, "acme", "us");
  ASSERT_TRUE(broker.GetAccessToken("acme").status.ok());
  ASSERT_TRUE(broker.GetAccessToken("acme").status.ok());
  ASSERT_FALSE(broker.GetAccessToken("nobody").status.ok());
  ASSERT_EQ(broker.Stop(), 0);
  std::multiset<std::string> told;
  for (const json& call : Calls(broker.process().err())) {
    told.insert(absl::StrCat(call["rpc"].get<std::string>(), " ", call["org_id"].get<std::string>(),
                             " ", call["code"].get<std::string>(), " ",
                             call["source"].get<std::string>()));
    EXPECT_EQ(call["oauth_client"], World::kWebClient) << call.dump();
    EXPECT_GT(call["latency_ms"], 0) << call.dump();
  }
  EXPECT_EQ(told, (std::multiset<std::string>{
                      "RegisterGrant acme OK ", "GetAccessToken acme OK store",
                      "GetAccessToken acme OK cache", "GetAccessToken nobody NOT_FOUND "}));
}

// The operator reads there what to do, in the words of Zoho's guide.
TEST(Log, SaysHowToMendWhatZohoRefuses) {
  World::Options options;
  options.wrong_secrets = {{"eu", "not-the-secret-of-eu"}};
  World world(options);
  Broker& broker = world.StartBroker();
  const auto seeded = world.zoho().SeedGrants("eu", World::kWebClientId, 1);
  ASSERT_TRUE(seeded.ok());
  EXPECT_FALSE(
      broker.RegisterGrant(world.ImportRegistration("acme", "eu", (*seeded)[0].refresh_token))
          .status.ok());
  ASSERT_EQ(broker.Stop(), 0);
  int refused = 0;
  for (const json& line : Lines(broker.process().err())) {
    if (line["event"] != "refresh") continue;
    ++refused;
    EXPECT_EQ(line["level"], "warning");
    EXPECT_EQ(line["error"], "invalid_client_secret");
    EXPECT_TRUE(absl::StrContains(line["advice"].get<std::string>(), "the wrong DC's secret"))
        << line.dump();
  }
  EXPECT_EQ(refused, 1);
}

TEST(Log, HoldsWhatTheLibrariesSay) {
  World world;
  const zoho_simulator::Certificate certificate = *zoho_simulator::MakeCertificate();
  std::ofstream(world.directory() + "/tls.crt") << certificate.certificate_pem;
  std::ofstream(world.directory() + "/tls.key") << certificate.private_key_pem;
  Broker& broker = world.StartBrokerWith(absl::StrReplaceAll(
      world.config(),
      {{"grpc:\n", absl::StrCat("grpc:\n  tls: {cert_file: ", world.directory(),
                                "/tls.crt, key_file: ", world.directory(), "/tls.key}\n")}}));
  // Plain text to a TLS port: gRPC complains of the handshake.
  EXPECT_FALSE(broker.GetAccessToken("acme").status.ok());
  EXPECT_TRUE(broker.process().WaitForErrorLine(
      [](const std::string& line) { return absl::StrContains(line, "andshake"); },
      absl::Seconds(10)));
  EXPECT_EQ(broker.Stop(), 0);
  bool heard = false;
  for (const json& line : Lines(broker.process().err())) {
    heard = heard || (line["event"] == "library" && line["library"] == "grpc");
  }
  EXPECT_TRUE(heard);
}

}  // namespace
}  // namespace tokenbroker::e2e
