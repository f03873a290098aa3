#ifndef TOKEN_BROKER_SERVER_RPC_RECENT_URLS_H_
#define TOKEN_BROKER_SERVER_RPC_RECENT_URLS_H_

#include <cstddef>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/mutex.h"

namespace tokenbroker {

// The authorization URLs that errors have carried lately. Whoever asks for a dead grant again and
// again is answered from here: a read of the store for each of these calls would take the store's
// threads from all other orgs. Thread-safe; never blocks on I/O.
class RecentUrls {
 public:
  // Short against the hour that a URL is good for, long against a caller's retries.
  static constexpr absl::Duration kRemembered = absl::Seconds(10);
  // About 1 kB each, and never more than 6. Beyond it everything is forgotten: simpler than
  // evicting, and rare.
  static constexpr size_t kMaxUrls = 10'000;
  // The longest org id and a score of scopes. What is asked with more is not remembered.
  static constexpr size_t kMaxKeyBytes = 2048;

  // "": known that none can be made. nullopt: not known.
  std::optional<std::string> Find(const std::string& key, MonotonicTime now) {
    MutexLock lock(mutex_);
    const auto found = urls_.find(key);
    if (found == urls_.end() || found->second.until <= now) return std::nullopt;
    return found->second.url;
  }

  void Put(std::string key, std::string url, MonotonicTime now) {
    if (key.size() > kMaxKeyBytes) return;
    MutexLock lock(mutex_);
    if (urls_.size() >= kMaxUrls) urls_.clear();
    urls_.insert_or_assign(std::move(key), Url{std::move(url), now + kRemembered});
  }

 private:
  struct Url {
    std::string url;
    MonotonicTime until;
  };

  Mutex mutex_;
  std::unordered_map<std::string, Url> urls_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_RPC_RECENT_URLS_H_
