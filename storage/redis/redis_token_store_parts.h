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
  explicit Parts(redis::Client::Options options) : client(std::move(options)) {}

  redis::Client client;
  redis::ChangeWaiters waiters;
  std::unique_ptr<redis::ChangeSubscriber> subscriber;  // last: its thread uses the others
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_REDIS_REDIS_TOKEN_STORE_PARTS_H_
