#include "server/issuing/token_cache.h"

#include <algorithm>
#include <utility>

namespace tokenbroker {

TokenCache::TokenCache(size_t capacity)
    : shard_capacity_(std::max<size_t>(1, (capacity + kShards - 1) / kShards)) {}

std::optional<TokenCache::Entry> TokenCache::Find(const GrantKeyView& key, MonotonicTime now) {
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  const auto found = shard.slots.find(key);
  if (found == shard.slots.end()) return std::nullopt;
  Slot& slot = found->second;
  slot.last_used = now;
  if (!slot.entry.came_back) return slot.entry;
  Entry entry = slot.entry;
  slot.entry.came_back = false;
  return entry;
}

std::optional<TokenCache::Entry> TokenCache::Peek(const GrantKeyView& key) const {
  const Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  const auto found = shard.slots.find(key);
  if (found == shard.slots.end()) return std::nullopt;
  return found->second.entry;
}

bool TokenCache::Put(std::shared_ptr<const IssuedToken> token, int64_t session,
                     MonotonicTime read_at, MonotonicTime now, bool used) {
  Shard& shard = ShardOf(token->key);
  MutexLock lock(shard.mutex);
  Slot& slot = FindOrMake(shard, token->key);
  Entry& entry = slot.entry;
  if (used) slot.last_used = std::max(slot.last_used, now);
  if (entry.token != nullptr && entry.token->version > token->version && read_at < slot.stored_at) {
    return false;
  }
  const bool is_new = entry.token == nullptr || entry.token->version != token->version;
  if (entry.refusal != nullptr && entry.refusal->generation < token->version) {
    entry.refusal = nullptr;
  }
  if (is_new) {
    entry.came_back = false;
    slot.refresh_ahead = ScopedTimer();
  }
  entry.token = std::move(token);
  entry.session = session;
  entry.checked_at = read_at;
  entry.outdated = false;
  slot.stored_at = now;
  return is_new;
}

void TokenCache::PutRefusal(const GrantKey& key, Refusal refusal) {
  auto kept = std::make_shared<const Refusal>(std::move(refusal));
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  FindOrMake(shard, key).entry.refusal = std::move(kept);
}

void TokenCache::MarkUsed(const GrantKeyView& key, MonotonicTime now) {
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  const auto found = shard.slots.find(key);
  if (found != shard.slots.end()) found->second.last_used = now;
}

void TokenCache::Invalidate(const GrantKeyView& key, int64_t generation, bool alive) {
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  const auto found = shard.slots.find(key);
  if (found == shard.slots.end()) return;
  Entry& entry = found->second.entry;
  if (entry.token != nullptr && entry.token->version < generation) entry.outdated = true;
  if (entry.refusal != nullptr && entry.refusal->generation < generation) entry.refusal = nullptr;
  if (alive || (entry.token != nullptr && entry.token->version > generation)) return;
  entry.token = nullptr;
  entry.came_back = false;
  found->second.refresh_ahead = ScopedTimer();
  if (entry.refusal == nullptr) Erase(shard, found);
}

TokenCache::Due TokenCache::CheckDue(const GrantKeyView& key, int64_t version,
                                     MonotonicTime used_since) {
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  const auto found = shard.slots.find(key);
  if (found == shard.slots.end()) return Due::kGone;
  Slot& slot = found->second;
  if (slot.entry.token == nullptr || slot.entry.token->version != version) return Due::kGone;
  if (slot.last_used >= used_since || slot.entry.token->keep_warm) return Due::kUsed;
  slot.entry.came_back = true;
  return Due::kIdle;
}

void TokenCache::KeepTimer(const GrantKeyView& key, int64_t version, ScopedTimer timer) {
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  const auto found = shard.slots.find(key);
  if (found == shard.slots.end()) return;
  Slot& slot = found->second;
  if (slot.entry.token == nullptr || slot.entry.token->version != version) return;
  // One that is due at once may have run before it gets here, and have set the next one.
  if (timer.order() > slot.refresh_ahead.order()) slot.refresh_ahead = std::move(timer);
}

size_t TokenCache::size() const {
  size_t total = 0;
  for (const Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    total += shard.slots.size();
  }
  return total;
}

TokenCache::Slot& TokenCache::FindOrMake(Shard& shard, const GrantKey& key) {
  const auto found = shard.slots.find(GrantKeyView(key));
  if (found != shard.slots.end()) return found->second;
  if (shard.slots.size() >= shard_capacity_) EvictOne(shard);
  const auto made = shard.slots.try_emplace(key).first;
  made->second.position = shard.order.size();
  shard.order.push_back(&*made);
  return made->second;
}

void TokenCache::EvictOne(Shard& shard) {
  Map::pointer oldest = nullptr;
  for (int i = 0; i < 8; ++i) {
    shard.random = shard.random * 6364136223846793005u + 1442695040888963407u;
    Map::pointer candidate = shard.order[(shard.random >> 33) % shard.order.size()];
    if (oldest == nullptr || candidate->second.last_used < oldest->second.last_used) {
      oldest = candidate;
    }
  }
  Erase(shard, shard.slots.find(GrantKeyView(oldest->first)));
}

void TokenCache::Erase(Shard& shard, Map::iterator slot) {
  const size_t position = slot->second.position;
  shard.order[position] = shard.order.back();
  shard.order[position]->second.position = position;
  shard.order.pop_back();
  shard.slots.erase(slot);
}

}  // namespace tokenbroker
