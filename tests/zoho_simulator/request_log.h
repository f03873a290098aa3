// The record by which tests judge: every request that reached a simulated DC, with its times, whose
// grant it was about, what became of it, and how many requests of the same grant were on their way
// at once. Holds no token, code or secret. Thread-safe; made for a few 100,000 entries.

#ifndef TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_REQUEST_LOG_H_
#define TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_REQUEST_LOG_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/time/time.h"
#include "common/mutex.h"
#include "tests/zoho_simulator/model.h"

namespace tokenbroker::zoho_simulator {

struct RequestEntry {
  uint64_t sequence = 0;    // from 1, in the order of arrival, over all DCs
  absl::Time arrival_time;  // the request was read completely; by the simulator's clock
  absl::Time finish_time;   // the last byte of the reply is about to leave; or reset, or gone
  bool finished = false;
  std::string dc;
  std::string method;
  std::string path;
  std::string grant_type;  // the parameter; empty where there is none
  std::string client_id;
  GrantIdentity grant;
  // What the state machine did, e.g. "minted", "invalid_code", "throttled"; "not_processed" where a
  // fault came first; empty while the request is on its way. See the README for all values.
  std::string outcome;
  std::string fault;           // FaultKindName, empty if none
  int http_status = 0;         // sent; 0 if none was
  uint64_t connection_id = 0;  // counts the connections of the simulator
  bool https = false;
  bool secret_in_url = false;  // a secret, code or token came in the query
  bool client_gone = false;    // the caller closed the connection before its reply
  // Minting requests of the same grant on their way, this one included; 0 for other requests.
  int64_t in_flight = 0;
};

// Which entries count. An empty field matches everything.
struct RequestFilter {
  std::string dc;
  std::string path;
  std::string grant_type;
  std::string client_id;
  std::string user_id;
  std::string org_id;
  std::string outcome;
  std::string fault;
  uint64_t grant_number = 0;
  uint64_t after_sequence = 0;  // only later ones
  std::optional<bool> finished;
  std::optional<bool> client_gone;

  bool Matches(const RequestEntry& entry) const;
};

struct LogSummary {
  int64_t requests = 0;
  int64_t in_flight = 0;                // now, all requests
  int64_t max_in_flight = 0;            // ever, all requests
  int64_t max_in_flight_per_grant = 0;  // ever, minting requests
  int64_t secrets_in_url = 0;
  std::map<std::string, int64_t> by_dc;
  std::map<std::string, int64_t> by_path;
  std::map<std::string, int64_t> by_grant_type;
  std::map<std::string, int64_t> by_outcome;
};

class RequestLog {
 public:
  // Records an arrival: sets sequence and in_flight of `entry`. Returns the sequence number.
  uint64_t Begin(RequestEntry entry);

  struct Ending {
    absl::Time finish_time;
    std::string outcome;
    std::string fault;
    int http_status = 0;
    bool client_gone = false;
    std::optional<GrantIdentity> grant;  // where it became known only now
  };
  // Records the end of request `sequence`. A second call for it changes nothing.
  void Finish(uint64_t sequence, Ending ending);

  // The caller of `sequence` has left while the request was being worked on: from now on it does
  // not count as in flight. Finish() follows.
  void ClientGone(uint64_t sequence);

  int64_t Count(const RequestFilter& filter) const;

  // The matching entries, oldest first, at most `limit` (0: all).
  std::vector<RequestEntry> Entries(const RequestFilter& filter, size_t limit = 0) const;

  // Waits until at least `count` entries match or `timeout` of real time has passed. True if they
  // do.
  bool WaitForCount(const RequestFilter& filter, int64_t count, absl::Duration timeout) const;

  // The most minting requests (refresh_token, client_credentials) of one grant that were in flight
  // at once since the last Clear(). A request is in flight from its arrival until the last byte of
  // its reply is about to leave, so a caller that waits for its reply never overlaps itself.
  int64_t MaxInFlightPerGrant() const;
  int64_t MaxInFlight(uint64_t grant_number) const;

  LogSummary Summary() const;

  // Forgets all finished and unfinished entries; sequence numbers go on. Requests that are still
  // in flight leave no entry.
  void Clear();

 private:
  struct InFlight {
    int64_t now = 0;
    int64_t max = 0;
  };
  struct Waiter {
    const RequestFilter* filter;
    int64_t matched;
  };

  RequestEntry* Find(uint64_t sequence) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LeaveFlight(uint64_t sequence) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Tells the waiters that `entry` changed from `before` (null: it is new).
  void Notify(const RequestEntry* before, const RequestEntry& entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  mutable CondVar changed_;
  uint64_t next_sequence_ ABSL_GUARDED_BY(mutex_) = 1;
  std::vector<RequestEntry> entries_ ABSL_GUARDED_BY(mutex_);  // consecutive sequence numbers
  // What is on its way: sequence number, and the key in per_grant_ (empty: no minting request).
  std::unordered_map<uint64_t, std::string> open_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<std::string, InFlight> per_grant_ ABSL_GUARDED_BY(mutex_);
  InFlight all_ ABSL_GUARDED_BY(mutex_);
  mutable std::vector<Waiter*> waiters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tokenbroker::zoho_simulator

#endif  // TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_REQUEST_LOG_H_
