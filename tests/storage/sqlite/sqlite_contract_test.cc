#include <memory>

#include "gtest/gtest.h"
#include "tests/storage/sqlite/sqlite_fixture.h"
#include "tests/storage/token_store_contract.h"

namespace tokenbroker {
namespace {

INSTANTIATE_TEST_SUITE_P(Sqlite, TokenStoreContract,
                         testing::Values(StoreBackend{
                             "Sqlite", [] { return std::make_unique<SqliteFixture>(); }}),
                         StoreBackendName);

}  // namespace
}  // namespace tokenbroker
