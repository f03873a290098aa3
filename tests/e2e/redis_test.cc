// The real broker on Redis as it is run: by TLS with a client certificate, as the handbook's ACL
// user, with a password that is rotated; and a Redis that would lose grants, which it refuses.
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "tests/e2e/world.h"
#include "tests/testing/certificate_authority.h"
#include "tests/testing/redis_cluster.h"
#include "tests/testing/sentinel_set.h"

namespace tokenbroker::e2e {
namespace {

using testing::ChildProcess;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.is_open()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// "token-broker on >PASSWORD …", as the handbook has it; `marker` tells Redis' from the Sentinels'.
std::string DocumentedUser(const std::string& password, const std::string& marker = "~tb:*") {
  const std::string text = ReadFile(std::string(TB_SOURCE_DIR) + "/docs/operations.md");
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(text, '\n'))) {
    if (absl::StartsWith(line, "user token-broker on ") && absl::StrContains(line, marker)) {
      return absl::StrReplaceAll(line.substr(5), {{">PASSWORD", ">" + password}});
    }
  }
  ADD_FAILURE() << "the handbook has no user";
  return "";
}

class Folder {
 public:
  Folder() {
    path_ = (std::filesystem::temp_directory_path() / "tb-redis-e2e-XXXXXX").string();
    EXPECT_NE(mkdtemp(path_.data()), nullptr);
  }
  ~Folder() { std::filesystem::remove_all(path_); }

  // Readers see the old content or the new one.
  std::string Write(const std::string& name, const std::string& content) {
    const std::string path = path_ + "/" + name;
    std::ofstream(path + ".new") << content;
    std::filesystem::rename(path + ".new", path);
    return path;
  }

 private:
  std::string path_;
};

TEST(Redis, ServesByTlsAsTheDocumentedUserAndSurvivesARotation) {
  Folder folder;
  const auto ca = CertificateAuthority::Create();
  ASSERT_TRUE(ca.ok()) << ca.status();
  const auto server = (*ca)->Issue("DNS:redis.test");
  const auto client = (*ca)->Issue("DNS:token-broker.test");
  ASSERT_TRUE(server.ok() && client.ok());
  World::Options options;
  options.redis = true;
  options.redis_server.tls = RedisServer::Tls{*server, (*ca)->certificate_pem(), true};
  options.redis_server.users = {"default off", DocumentedUser("canary-redis-1")};
  options.redis_config = absl::StrCat(
      "    username: token-broker\n    password_file: ",
      folder.Write("password", "canary-redis-1\n"),
      "\n    tls:\n      ca_file: ", folder.Write("ca.crt", (*ca)->certificate_pem()),
      "\n      certificate_file: ", folder.Write("client.crt", client->certificate_pem),
      "\n      key_file: ", folder.Write("client.key", client->private_key_pem),
      "\n      server_name: redis.test\n");
  World world(options);
  Broker& broker = world.StartBroker();
  world.RegisterImported(broker, "acme", "us");
  ASSERT_TRUE(broker.GetAccessToken("acme").status.ok());

  RedisServer& redis = world.redis();
  ASSERT_TRUE(redis.Command({"ACL", "SETUSER", "token-broker", ">canary-redis-2"}).ok());
  folder.Write("password", "canary-redis-2\n");
  ASSERT_TRUE(redis.Command({"ACL", "SETUSER", "token-broker", "<canary-redis-1"}).ok());
  ASSERT_TRUE(redis.Command({"CLIENT", "KILL", "USER", "token-broker"}).ok());
  // A registration needs the store; a token might come from the cache.
  world.RegisterImported(broker, "other", "us");
  EXPECT_TRUE(broker.GetAccessToken("other").status.ok());
  EXPECT_EQ(broker.Stop(), 0);
  EXPECT_FALSE(absl::StrContains(broker.process().err(), "canary-redis"));
}

// The world's configuration with `place` where its own Redis is.
std::string Elsewhere(World& world, const std::string& place) {
  const std::string address = absl::StrCat("    address: 127.0.0.1:", world.redis().port(), "\n");
  EXPECT_TRUE(absl::StrContains(world.config(), address));
  return absl::StrReplaceAll(world.config(), {{address, place}});
}

TEST(Redis, IsFoundThroughSentinelsByTls) {
  Folder folder;
  const auto ca = CertificateAuthority::Create();
  ASSERT_TRUE(ca.ok()) << ca.status();
  const auto certificate = (*ca)->Issue("IP:127.0.0.1");
  ASSERT_TRUE(certificate.ok());
  SentinelSet::Options redis;
  redis.replicas = 1;
  redis.server.tls = RedisServer::Tls{*certificate, (*ca)->certificate_pem()};
  redis.server.config = {"appendonly yes"};
  redis.server.users = {DocumentedUser("canary-redis")};
  redis.sentinel_users = {DocumentedUser("canary-sentinel", "+sentinel|")};
  const auto set = SentinelSet::Start(redis);
  ASSERT_TRUE(set.ok()) << set.status();

  World::Options options;
  options.redis = true;
  options.redis_config = absl::StrCat(
      "    username: token-broker\n    password_file: ", folder.Write("password", "canary-redis"),
      "\n    replica_acks: 1\n    tls: {ca_file: ",
      folder.Write("ca.crt", (*ca)->certificate_pem()), "}\n");
  World world(options);
  std::string place =
      absl::StrCat("    sentinel:\n      primary_name: ", SentinelSet::kPrimaryName,
                   "\n      username: token-broker\n      password_file: ",
                   folder.Write("sentinel-password", "canary-sentinel"), "\n      addresses:\n");
  for (const uint16_t port : (*set)->sentinel_ports()) {
    absl::StrAppend(&place, "        - 127.0.0.1:", port, "\n");
  }
  Broker& broker = world.StartBrokerWith(Elsewhere(world, place));
  world.RegisterImported(broker, "acme", "us");
  EXPECT_TRUE(broker.GetAccessToken("acme").status.ok());
  EXPECT_EQ(broker.Stop(), 0);
}

TEST(Redis, MayBeAClusterByTls) {
  Folder folder;
  const auto ca = CertificateAuthority::Create();
  ASSERT_TRUE(ca.ok()) << ca.status();
  const auto certificate = (*ca)->Issue("DNS:redis.test");
  ASSERT_TRUE(certificate.ok());
  RedisCluster::Options redis;
  redis.replicas = 0;
  redis.server.tls = RedisServer::Tls{*certificate, (*ca)->certificate_pem()};
  redis.server.users = {DocumentedUser("canary-redis") +
                        " +cluster|info +cluster|slots +asking +dbsize"};
  const auto cluster = RedisCluster::Start(redis);
  ASSERT_TRUE(cluster.ok()) << cluster.status();

  World::Options options;
  options.redis = true;
  options.redis_config = absl::StrCat(
      "    username: token-broker\n    password_file: ", folder.Write("password", "canary-redis"),
      "\n    tls: {ca_file: ", folder.Write("ca.crt", (*ca)->certificate_pem()),
      ", server_name: redis.test}\n");
  World world(options);
  const std::string place = absl::StrCat(
      "    cluster:\n      addresses: [\"127.0.0.1:", (*cluster)->node(1).port(), "\"]\n");
  const std::string config = Elsewhere(world, place);
  // Every primary is looked at.
  const ChildProcess::Result refused = world.RunBroker(config);
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_TRUE(absl::StrContains(refused.err, "accept_risks: [NO_PERSISTENCE]")) << refused.err;
  for (int i = 0; i < (*cluster)->nodes(); ++i) {
    ASSERT_TRUE((*cluster)->node(i).Command({"CONFIG", "SET", "appendonly", "yes"}).ok());
  }
  Broker& broker = world.StartBrokerWith(config);
  for (const char* org : {"a", "b", "c", "d", "e", "f"}) {
    world.RegisterImported(broker, org, "us");
    EXPECT_TRUE(broker.GetAccessToken(org).status.ok());
  }
  EXPECT_EQ(broker.Stop(), 0);
}

TEST(Redis, ADeadNodeOfAClusterTakesOnlyItsOwnGrants) {
  RedisCluster::Options redis;
  redis.replicas = 0;
  redis.server.config = {"appendonly yes", "cluster-require-full-coverage no"};
  const auto cluster = RedisCluster::Start(redis);
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  World::Options options;
  options.redis = true;
  World world(options);
  Broker& broker = world.StartBrokerWith(
      Elsewhere(world, absl::StrCat("    cluster:\n      addresses: [\"127.0.0.1:",
                                    (*cluster)->node(1).port(), "\"]\n")));
  RedisServer& dying = (*cluster)->node(0);
  std::vector<std::string> dead;
  std::vector<std::string> well;
  for (int i = 0; dead.size() < 3 || well.size() < 3; ++i) {
    const std::string org = absl::StrCat("org-", i);
    world.RegisterImported(broker, org, "us");
    const auto slot = (*cluster)->SlotOf(absl::StrCat("tb:{", org, ":PRODUCTION:web}"));
    ASSERT_TRUE(slot.ok()) << slot.status();
    ((*cluster)->PrimaryOf(*slot) == &dying ? dead : well).push_back(org);
  }

  dying.Kill();
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(Explain(broker.GetAccessToken(dead[i]).status).reason, "STORE_UNAVAILABLE");
    const Broker::Token token = broker.GetAccessToken(well[i]);
    EXPECT_TRUE(token.status.ok()) << token.status.error_message();
  }
  EXPECT_EQ(broker.Stop(), 0);
}

struct Risk {
  std::string name;
  std::vector<std::string> config;  // of the server
  std::string broker_config;
  std::string advice;
};

// Everything that is safe but what `risk` breaks.
World::Options RiskyWorld(const Risk& risk) {
  World::Options options;
  options.redis = true;
  if (risk.name == "NO_PERSISTENCE") options.redis_server.config.clear();
  for (const std::string& line : risk.config) options.redis_server.config.push_back(line);
  options.redis_config = risk.broker_config;
  return options;
}

class RedisRisks : public ::testing::TestWithParam<Risk> {};

TEST_P(RedisRisks, AreRefusedAtTheStartUnlessAcceptedByName) {
  const Risk& risk = GetParam();
  World world(RiskyWorld(risk));
  const ChildProcess::Result refused = world.RunBroker(world.config());
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_TRUE(absl::StrContains(refused.err, "cannot_start")) << refused.err;
  EXPECT_TRUE(absl::StrContains(refused.err, risk.advice)) << refused.err;
  EXPECT_TRUE(
      absl::StrContains(refused.err, absl::StrCat("store.redis.accept_risks: [", risk.name, "]")))
      << refused.err;
  EXPECT_EQ(refused.out, "") << "it opened ports";

  Broker& broker =
      world.StartBroker({absl::StrCat("--set=store.redis.accept_risks=[", risk.name, "]")});
  EXPECT_EQ(broker.Stop(), 0);
}

INSTANTIATE_TEST_SUITE_P(
    All, RedisRisks,
    ::testing::Values(
        Risk{"EVICTION", {"maxmemory-policy allkeys-lru"}, "", "Set maxmemory-policy noeviction"},
        Risk{"NO_PERSISTENCE", {}, "", "Set appendonly yes"},
        Risk{"TOO_FEW_REPLICAS", {}, "    replica_acks: 1\n", "Add replicas"}),
    [](const ::testing::TestParamInfo<Risk>& info) { return info.param.name; });

TEST(Redis, AllRisksAreToldAtOnce) {
  World::Options options;
  options.redis = true;
  options.redis_server.config = {"maxmemory-policy volatile-lru"};
  options.redis_config = "    replica_acks: 1\n";
  World world(options);
  const ChildProcess::Result refused = world.RunBroker(world.config());
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_TRUE(absl::StrContains(refused.err, "[EVICTION, NO_PERSISTENCE, TOO_FEW_REPLICAS]"))
      << refused.err;
}

// The broker starts before Redis does, is not ready, and judges it when it comes.
TEST(Redis, IsJudgedWhenItIsFirstSeen) {
  World world(RiskyWorld({"NO_PERSISTENCE", {}, "", ""}));
  world.redis().Stop();
  Broker& broker = world.StartBroker();
  EXPECT_EQ(HttpGet("http://" + broker.ops_address() + "/readyz").status, 503);
  EXPECT_EQ(HttpGet("http://" + broker.ops_address() + "/livez").status, 200);
  ASSERT_TRUE(world.redis().Restart().ok());
  EXPECT_EQ(broker.process().Wait(absl::Seconds(30)), 1);
  EXPECT_TRUE(absl::StrContains(broker.process().err(), "NO_PERSISTENCE"));
}

// After it was found safe, it is an alarm.
TEST(Redis, ThatBecomesUnsafeIsAnAlarmAndNoEnd) {
  World::Options options;
  options.redis = true;
  World world(options);
  Broker& broker = world.StartBroker();
  world.RegisterImported(broker, "acme", "us");
  ASSERT_TRUE(world.redis().Command({"CONFIG", "SET", "maxmemory-policy", "allkeys-lru"}).ok());
  ASSERT_TRUE(broker.process().WaitForErrorLine(
      [](const std::string& line) {
        return absl::StrContains(line, "store_durability") && absl::StrContains(line, "noeviction");
      },
      absl::Seconds(30)));
  const std::string metrics = HttpGet("http://" + broker.ops_address() + "/metrics").body;
  EXPECT_TRUE(absl::StrContains(metrics, "tokenbroker_store_risks{risk=\"EVICTION\"} 1"))
      << metrics;
  EXPECT_TRUE(absl::StrContains(metrics, "tokenbroker_store_risks{risk=\"NO_PERSISTENCE\"} 0"));
  EXPECT_TRUE(broker.GetAccessToken("acme").status.ok());
  EXPECT_EQ(broker.Stop(), 0);
}

// Operators see that the primary has changed, and for how long no refresh begins.
TEST(Redis, RestartIsSeenInTheMetrics) {
  World::Options options;
  options.redis = true;
  World world(options);
  Broker& broker = world.StartBroker();
  world.RegisterImported(broker, "acme", "us");
  const auto metric = [&](const std::string& name) {
    const std::string text = "\n" + HttpGet("http://" + broker.ops_address() + "/metrics").body;
    const size_t at = text.find("\n" + name + " ");
    return at == std::string::npos ? -1 : std::stod(text.substr(at + name.size() + 2));
  };
  // The store was new when it was first met.
  EXPECT_EQ(metric("tokenbroker_store_quarantine_seconds"), 0);
  EXPECT_EQ(metric("tokenbroker_records_unreadable"), 0);
  EXPECT_EQ(metric("tokenbroker_store_redirections_total{kind=\"moved\"}"), 0);
  const double changes = metric("tokenbroker_store_primary_changes_total");
  EXPECT_GE(changes, 0);
  world.redis().Stop();
  ASSERT_TRUE(world.redis().Restart().ok());
  EXPECT_TRUE(
      WaitUntil([&] { return metric("tokenbroker_store_primary_changes_total") > changes; }));
  const double quarantine = metric("tokenbroker_store_quarantine_seconds");
  EXPECT_GT(quarantine, 0);
  EXPECT_LE(quarantine, 20);
  EXPECT_EQ(broker.Stop(), 0);
}

}  // namespace
}  // namespace tokenbroker::e2e
