#ifndef TOKEN_BROKER_SERVER_ISSUING_TOKEN_CACHE_H_
#define TOKEN_BROKER_SERVER_ISSUING_TOKEN_CACHE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/node_hash_map.h"
#include "absl/status/status.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "server/issuing/executor.h"
#include "server/issuing/grant_key_view.h"
#include "server/issuing/issued_token.h"

namespace tokenbroker {

// This replica's memory: per grant the newest token that it has seen, and the refusal that holds
// for a while after a failure. Sharded, so that cores rarely meet at a lock. Bounded: beyond
// `capacity` entries that were not used for long go first (of eight picked at random, the oldest).
// Thread-safe.
class TokenCache {
 public:
  // A failure that need not be found out again for a while. Immutable.
  struct Refusal {
    absl::Status status;
    int64_t generation = 0;  // of the record that it was about; 0: no record was seen
    int64_t session = 0;     // of the store's subscription
    MonotonicTime since;
    MonotonicTime until;     // answered from memory until then
    MonotonicTime retry_at;  // when trying again may help, perhaps later than `until`
  };
  // What is known of a grant. Either may be null.
  struct Entry {
    std::shared_ptr<const IssuedToken> token;
    std::shared_ptr<const Refusal> refusal;
    // Store session and time at which `token` was last known to be the current one; session 0:
    // changes cannot be heard.
    int64_t session = 0;
    MonotonicTime checked_at;
    // A newer generation exists, or may: the record has to be read again.
    bool outdated = false;
    // Find only, and once: the token was due to be refreshed ahead while nobody used it.
    bool came_back = false;
  };
  enum class Due {
    kGone,  // the token is not there any more
    kIdle,  // nobody has used it; the next Find says so
    kUsed,
  };

  explicit TokenCache(size_t capacity);

  // A copy of the entry; marks it as used. Allocates nothing.
  std::optional<Entry> Find(const GrantKeyView& key, MonotonicTime now);
  // Without marking it.
  std::optional<Entry> Peek(const GrantKeyView& key) const;

  // Keeps `token`, unless a newer version was read later than at `read_at`, when this one was read.
  // (A version that is older and was read later is the truth: the store was set back.) `used`:
  // somebody asked for it. Drops the refusal of an older generation. True: it is new here.
  bool Put(std::shared_ptr<const IssuedToken> token, int64_t session, MonotonicTime read_at,
           MonotonicTime now, bool used);
  // The token, if there is one, stays.
  void PutRefusal(const GrantKey& key, Refusal refusal);
  void MarkUsed(const GrantKeyView& key, MonotonicTime now);

  // A change was heard of. `alive` is false when the grant gives no tokens any more. Older news
  // than what is known changes nothing.
  void Invalidate(const GrantKeyView& key, int64_t generation, bool alive);

  // Whether the token of this version, now due to be refreshed ahead, was used since then.
  Due CheckDue(const GrantKeyView& key, int64_t version, MonotonicTime used_since);

  // Keeps the timer that refreshes the token of this version ahead, in place of an older one: there
  // is one per token, and it is cancelled when the token goes. At once, if it is not there.
  void KeepTimer(const GrantKeyView& key, int64_t version, ScopedTimer timer);

  size_t size() const;

 private:
  static constexpr size_t kShards = 64;

  struct Slot {
    Entry entry;
    MonotonicTime stored_at;  // when `entry.token` was put here
    MonotonicTime last_used;
    ScopedTimer refresh_ahead;  // of `entry.token`
    size_t position = 0;        // in Shard::order
  };
  using Map = absl::node_hash_map<GrantKey, Slot, GrantKeyHash, GrantKeyEqual>;
  struct alignas(64) Shard {
    mutable Mutex mutex;
    Map slots ABSL_GUARDED_BY(mutex);
    // All slots, for picking at random.
    std::vector<Map::pointer> order ABSL_GUARDED_BY(mutex);
    uint64_t random ABSL_GUARDED_BY(mutex) = 0x9e3779b97f4a7c15;
  };

  Shard& ShardOf(const GrantKeyView& key) { return shards_[GrantKeyHash()(key) % kShards]; }
  const Shard& ShardOf(const GrantKeyView& key) const {
    return shards_[GrantKeyHash()(key) % kShards];
  }
  Slot& FindOrMake(Shard& shard, const GrantKey& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex);
  void EvictOne(Shard& shard) ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex);
  void Erase(Shard& shard, Map::iterator slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex);

  const size_t shard_capacity_;
  std::array<Shard, kShards> shards_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_ISSUING_TOKEN_CACHE_H_
