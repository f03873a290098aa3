#ifndef TOKEN_BROKER_STORAGE_REDIS_REDIS_TOKEN_STORE_PARTS_H_
#define TOKEN_BROKER_STORAGE_REDIS_REDIS_TOKEN_STORE_PARTS_H_

#include <memory>
#include <utility>

#include "storage/redis/change_subscriber.h"
#include "storage/redis/change_waiters.h"
#include "storage/redis/client.h"
#include "storage/redis/redis_token_store.h"

namespace tokenbroker {

// What the store is made of; for its own source files.
struct RedisTokenStore::Parts {
  Parts(redis::Client::Options options, std::unique_ptr<redis::Topology> topology)
      : client(std::move(options), std::move(topology)) {}

  redis::Client client;
  redis::ChangeWaiters waiters;
  std::unique_ptr<redis::ChangeSubscriber> subscriber;  // last: its thread uses the others
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_REDIS_REDIS_TOKEN_STORE_PARTS_H_
