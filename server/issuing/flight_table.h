#ifndef TOKEN_BROKER_SERVER_ISSUING_FLIGHT_TABLE_H_
#define TOKEN_BROKER_SERVER_ISSUING_FLIGHT_TABLE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "server/issuing/grant_key_view.h"
#include "server/issuing/issued_token.h"
#include "storage/token_store.h"

namespace tokenbroker {

// One call that waits for a flight.
struct Waiter {
  uint64_t ticket = 0;
  std::vector<std::string> scopes;
  absl::Duration min_lifetime;
  int64_t rejected_version = 0;
  MonotonicTime until;          // the caller's deadline
  bool started_flight = false;  // this call caused the flight
  int rejoins = 0;              // flights that did not bring what this call wants
  std::function<void(absl::StatusOr<TokenAnswer>)> callback;
};

// The one piece of work under way for a grant in this process. With an empty `oauth_client` in its
// key it finds out which grant of the org serves callers that name none.
struct Flight {
  GrantKey key;
  Purpose purpose = Purpose::kCaller;
  // kBackground: the token that is to be replaced; 0: whichever is near its end.
  int64_t version = 0;
};

// Which grants have a flight, and who waits for it. Every waiter leaves exactly once: by its ticket
// (deadline, cancellation) or with the flight; a waiter that left with a flight may join another
// one, of any grant of its org and environment, under the same ticket. Thread-safe; calls nobody
// back.
class FlightTable {
 public:
  struct Joined {
    uint64_t ticket = 0;
    // Not null: there was no flight; the caller has to start this one.
    std::shared_ptr<Flight> started;
    // The waiter, where it could not be added, and why: the table is closed, the flight's tokens
    // cannot be stored at the moment, or the waiter's time to leave came between two flights.
    std::optional<Waiter> refused;
    absl::Status refusal;
  };
  // A change that was heard of during the flight.
  struct Noted {
    int64_t generation = 0;
    bool alive = true;
  };
  struct Landed {
    std::vector<Waiter> waiters;  // in the order of their tickets
    Noted noted;
  };

  struct Taken {
    GrantKey key;  // of the flight
    Waiter waiter;
  };

  // Adds the waiter to the grant's flight, or makes one.
  Joined Join(const GrantKey& key, Waiter waiter);
  // Makes a flight that nobody waits for; null: there is one already, or the table is closed.
  std::shared_ptr<Flight> StartBackground(const GrantKey& key, int64_t version);

  // Takes a waiter out, because of `why` (not OK). nullopt: it has left already, or is between two
  // flights: then the next Join refuses it with `why`.
  std::optional<Taken> Take(uint64_t ticket, const absl::Status& why);
  // Takes out the waiters for which `pred` is true, for good.
  std::vector<Waiter> TakeIf(const GrantKey& key, absl::FunctionRef<bool(const Waiter&)> pred);
  bool AnyWaiter(const GrantKey& key, absl::FunctionRef<bool(const Waiter&)> pred) const;
  // Takes all waiters out, for good; later ones are refused with `status` until the flight lands.
  std::vector<Waiter> MarkLate(const GrantKey& key, const absl::Status& status);
  // Ends the flight. Each of its waiters then joins another one, or is let go with Forget.
  Landed Land(const GrantKey& key);
  // A waiter that left with a flight was answered.
  void Forget(uint64_t ticket);

  // From now on nobody joins and no flight is made: refused with SHUTTING_DOWN.
  void Close();
  // Takes out the waiters of all flights, for good.
  std::vector<Taken> TakeAll();

  void NoteChange(const GrantKeyView& key, int64_t generation, bool alive);
  // Heard of so far; nothing if there is no flight.
  Noted noted(const GrantKeyView& key) const;

  // Flights under way.
  size_t size() const;
  size_t waiters(const GrantKeyView& key) const;

 private:
  static constexpr size_t kShards = 64;

  struct State {
    std::shared_ptr<Flight> flight;
    std::map<uint64_t, Waiter> waiters;  // by ticket: thousands may leave one by one
    Noted noted;
    absl::Status late;
  };
  struct Place {
    GrantKey key;          // of the flight
    bool between = false;  // left with a flight, not yet answered
    absl::Status leaving;  // what happened in between
  };
  struct alignas(64) Shard {
    mutable Mutex mutex;
    absl::flat_hash_map<GrantKey, State, GrantKeyHash, GrantKeyEqual> flights
        ABSL_GUARDED_BY(mutex);
    absl::flat_hash_map<uint64_t, Place> tickets ABSL_GUARDED_BY(mutex);
    uint64_t next_ticket ABSL_GUARDED_BY(mutex) = 1;
    bool closed ABSL_GUARDED_BY(mutex) = false;
  };

  // All grants of an org and environment share a shard, so that tickets stay in theirs.
  static size_t IndexOf(const GrantKeyView& key) {
    return GrantKeyHash()(GrantKeyView(key.org_id, key.environment, "")) % kShards;
  }

  std::array<Shard, kShards> shards_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_ISSUING_FLIGHT_TABLE_H_
