#ifndef TOKEN_BROKER_STORAGE_REDIS_HASH_SLOT_H_
#define TOKEN_BROKER_STORAGE_REDIS_HASH_SLOT_H_

#include <cstdint>
#include <string>
#include <string_view>

// How a Redis Cluster spreads keys: https://redis.io/docs/latest/operate/oss_and_stack/reference/
// cluster-spec/#key-distribution-model
namespace tokenbroker::redis {

inline constexpr int kSlotCount = 16384;

// The slot of a key: of what is between its first '{' and the '}' after it, if that is not empty,
// else of the whole key.
uint16_t HashSlot(std::string_view key);

// A short text that lies in `slot`: put between braces it brings a key there.
std::string TagOfSlot(uint16_t slot);

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_HASH_SLOT_H_
