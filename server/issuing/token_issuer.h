#ifndef TOKEN_BROKER_SERVER_ISSUING_TOKEN_ISSUER_H_
#define TOKEN_BROKER_SERVER_ISSUING_TOKEN_ISSUER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/ids.h"
#include "server/issuing/executor.h"
#include "server/issuing/flight_table.h"
#include "server/issuing/grant_resolver.h"
#include "server/issuing/issued_token.h"
#include "server/issuing/refresher.h"
#include "server/issuing/store_health.h"
#include "server/issuing/token_cache.h"
#include "storage/token_store.h"

namespace tokenbroker {

// Issues access tokens: cache, else join the one flight of the grant in this process, which loads
// the record and, if need be, refreshes it at Zoho under the store's lease. Thread-safe.
//
// A flight is linear, blocking code: it loads on the "store" lane and refreshes on the lane of the
// grant's DC. Callers leave on their own deadline; the flight goes on. For callers that name no
// OAuth client there is one more flight, per org and environment, that finds out which grant is
// theirs.
class TokenIssuer {
 public:
  struct Options {
    absl::Duration refresh_ahead = absl::Seconds(600);
    absl::Duration refresh_ahead_jitter = absl::Seconds(300);
    absl::Duration forced_refresh = absl::Seconds(120);
    absl::Duration unheard_recheck = absl::Seconds(5);
    int cache_entries = 1'000'000;
  };

  // Called exactly once, on some thread of the executor or of the caller; must not block.
  using Callback = std::function<void(absl::StatusOr<TokenAnswer>)>;
  // Names a waiting call, for Cancel. 0: it was answered already.
  using Ticket = uint64_t;

  // Everything is borrowed. Becomes the store's change listener. The executor must have been shut
  // down before the issuer is destroyed; whoever still waits then gets SHUTTING_DOWN.
  TokenIssuer(Options options, TokenStore* store, Refresher* refresher, Executor* executor,
              Clock clock);
  ~TokenIssuer();

  // Starts looking for grants to keep warm, page by page through the store.
  void StartKeepingWarm();

  // The hot path: an answer from this replica's memory, or nullopt. Never blocks, takes no lock
  // that all cores share, makes no call to the store, allocates nothing. Errors that are known to
  // hold for a while (cooldown, budget, consent) are answered from memory too.
  std::optional<absl::StatusOr<TokenAnswer>> TryCached(const TokenQuery& query);

  // The slow path. `deadline` is how long the caller waits from now; then it gets the old token
  // while that lives, else DEADLINE_EXCEEDED. Errors: those of the RPC.
  Ticket GetAccessToken(const TokenQuery& query, absl::Duration deadline, Callback callback);
  // The caller has gone: its callback is called with CANCELLED, unless it was called already.
  void Cancel(Ticket ticket);

  // Refreshes the grant in the background if its token is near its end; nobody waits.
  void RefreshInBackground(const GrantKey& key);

  // From now on nobody waits: whoever does gets the old token while it lives, else SHUTTING_DOWN,
  // and so does, at once, whoever would. The flights under way go on, the cache goes on answering.
  // Does not block.
  void StopWaiting();
  // Refuses new flights (SHUTTING_DOWN) and waits until those under way have ended, at most
  // `timeout`; then as StopWaiting. The cache goes on answering. False: some were still under way.
  bool Drain(absl::Duration timeout);

  size_t cached() const { return cache_.size(); }
  size_t flights() const { return flights_.size(); }

 private:
  // Everything that one flight has found out when it lands.
  struct Landing {
    const Flight& flight;
    RefreshResult result;
    bool loaded_only = false;  // the record was read; no refresh was tried
    int64_t session = 0;       // of the subscription, before the record was read
    const GrantKey& key() const { return flight.key; }
  };

  // `waiter.until` is set.
  Ticket Join(const GrantKey& key, Waiter waiter);
  void Start(const std::shared_ptr<Flight>& flight);
  // False: there is a flight already, or no work is taken on.
  bool StartBackground(const GrantKey& key, int64_t version);
  // On the "store" lane: finds the grants of callers that name no OAuth client, and lets them join
  // those.
  void ResolveStage(const Flight& flight);
  void JoinResolved(const Flight& flight, Waiter waiter,
                    const absl::StatusOr<GrantResolver::Grants>& grants);
  // On the "store" lane: reads the record, and lands the flight or hands it to the DC's lane.
  void LoadStage(const Flight& flight);
  // The store's answer about `key`, or STORE_UNAVAILABLE at once while the part of the store that
  // it depends on is known to be down.
  template <typename Read>
  auto ReadStore(const GrantKey& key, Read read) -> decltype(read());
  bool KnownDown(const GrantKeyView& key, MonotonicTime now) const;
  // On the DC's lane: refreshes, and lands the flight.
  void RefreshStage(const Flight& flight, const GrantRecord& record, MonotonicTime read_at,
                    int64_t session);
  bool NeedsRefresh(const Flight& flight, const GrantRecord& record) const;
  // Keeps what the flight brought and answers all who waited.
  void Land(const Landing& landing);
  void LandFailed(const Flight& flight, const absl::Status& status);
  // Puts the token of the landing's record into the cache.
  void Keep(const Landing& landing, const std::shared_ptr<const IssuedToken>& token);
  void ApplyNoted(const GrantKey& key, const FlightTable::Noted& noted);
  void Remember(const Landing& landing, bool dead);
  // `again`: another flight may bring what this one did not.
  void Answer(Waiter waiter, const Landing& landing,
              const std::shared_ptr<const IssuedToken>& token, bool again);
  // Calls the waiter back; it must have left the table for good.
  void AnswerToken(const Waiter& waiter, std::shared_ptr<const IssuedToken> token,
                   TokenSource source) const;
  // With the old token while it lives, else with `status`.
  void AnswerStale(const GrantKey& key, const Waiter& waiter, const absl::Status& status) const;
  absl::Status Refusal() const;

  std::shared_ptr<const IssuedToken> MakeToken(const GrantRecord& record,
                                               MonotonicTime read_at) const;
  // Whether a cached token may be given out without asking the store.
  bool IsTrusted(const TokenCache::Entry& entry, MonotonicTime now) const;
  bool Holds(const TokenCache::Refusal& refusal, MonotonicTime now) const;
  void OnChange(const ChangeEvent& event);

  // Remaining life at which this grant's token is refreshed ahead: the same in all replicas.
  absl::Duration RefreshAheadAt(const GrantRecord& record) const;
  // If the grant has been used since then, or is to be kept warm, and still has this version.
  void RefreshAhead(const GrantKey& key, int64_t version, MonotonicTime used_since);
  // The same `delay` from now, if the token still is in the cache then.
  void RefreshAheadIn(absl::Duration delay, const GrantKey& key, int64_t version,
                      MonotonicTime used_since);
  void SweepKeepWarm(const std::string& after);

  const Options options_;
  TokenStore* const store_;
  Refresher* const refresher_;
  Executor* const executor_;
  const Clock clock_;

  TokenCache cache_;
  FlightTable flights_;
  GrantResolver resolver_;
  StoreHealth store_health_;
  std::atomic<bool> draining_{false};
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_ISSUING_TOKEN_ISSUER_H_
