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

void RedisFixture::AdvanceTime(absl::Duration by) { *offset_ms_ += absl::ToInt64Milliseconds(by); }

}  // namespace tokenbroker
