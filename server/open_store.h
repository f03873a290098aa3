#ifndef TOKEN_BROKER_SERVER_OPEN_STORE_H_
#define TOKEN_BROKER_SERVER_OPEN_STORE_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "server/config/settings.h"
#include "storage/redis/redis_token_store.h"
#include "storage/token_store.h"

namespace tokenbroker {

// The store that the configuration describes, with its seal. A part of the composition root.
struct OpenedStore {
  std::unique_ptr<TokenStore> store;
  RedisTokenStore* redis = nullptr;  // behind `store`, as long as that lives; null: it is SQLite
};

// INVALID_ARGUMENT, or what the SQLite file says. Redis need not answer yet. `on_clock_jump`: see
// RedisTokenStoreOptions.
absl::StatusOr<OpenedStore> OpenStore(
    const Settings& settings, const Clock& clock,
    std::function<void(const redis::ServerClock::Jump&)> on_clock_jump);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_OPEN_STORE_H_
