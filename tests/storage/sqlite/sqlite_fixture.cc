#include "tests/storage/sqlite/sqlite_fixture.h"

#include <stdlib.h>
#include <unistd.h>

#include <iterator>
#include <system_error>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "storage/sqlite/connection.h"

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
  options.shared = true;
  options.clock.wall = [this] { return absl::FromUnixMillis(now_ms_); };
  return options;
}

namespace {

constexpr const char* kDamages[] = {
    "type = 9",
    "state = 0",
    "phase = 7",
    "last_failure = -1",
    "scopes = x'ffffffff'",
    "labels = x'0100000041'",
    "sends = x'01'",
    // What a replacement goes on from, too.
    "type = 9, generation = -1, epoch = 9223372036854775807, created = 9223372036854775807",
};

std::string Hex(std::string_view bytes) {
  return absl::BytesToHexString(absl::string_view(bytes.data(), bytes.size()));
}

}  // namespace

int SqliteFixture::damages() const { return std::size(kDamages); }

void SqliteFixture::Damage(const GrantKey& key, int way) {
  Execute(absl::StrCat("UPDATE grants SET ", kDamages[way], " WHERE key = x'",
                       Hex(EncodeGrantKey(key)), "'"));
}

bool SqliteFixture::DamageSparesLimits(int way) const {
  return !absl::StartsWith(kDamages[way], "sends");
}

void SqliteFixture::AddStrayKey(const std::string& encoded) {
  // A copy of any row.
  Execute(absl::StrCat("CREATE TEMP TABLE stray AS SELECT * FROM grants LIMIT 1;",
                       "UPDATE stray SET key = x'", Hex(encoded), "';",
                       "INSERT INTO grants SELECT * FROM stray"));
}

void SqliteFixture::Execute(const std::string& sql) {
  const absl::StatusOr<std::unique_ptr<Connection>> connection =
      Connection::Open(directory_.File("grants.db"), absl::Seconds(30), /*writes=*/true);
  ASSERT_TRUE(connection.ok()) << connection.status();
  const absl::Status executed = (*connection)->Execute(sql.c_str());
  ASSERT_TRUE(executed.ok()) << executed;
}

absl::StatusOr<std::unique_ptr<TokenStore>> SqliteFixture::Open(const ProtocolLimits& limits) {
  absl::StatusOr<std::unique_ptr<SqliteTokenStore>> store =
      SqliteTokenStore::Create(Options(limits));
  if (!store.ok()) return std::move(store).status();
  return std::unique_ptr<TokenStore>(*std::move(store));
}

}  // namespace tokenbroker
