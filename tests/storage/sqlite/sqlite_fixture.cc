#include "tests/storage/sqlite/sqlite_fixture.h"

#include <stdlib.h>
#include <unistd.h>

#include <system_error>
#include <utility>

#include "gtest/gtest.h"

namespace tokenbroker {

TemporaryDirectory::TemporaryDirectory() {
  // In memory where there is such a place: the suite is about answers, not about the disk, and
  // waits for it a thousand times.
  const std::string parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm/" : testing::TempDir();
  std::string name = parent + "token-broker-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) ADD_FAILURE() << "no temporary directory";
  path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

SqliteTokenStore::Options SqliteFixture::Options(const ProtocolLimits& limits) const {
  SqliteTokenStore::Options options;
  options.path = directory_.File("grants.db");
  // A slow disk must not fail a test.
  options.busy_timeout = absl::Seconds(30);
  options.limits = limits;
  options.clock.wall = [this] { return absl::FromUnixMillis(now_ms_); };
  return options;
}

absl::StatusOr<std::unique_ptr<TokenStore>> SqliteFixture::Open(const ProtocolLimits& limits) {
  absl::StatusOr<std::unique_ptr<SqliteTokenStore>> store =
      SqliteTokenStore::Create(Options(limits));
  if (!store.ok()) return std::move(store).status();
  return std::unique_ptr<TokenStore>(*std::move(store));
}

}  // namespace tokenbroker
