// The contract suite on the fake: what tests of issuing believe of a store is what stores do.
#include "tests/testing/fake_token_store.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "tests/storage/token_store_contract.h"

namespace tokenbroker {
namespace {

using testing::FakeTokenStore;

class FakeFixture : public StoreFixture {
 public:
  absl::StatusOr<std::unique_ptr<TokenStore>> Open(const ProtocolLimits& limits) override {
    if (first_ == nullptr) {
      FakeTokenStore::Options options;
      options.limits = limits;
      options.clock.wall = [this] { return absl::FromUnixMillis(now_ms_); };
      first_ = std::make_unique<FakeTokenStore>(options);
    }
    return first_->AnotherReplica();
  }
  void AdvanceTime(absl::Duration by) override { now_ms_ += absl::ToInt64Milliseconds(by); }
  bool EventsCrossStores() const override { return true; }
  int damages() const override { return 1; }
  void Damage(const GrantKey& key, int) override { first_->Damage(key); }
  bool DamageSparesLimits(int) const override { return true; }
  void AddStrayKey(const std::string& encoded) override { first_->AddStrayKey(encoded); }

 private:
  std::unique_ptr<FakeTokenStore> first_;
  // 2026-01-01, in milliseconds; any time would do.
  std::atomic<int64_t> now_ms_ = 1767225600000;
};

INSTANTIATE_TEST_SUITE_P(Fake, TokenStoreContract,
                         ::testing::Values(StoreBackend{
                             "Fake", [] { return std::make_unique<FakeFixture>(); }}),
                         StoreBackendName);

}  // namespace
}  // namespace tokenbroker
