#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/e2e/world.h"

// Starting, refusing to start, and stopping.
namespace tokenbroker::e2e {
namespace {

using testing::ChildProcess;
using zoho_simulator::FaultKind;
using zoho_simulator::FaultRule;

ChildProcess::Result RunBroker(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), TB_BROKER_BINARY);
  return ChildProcess::Run({.argv = std::move(arguments)});
}

TEST(Lifecycle, SigtermFinishesARefreshThatWasSent) {
  World::Options options;
  options.behaviour.access_token_life = absl::Seconds(1);
  World world(options);
  Broker& broker = world.StartBroker();
  const zoho_simulator::SeededGrant grant = world.RegisterImported(broker, "acme", "us");
  ASSERT_TRUE(world.zoho().accounts().SetBehaviour("", {}).ok());
  world.log().Clear();
  FaultRule hang;
  hang.path = "/oauth/v2/token";
  hang.fault.kind = FaultKind::kHang;
  world.zoho().AddFault(hang);

  Broker::Token answer;
  std::thread caller([&] { answer = broker.GetAccessToken("acme"); });
  zoho_simulator::RequestFilter arrived;
  arrived.path = "/oauth/v2/token";
  ASSERT_TRUE(world.log().WaitForCount(arrived, 1, absl::Seconds(20)));

  broker.process().Signal(SIGTERM);
  ASSERT_TRUE(broker.process().WaitForErrorLine(
      [](const std::string& line) { return absl::StrContains(line, "drain"); }, absl::Seconds(20)));
  world.zoho().ClearFaults();
  caller.join();
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(broker.process().Wait(absl::Seconds(30)), 0) << broker.process().err();

  // Its result was stored: the next process needs no refresh.
  Broker& next = world.StartBroker();
  const Broker::Token stored = next.GetAccessToken("acme");
  ASSERT_TRUE(stored.status.ok()) << stored.status.error_message();
  EXPECT_EQ(stored.token.source(), v1::TOKEN_SOURCE_STORE);
  EXPECT_EQ(stored.token.access_token(), answer.token.access_token());
  EXPECT_EQ(world.Refreshes(), 1);
}

TEST(Lifecycle, SigtermTellsWhoeverWaitsTooLong) {
  World::Options options;
  options.behaviour_of["us"].access_token_life = absl::Seconds(100);
  options.behaviour_of["eu"].access_token_life = absl::Seconds(1);
  World world(options);
  Broker& broker = world.StartBroker({"--set", "grpc.drain_timeout=6s"});
  world.RegisterImported(broker, "living", "us");
  world.RegisterImported(broker, "bare", "eu");
  const auto seeded = world.zoho().SeedGrants("cn", World::kWebClientId, 1);
  ASSERT_TRUE(seeded.ok()) << seeded.status();
  const std::string imported = seeded->front().refresh_token;
  for (const char* dc : {"us", "eu"}) {
    ASSERT_TRUE(world.zoho().accounts().SetBehaviour(dc, {}).ok());
  }
  world.log().Clear();
  FaultRule hang;
  hang.path = "/oauth/v2/token";
  hang.times = 3;
  hang.fault.kind = FaultKind::kHang;
  world.zoho().AddFault(hang);

  Broker::Token living;
  Broker::Token bare;
  Broker::Registered registered;
  std::thread first([&] { living = broker.GetAccessToken("living"); });
  std::thread second([&] { bare = broker.GetAccessToken("bare"); });
  std::thread third(
      [&] { registered = broker.RegisterGrant(world.ImportRegistration("new", "cn", imported)); });
  zoho_simulator::RequestFilter arrived;
  arrived.path = "/oauth/v2/token";
  EXPECT_TRUE(world.log().WaitForCount(arrived, 3, absl::Seconds(20)));
  broker.process().Signal(SIGTERM);
  for (std::thread* caller : {&first, &second, &third}) caller->join();

  EXPECT_TRUE(living.status.ok()) << living.status.error_message();
  EXPECT_EQ(living.token.source(), v1::TOKEN_SOURCE_STALE);
  for (const grpc::Status& status : {bare.status, registered.status}) {
    const CallError error = Explain(status);
    EXPECT_EQ(error.code, grpc::StatusCode::UNAVAILABLE) << error.message;
    EXPECT_EQ(error.reason, "SHUTTING_DOWN") << error.message;
    EXPECT_GT(error.retry_delay_seconds, 0);
  }

  // What was sent goes on, and is stored.
  EXPECT_EQ(world.zoho().ReleaseHung(), 3);
  EXPECT_EQ(broker.process().Wait(absl::Seconds(30)), 0) << broker.process().err();
  Broker& next = world.StartBroker();
  for (const auto& [org, version] :
       std::map<std::string, int64_t>{{"living", 2}, {"bare", 2}, {"new", 1}}) {
    const Broker::Token stored = next.GetAccessToken(org);
    EXPECT_TRUE(stored.status.ok()) << org << ": " << stored.status.error_message();
    EXPECT_EQ(stored.token.source(), v1::TOKEN_SOURCE_STORE) << org;
    EXPECT_EQ(stored.token.version(), version) << org;
  }
  EXPECT_EQ(world.Refreshes(), 3);
}

TEST(Lifecycle, SigtermSendsNothingThatMightOutlastIt) {
  World::Options options;
  options.behaviour.access_token_life = absl::Seconds(1);
  World world(options);
  Broker& broker =
      world.StartBroker({"--set", "grpc.drain_timeout=10s", "--set", "issuing.lane_threads=1"});
  world.RegisterImported(broker, "acme", "us");
  world.RegisterImported(broker, "bolt", "us");
  ASSERT_TRUE(world.zoho().accounts().SetBehaviour("", {}).ok());
  world.log().Clear();
  FaultRule hang;
  hang.path = "/oauth/v2/token";
  hang.times = 1;
  hang.fault.kind = FaultKind::kHang;
  world.zoho().AddFault(hang);

  Broker::Token sent;
  std::thread first([&] { sent = broker.GetAccessToken("acme"); });
  EXPECT_TRUE(WaitUntil([&] { return world.zoho().hung() == 1; }));
  Broker::Token waiting;
  std::thread second([&] { waiting = broker.GetAccessToken("bolt"); });
  EXPECT_TRUE(WaitUntil([&] {
    return absl::StrContains(HttpGet("http://" + broker.ops_address() + "/metrics").body,
                             "tokenbroker_lane_queue_length{lane=\"dc:us\"} 1");
  }));
  broker.process().Signal(SIGTERM);
  EXPECT_TRUE(broker.process().WaitForErrorLine(
      [](const std::string& line) { return absl::StrContains(line, "\"draining\""); },
      absl::Seconds(20)));
  EXPECT_EQ(world.zoho().ReleaseHung(), 1);
  first.join();
  second.join();
  EXPECT_EQ(sent.token.source(), v1::TOKEN_SOURCE_REFRESHED) << sent.status.error_message();
  EXPECT_EQ(Explain(waiting.status).reason, "SHUTTING_DOWN") << waiting.status.error_message();
  EXPECT_EQ(broker.process().Wait(absl::Seconds(30)), 0) << broker.process().err();
  EXPECT_EQ(world.Refreshes(), 1);
}

TEST(Lifecycle, RestartKeepsGrantsAndTokens) {
  for (const bool redis : {false, true}) {
    World::Options options;
    options.redis = redis;
    World world(options);
    Broker& first = world.StartBroker();
    world.RegisterImported(first, "acme", "us");
    const Broker::Token before = first.GetAccessToken("acme");
    ASSERT_TRUE(before.status.ok());
    first.process().Signal(SIGKILL);
    ASSERT_TRUE(first.process().Wait(absl::Seconds(30)).has_value());
    Broker& second = world.StartBroker();
    const Broker::Token after = second.GetAccessToken("acme");
    ASSERT_TRUE(after.status.ok()) << after.status.error_message();
    EXPECT_EQ(after.token.access_token(), before.token.access_token());
    EXPECT_EQ(after.token.source(), v1::TOKEN_SOURCE_STORE);
    EXPECT_EQ(world.Refreshes(), 1);
  }
}

TEST(Lifecycle, OneBrokerPerDatabaseFileUntilItIsKilled) {
  World world;
  Broker& first = world.StartBroker();
  world.RegisterImported(first, "acme", "us");
  const ChildProcess::Result second = world.RunBroker(world.config());
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_TRUE(absl::StrContains(second.err, "cannot_start")) << second.err;
  EXPECT_TRUE(absl::StrContains(second.err, "store.sqlite.path")) << second.err;
  EXPECT_TRUE(absl::StrContains(second.err, world.directory() + "/grants.db")) << second.err;
  EXPECT_TRUE(first.GetAccessToken("acme").status.ok());
  // The lock goes with the process, however that ends.
  first.process().Signal(SIGKILL);
  ASSERT_TRUE(first.process().Wait(absl::Seconds(30)).has_value());
  EXPECT_TRUE(world.StartBroker().GetAccessToken("acme").status.ok());
}

TEST(Lifecycle, BadConfigurationNamesEverythingAndOpensNoPort) {
  World world;
  const std::string path = world.directory() + "/bad.yaml";
  std::ofstream(path) << absl::StrReplaceAll(
      world.config(), {{"client_name: Web", "client_name: 'Web!'"},
                       {"type: SERVER_BASED", "type: SERVER_BASED\n    colour: red"},
                       {"/sealing.key", "/no-such.key"}});
  const ChildProcess::Result result = RunBroker({"--config", path});
  EXPECT_NE(result.exit_code, 0);
  EXPECT_EQ(result.out, "");
  for (const char* part : {"colour", "client_name", "key_file", "bad.yaml"}) {
    EXPECT_TRUE(absl::StrContains(result.err, part)) << part << " in " << result.err;
  }
  EXPECT_EQ(RunBroker({"--config", path, "--validate-config"}).exit_code, result.exit_code);
}

TEST(Lifecycle, ValidatesPrintsAndExplains) {
  World world;
  std::ofstream(world.config_path()) << world.config();
  const ChildProcess::Result valid =
      RunBroker({"--config", world.config_path(), "--validate-config"});
  EXPECT_EQ(valid.exit_code, 0) << valid.err;
  const ChildProcess::Result printed =
      RunBroker({"--config", world.config_path(), "--print-config"});
  EXPECT_EQ(printed.exit_code, 0) << printed.err;
  EXPECT_TRUE(absl::StrContains(printed.out, World::kWebClientId));
  for (const std::string& secret : world.secrets()) {
    EXPECT_FALSE(absl::StrContains(printed.out, secret));
  }
  EXPECT_TRUE(absl::StrContains(RunBroker({"--version"}).out, "token-broker"));
  EXPECT_TRUE(absl::StrContains(RunBroker({"--help"}).out, "--validate-config"));
  EXPECT_NE(RunBroker({"--no-such-flag"}).exit_code, 0);
}

TEST(Lifecycle, PlaintextBeyondLoopbackNeedsToBeAskedFor) {
  World world;
  const std::string path = world.directory() + "/open.yaml";
  std::ofstream(path) << absl::StrReplaceAll(
      world.config(), {{"grpc:\n  listen: 127.0.0.1:0", "grpc:\n  listen: 0.0.0.0:0"}});
  const ChildProcess::Result refused = RunBroker({"--config", path, "--validate-config"});
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_TRUE(absl::StrContains(refused.err, "--insecure")) << refused.err;
  EXPECT_EQ(RunBroker({"--config", path, "--validate-config", "--insecure"}).exit_code, 0);
}

TEST(Lifecycle, ListenerKeepsToItsConfiguration) {
  World world;
  Broker& broker = world.StartBrokerWith(absl::StrReplaceAll(
      world.config(), {{"grpc:\n",
                        "grpc:\n  max_connection_age: 1s\n  max_connection_age_grace: 1s\n"
                        "  max_request_bytes: 2048\n"}}));
  // Whoever stays for ever is sent to look for new pods.
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  const auto health = grpc::health::v1::Health::NewStub(broker.NewChannel());
  const auto watch = health->Watch(&context, grpc::health::v1::HealthCheckRequest());
  grpc::health::v1::HealthCheckResponse state;
  while (watch->Read(&state)) {
  }
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);

  const Broker::Token large = broker.GetAccessToken("acme", [](v1::GetAccessTokenRequest& request) {
    request.add_scopes(std::string(3000, 's'));
  });
  EXPECT_EQ(large.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST(Lifecycle, OpsEndpointsTellTheState) {
  World world;
  Broker& broker = world.StartBroker();
  world.RegisterImported(broker, "acme", "us");
  ASSERT_TRUE(broker.GetAccessToken("acme").status.ok());
  const std::string ops = "http://" + broker.ops_address();
  EXPECT_EQ(HttpGet(ops + "/livez").status, 200);
  EXPECT_EQ(HttpGet(ops + "/readyz").status, 200);
  const HttpReply metrics = HttpGet(ops + "/metrics");
  EXPECT_EQ(metrics.status, 200);
  EXPECT_TRUE(absl::StrContains(metrics.body, "tokenbroker_calls_total")) << metrics.body;
  EXPECT_TRUE(absl::StrContains(metrics.body, "tokenbroker_refreshes_total")) << metrics.body;
}

}  // namespace
}  // namespace tokenbroker::e2e
