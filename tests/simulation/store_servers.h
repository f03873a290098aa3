#ifndef TOKEN_BROKER_TESTS_SIMULATION_STORE_SERVERS_H_
#define TOKEN_BROKER_TESTS_SIMULATION_STORE_SERVERS_H_

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "storage/grant_record.h"
#include "storage/token_store.h"
#include "tests/simulation/context.h"

namespace tokenbroker::simulation {

inline constexpr int kMaxGrants = 5;

// A record as one write left it. The call that marked a send, as the scripts note it ("mn"), and
// the judge's number of that mark.
struct Version {
  std::shared_ptr<const GrantRecord> record;  // null: there is none
  uint64_t mark_call = 0;
  int mark = -1;
};

// What a server answers. One type for all commands: which one it answers only the order on its
// connection says, as with Redis.
struct Reply {
  enum class Kind : uint8_t { kValue, kReset, kReadOnly, kDeposed, kCount };
  Kind kind = Kind::kValue;
  int operation = 0;  // of store_client.h: its answers look different from those of others
  int outcome = 0;
  std::shared_ptr<const GrantRecord> record;
  absl::Time server_time;
  absl::Duration wait;
  bool ambiguous = false;
  int mark = -1;
  int64_t count = 0;  // of WAIT
  std::vector<std::shared_ptr<const GrantRecord>> page;
};

struct Server;

// A client's connection. Both sides share it; what arrives after the client has closed it is lost.
struct Connection {
  int process = 0;
  Server* server = nullptr;
  int64_t reign = 0;  // of the server, when it was made
  int64_t started = 0;
  Nanos quarantine_end = 0;
  std::deque<Reply> inbox;
  Strand* reader = nullptr;
  bool closed = false;
};

// One redis-server. A write appends to the log; replicas apply the same log some time later.
struct Server {
  struct Write {
    int grant = 0;
    Version version;
  };
  struct Waiting {  // a WAIT
    uint64_t number = 0;
    std::shared_ptr<Connection> connection;
    size_t offset = 0;
    int acks = 0;
  };

  int number = 0;
  bool up = true;
  bool primary = false;
  int64_t reign = 0;      // another one after every change of what it is, and every restart
  int64_t started = 0;    // restarts
  Nanos clock = 0;        // ahead of the world's
  Nanos first_seen = -1;  // in this reign
  std::vector<Write> log;
  std::array<Version, kMaxGrants> records;
  // As a primary: how much of its log each of the servers is known to have.
  std::array<size_t, 3> acknowledged = {};
  std::vector<Waiting> waiting;
  // As a replica: whose, and which of the links between them.
  Server* follows = nullptr;
  int64_t link = 0;
  bool stalled = false;
  bool in_sync = true;     // the copy to begin with has come
  size_t sent = 0;         // of the primary's log, on this link
  Nanos next_arrival = 0;  // the link keeps the order

  absl::Time Clock(Nanos now) const { return Epoch() + absl::Nanoseconds(now + clock); }
};

// The store's servers: a primary with replicas, who is told what, and what happens to them. As in
// docs/guarantees.md, "G2": whoever is cut off together with the primary, it is no replica, and of
// the others the one with the longest log takes over.
class StoreServers {
 public:
  using Script = std::function<Reply(Server&)>;
  static constexpr int kAcks = 1;
  static constexpr Nanos kQuarantine = 20 * kSecond;

  explicit StoreServers(Context* context);

  // Where this process finds the primary, which may be dead; null: nowhere.
  Server* Resolve(int process) const;
  // The one that is primary by the others' agreement.
  Server* primary() const { return primary_; }

  // Sends a command over a connection. Whatever becomes of it and of its answer, which goes to the
  // connection's inbox.
  void Send(const std::shared_ptr<Connection>& connection, Script script);
  // Sends WAIT for what the server's log holds when it arrives.
  void SendWait(const std::shared_ptr<Connection>& connection, int acks, Nanos timeout);
  // Whether a new connection comes about; learns the server's reign.
  bool Accept(Connection& connection);
  bool CanReach(int process, const Server& server) const;

  // Called by scripts.
  void Write(Server& server, int grant, Version version);
  // Tells those who listen to this server.
  void Publish(const Server& server, int grant, const GrantRecord& record);

  // docs/guarantees.md, "G3. The store never goes back": "What somebody was told is stored stays so
  // over a change of the primary".
  void CheckToldIsKept(const Server& server);

  // Without a script: the record is everywhere from the beginning.
  void Preset(int grant, const GrantRecord& record);

  // Faults. False: one of the kind is under way.
  bool KillPrimary();
  bool PartitionPrimary(uint64_t processes_with_it);
  bool RestartPrimary();
  bool StallReplication(Nanos duration);
  void CutProcess(int process, Nanos duration);
  // Everything works again, at once.
  void Heal();

  // What processes listen to; they fill it in.
  struct Listener {
    Server* server = nullptr;
    Gate* gate = nullptr;
    bool deaf = false;  // the connection is gone, and nobody has noticed
    Nanos next_arrival = 0;
    std::function<void(const ChangeEvent&)> tell;
  };
  Listener& listener(int process) { return listeners_[static_cast<size_t>(process)]; }
  // Called when the primary has changed, for everybody to look again.
  void OnPrimaryChange(std::function<void()> what) { on_change_ = std::move(what); }

 private:
  Nanos Hop();  // a message's way
  void Arrive(const std::shared_ptr<Connection>& connection, const Script& script);
  void Answer(const std::shared_ptr<Connection>& connection, Reply reply);
  void Deliver(const std::shared_ptr<Connection>& connection, Reply reply);
  void Replicate(Server& replica);
  void Acknowledge(Server& primary, int64_t link, int replica, size_t offset);
  void EndWaits(Server& server, bool all);
  void Follow(Server& replica, Server& primary);
  void ResyncFully(Server& replica);
  void StepDown(Server& server);
  bool IsCandidate(const Server& server) const;
  bool HasCandidate() const;
  void Elect();
  void Promote(Server& server);
  bool IsCut(int process) const { return (cut_ >> process & 1) != 0; }

  Context* const context_;
  std::vector<std::unique_ptr<Server>> servers_;
  Server* primary_ = nullptr;
  Server* isolated_ = nullptr;  // with `beside_`, from all others
  uint64_t beside_ = 0;         // processes, one bit each
  uint64_t cut_ = 0;
  bool failing_over_ = false;
  bool stalling_ = false;
  int64_t reigns_ = 0;
  int64_t links_ = 0;
  uint64_t waits_ = 0;
  std::array<Listener, 8> listeners_;
  std::function<void()> on_change_;
};

}  // namespace tokenbroker::simulation

#endif  // TOKEN_BROKER_TESTS_SIMULATION_STORE_SERVERS_H_
