#ifndef TOKEN_BROKER_TESTS_STORAGE_SQLITE_SQLITE_FIXTURE_H_
#define TOKEN_BROKER_TESTS_STORAGE_SQLITE_SQLITE_FIXTURE_H_

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "storage/sqlite/sqlite_token_store.h"
#include "tests/storage/token_store_contract.h"

namespace tokenbroker {

// A new directory, removed at the end.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  std::string File(std::string_view name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

// A database file on a clock that stands still until it is moved.
class SqliteFixture : public StoreFixture {
 public:
  absl::StatusOr<std::unique_ptr<TokenStore>> Open(const ProtocolLimits& limits) override;
  void AdvanceTime(absl::Duration by) override { now_ms_ += absl::ToInt64Milliseconds(by); }
  bool EventsCrossStores() const override { return false; }
  int damages() const override;
  void Damage(const GrantKey& key, int way) override;
  bool DamageSparesLimits(int way) const override;
  void AddStrayKey(const std::string& encoded) override;

  SqliteTokenStore::Options Options(const ProtocolLimits& limits) const;

 private:
  void Execute(const std::string& sql);

  TemporaryDirectory directory_;
  // 2026-01-01, in milliseconds; any time would do.
  std::atomic<int64_t> now_ms_ = 1767225600000;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_STORAGE_SQLITE_SQLITE_FIXTURE_H_
