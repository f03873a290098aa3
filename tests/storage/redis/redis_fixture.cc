#include "tests/storage/redis/redis_fixture.h"

#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tokenbroker {

uint16_t SharedRedisPort() {
  static const std::unique_ptr<RedisServer> server = [] {
    if (std::getenv("TB_REDIS_PORT") != nullptr) return std::unique_ptr<RedisServer>();
    absl::StatusOr<std::unique_ptr<RedisServer>> started = RedisServer::Start({});
    EXPECT_TRUE(started.ok()) << started.status();
    return started.ok() ? *std::move(started) : nullptr;
  }();
  if (server != nullptr) return server->port();
  int port = 0;
  const char* given = std::getenv("TB_REDIS_PORT");
  EXPECT_TRUE(given != nullptr && absl::SimpleAtoi(given, &port)) << "no redis-server";
  return static_cast<uint16_t>(port);
}

std::string UniquePrefix() {
  static int count = 0;
  return absl::StrCat("t", getpid(), "-", ++count, ":");
}

RedisTokenStoreOptions TestOptions(uint16_t port) {
  RedisTokenStoreOptions options;
  options.port = port;
  options.key_prefix = UniquePrefix();
  options.command_timeout = absl::Seconds(10);
  options.connect_timeout = absl::Seconds(10);
  if (const char* guard = std::getenv("TB_REDIS_REMOVE_GUARD")) {
    options.test_scripts = [guard = std::string(guard)] {
      redis::ScriptSet scripts = redis::ScriptSet::Embedded();
      EXPECT_TRUE(scripts.RemoveGuard(guard)) << "no guard " << guard;
      return scripts;
    };
  }
  return options;
}

RedisTokenStoreOptions RedisFixture::Options(const ProtocolLimits& limits) const {
  RedisTokenStoreOptions options = TestOptions(SharedRedisPort());
  options.key_prefix = prefix_;
  options.limits = limits;
  options.test_clock_offset = ClockOffset();
  return options;
}

std::function<absl::Duration()> RedisFixture::ClockOffset() const {
  return [offset = offset_ms_] { return absl::Milliseconds(offset->load()); };
}

absl::StatusOr<std::unique_ptr<TokenStore>> RedisFixture::Open(const ProtocolLimits& limits) {
  return RedisTokenStore::Create(Options(limits));
}

namespace {

// Commands; $ is the record's key.
using Commands = std::vector<std::vector<std::string>>;
const std::vector<Commands>& Damages() {
  static const auto* const damages = new std::vector<Commands>{
      {{"HSET", "$", "ty", "9"}},
      {{"HSET", "$", "g", "12x"}},
      {{"HDEL", "$", "g"}},
      {{"HSET", "$", "g", "99999999999999999999999"}},
      {{"HSET", "$", "ep", "-", "st", "x"}},
      {{"HSET", "$", "sc", "9:short"}},
      {{"HSET", "$", "cr", "yesterday"}},
      {{"HSET", "$", "js", "a,b", "nb", "1e5"}},
      {{"HSET", "$", "tu", "soon"}},
      {{"HSET", "$", "tu", "99999999999999999999999"}},
      {{"DEL", "$"}, {"SET", "$", "something"}},
      {{"DEL", "$"}, {"RPUSH", "$", "something"}},
  };
  return *damages;
}

}  // namespace

int RedisFixture::damages() const { return static_cast<int>(Damages().size()); }

void RedisFixture::Damage(const GrantKey& key, int way) {
  // The suite damages no grant whose ids need escaping.
  const std::string environment(EnvironmentName(key.environment));
  const std::string record_key =
      absl::StrCat(prefix_, "{", key.org_id, ":", environment, ":", key.oauth_client, "}");
  for (std::vector<std::string> words : Damages()[way]) {
    words[1] = record_key;
    Command(record_key, words);
  }
}

bool RedisFixture::DamageSparesLimits(int way) const {
  for (const std::vector<std::string>& words : Damages()[way]) {
    if (words[0] == "DEL" || words[2] == "js" || words[2] == "tu") return false;
  }
  return true;
}

void RedisFixture::AddStrayKey(const std::string& encoded) {
  Command(prefix_ + "index", {"ZADD", prefix_ + "index", "0", encoded});
}

void RedisFixture::Command(const std::string&, const std::vector<std::string>& words) {
  const absl::StatusOr<std::string> reply = RedisCommand(SharedRedisPort(), words);
  EXPECT_TRUE(reply.ok()) << reply.status();
}

void RedisFixture::AdvanceTime(absl::Duration by) { *offset_ms_ += absl::ToInt64Milliseconds(by); }

}  // namespace tokenbroker
