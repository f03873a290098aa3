#ifndef TOKEN_BROKER_SERVER_ISSUING_GRANT_RESOLVER_H_
#define TOKEN_BROKER_SERVER_ISSUING_GRANT_RESOLVER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "server/issuing/grant_key_view.h"
#include "storage/token_store.h"

namespace tokenbroker {

// Whether `a` is to be preferred to `b` where either may serve: it has fewer scopes. A grant whose
// scopes Zoho never named may cover what is asked for or not; one that is known to goes before it.
bool ServesBetter(const GrantRecord& a, const GrantRecord& b);

// Which grant serves a caller who names no OAuth client: of the org's grants in the environment the
// active one with the fewest scopes that covers those asked for (ServesBetter). Answers are
// remembered for half a minute, so a new grant that no change event told of is noticed after that
// time. Sharded; thread-safe.
class GrantResolver {
 public:
  static constexpr absl::Duration kRemembered = absl::Seconds(30);

  // The org's grants in one environment, as they were at one moment.
  struct Grants {
    std::string org_id;
    Environment environment = Environment::kProduction;
    std::vector<GrantRecord> records;
    bool unreadable = false;  // there are others, which cannot be decoded
    uint64_t changes = 0;     // of this kind of orgs, before `records` were read
  };
  // Whether an answer may be older than half a minute: better than none while the store is down.
  enum class Age { kFresh, kAny };

  explicit GrantResolver(TokenStore* store) : store_(store) {}

  // The OAuth client, from memory; null: unknown. Never blocks on I/O, allocates nothing.
  std::shared_ptr<const std::string> Remembered(std::string_view org_id, Environment environment,
                                                const std::vector<std::string>& scopes,
                                                MonotonicTime now, Age age = Age::kFresh) const;

  // Asks the store. ORG_NOT_FOUND; the store's errors.
  absl::StatusOr<Grants> Load(const std::string& org_id, Environment environment);
  // Picks the client, and remembers it. SCOPE_NOT_GRANTED, naming what the best grant lacks; where
  // no active grant covers the scopes but a dead one does, its client, so that the caller learns
  // that consent is required. RECORD_UNREADABLE: none of them, but one that cannot be read might.
  absl::StatusOr<std::string> Choose(const Grants& grants, const std::vector<std::string>& scopes,
                                     MonotonicTime now);

  // A grant was changed. What is remembered of its org is forgotten, unless it is this very grant
  // and it is alive.
  void NoteChange(const GrantKeyView& key, bool alive);

 private:
  struct Answer {
    std::vector<std::string> scopes;
    std::shared_ptr<const std::string> oauth_client;
    MonotonicTime until;
  };
  static constexpr size_t kShards = 64;
  // Beyond it a shard is emptied: simpler than evicting, and rare.
  static constexpr size_t kMaxOrgsPerShard = 16'000;

  struct alignas(64) Shard {
    mutable Mutex mutex;
    // By org and environment, the OAuth client is empty; few different scope lists per org.
    absl::flat_hash_map<GrantKey, std::vector<Answer>, GrantKeyHash, GrantKeyEqual> answers
        ABSL_GUARDED_BY(mutex);
    uint64_t changes ABSL_GUARDED_BY(mutex) = 0;
  };

  static size_t IndexOf(const GrantKeyView& org) { return GrantKeyHash()(org) % kShards; }

  TokenStore* const store_;
  std::array<Shard, kShards> shards_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_ISSUING_GRANT_RESOLVER_H_
