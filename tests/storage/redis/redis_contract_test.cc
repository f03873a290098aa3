// The contract suite on a real redis-server.
#include <memory>

#include "gtest/gtest.h"
#include "tests/storage/redis/redis_fixture.h"
#include "tests/storage/token_store_contract.h"

namespace tokenbroker {
namespace {

INSTANTIATE_TEST_SUITE_P(Redis, TokenStoreContract,
                         testing::Values(StoreBackend{
                             "Redis", [] { return std::make_unique<RedisFixture>(); }}),
                         StoreBackendName);

}  // namespace
}  // namespace tokenbroker
