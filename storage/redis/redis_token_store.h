#ifndef TOKEN_BROKER_STORAGE_REDIS_REDIS_TOKEN_STORE_H_
#define TOKEN_BROKER_STORAGE_REDIS_REDIS_TOKEN_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/mutex.h"
#include "common/secret.h"
#include "storage/protocol_limits.h"
#include "storage/redis/durability_check.h"
#include "storage/redis/scripts.h"
#include "storage/redis/server_clock.h"
#include "storage/token_store.h"

namespace tokenbroker {

namespace redis {
class ReplyView;
class TlsContext;
}  // namespace redis

struct RedisEndpoint {
  std::string host;  // name or numeric address; a name is resolved at every connect
  uint16_t port = 0;
};

// A primary that Sentinels watch: they are asked for its address at every connect.
struct RedisSentinelOptions {
  std::vector<RedisEndpoint> endpoints;
  std::string primary_name;  // the Sentinels' name for it
  // To the Sentinels, as the store's own to the primary: "" and null where they want none.
  std::string username;
  std::function<absl::StatusOr<Secret>()> password;
};

// A Redis Cluster. Its nodes are learnt from any of these that answers, and from each other then.
struct RedisClusterOptions {
  std::vector<RedisEndpoint> seeds;
};

struct RedisTokenStoreOptions {
  // Where Redis is: at one address, or, with `host` empty, behind Sentinels or a cluster.
  std::string host = "127.0.0.1";  // of the primary; a name is resolved at every connect
  uint16_t port = 6379;
  std::optional<RedisSentinelOptions> sentinel;
  std::optional<RedisClusterOptions> cluster;  // `database` is 0 then

  // Null: plain TCP. Used for the Sentinels and all nodes, too.
  std::shared_ptr<const redis::TlsContext> tls;

  std::string username;  // ACL user; "": the server's default user
  // Asked whenever a connection is made, so that a changed password is picked up. Null: none.
  std::function<absl::StatusOr<Secret>()> password;
  int database = 0;
  // Starts every key and the channel. At most 64 bytes, without braces (they mark what a Redis
  // cluster hashes).
  std::string key_prefix = "tb:";

  // Replicas that must have a write before it is acted upon. 0 where Redis has none: then a
  // failover can lose the last writes.
  int replica_acks = 0;
  absl::Duration replica_ack_timeout = absl::Milliseconds(200);

  // How long no refresh begins after a primary is first seen (another server, or the same one
  // restarted): it may not know of the newest leases. At least the sent lease, or 0: never.
  absl::Duration quarantine = absl::Seconds(20);

  int pool_size = 16;  // connections per primary
  absl::Duration connect_timeout = absl::Milliseconds(500);
  absl::Duration command_timeout = absl::Milliseconds(250);  // per try; also for a free connection
  int tries = 3;

  ProtocolLimits limits;

  // Null, or called when a primary's clock is found to have jumped, on a thread that does an
  // operation: quick, and without calling the store.
  std::function<void(const redis::ServerClock::Jump&)> on_clock_jump;

  // Tests only: added to the server's clock, and the scripts to run instead of the embedded ones.
  std::function<absl::Duration()> test_clock_offset;
  std::function<redis::ScriptSet()> test_scripts;

  // INVALID_ARGUMENT naming every option that is wrong.
  absl::Status Validate() const;
};

// The grants in Redis 6.2 or later, for any number of replicas of the broker: in one server, in the
// primary that Sentinels name, or in a cluster.
//
// Keys: `<prefix>{<grant>}`, a hash per grant; `<prefix>index`, a sorted set of all encoded keys
// for listing; `<prefix>{writable}`, written by CheckWritable; `<prefix>{reign}`, when the primary
// was first seen. The last two are `<prefix>writable{<n>}` and `<prefix>reign{<n>}`, once or a few
// times per shard, in a cluster. Channel: `<prefix>changes:<database>` (the server's channels do
// not know databases). What ACL users need is in storage/redis/required_acl.h.
// The server must not evict (maxmemory-policy noeviction); it should keep records compact
// (hash-max-listpack-value 1024; hash-max-ziplist-value on Redis 6.2) and durable (appendonly yes).
//
// All times inside records are the server's, read inside each script. Every operation takes at most
// `tries` times (twice command_timeout + connect_timeout), replica_ack_timeout and, where the
// primary has to be found, twice connect_timeout on top; each may be repeated, because the scripts
// know the attempt they are called for. With `replica_acks`, MarkSent, Commit, Register and Revoke
// return STORE_NOT_ACKNOWLEDGED while too few replicas have the write: it is stored at the primary,
// and the same call again waits for them again. So does a Commit that changes nothing, because the
// grant was superseded or revoked: too few replicas know why. Whatever a try did at one primary
// counts nothing at the next one: it is done again there.
//
// Quarantine: from when any broker first meets a primary (another server, or the same one
// restarted) until `quarantine` later, Acquire answers kBusy with the rest and MarkSent kLost;
// everything else goes on. A primary without any grant at that moment (in a cluster: without any
// key) is a new store, and has none.
//
// Clocks: while a primary's clock goes evenly beside this machine's monotonic one, leases mean what
// they say. When it has jumped by more than limits.clock_drift, and when a primary is first met by
// this process and is not within ServerClock::kWallTolerance of this machine's wall clock, the same
// answers are given for limits.sent_lease: what was sent before is over by then.
class RedisTokenStore : public TokenStore {
 public:
  using Options = RedisTokenStoreOptions;

  // INVALID_ARGUMENT naming every option that is wrong. Does not wait for the server: until it
  // answers, operations return STORE_UNAVAILABLE.
  static absl::StatusOr<std::unique_ptr<RedisTokenStore>> Create(Options options);
  ~RedisTokenStore() override;

  absl::StatusOr<GrantRecord> Load(const GrantKey& key) override;
  absl::StatusOr<AcquireResult> Acquire(const AcquireRequest& request) override;
  absl::StatusOr<MarkSentOutcome> MarkSent(const MarkSentRequest& request) override;
  absl::StatusOr<CountSendResult> CountSend(const CountSendRequest& request) override;
  absl::StatusOr<CommitResult> Commit(const CommitRequest& request) override;
  absl::StatusOr<FailResult> Fail(const FailRequest& request) override;
  absl::StatusOr<RegisterResult> Register(const RegisterRequest& request) override;
  absl::StatusOr<RevokeResult> Revoke(const RevokeRequest& request) override;
  absl::Status ForgetTokens(const GrantKey& key, int64_t generation) override;
  absl::StatusOr<GrantPage> ListPage(std::string_view prefix, std::string_view after,
                                     int limit) override;
  void WaitForChange(const GrantKey& key, int64_t generation, absl::Duration timeout) override;
  void SetChangeListener(ChangeListener listener) override;
  // A connection that silently loses everything is noticed within 2 s (a PING after each second of
  // silence, answered within one): so old can "current" be.
  int64_t subscription_session() const override;
  // In a cluster listing is a part of its own: it needs the node that has the index, and those of
  // the records that it finds.
  uint64_t FailureDomain(const GrantKey& key) const override;
  // In a cluster: more than half of the shards take writes.
  absl::Status CheckWritable() override;

  // What the primaries behind the store could lose grants by, of all that answer; empty: nothing
  // that can be seen. STORE_UNAVAILABLE: none answers.
  absl::StatusOr<std::vector<redis::DurabilityProblem>> CheckDurability();

  // Until no shard that this process has met is in quarantine, or had its clock set lately; for a
  // gauge.
  absl::Duration held_back() const;
  // What has happened to the topology since `Create`; for metrics.
  struct TopologyCounters {
    int64_t moved = 0;            // MOVED answers that were followed
    int64_t asked = 0;            // ASK answers that were followed
    int64_t refreshes = 0;        // maps of the cluster that were read
    int64_t primary_changes = 0;  // other primaries, or restarted ones, that were found
  };
  TopologyCounters topology_counters() const;

 private:
  struct Parts;  // keeps hiredis out of this header

  RedisTokenStore(Options options, std::unique_ptr<Parts> parts);
  absl::Duration ClockOffset() const;
  // Adds the records of the first `count` index entries to the page.
  absl::Status ReadEntries(redis::ReplyView entries, size_t count, GrantPage& page);
  // `mend`: the record is there and cannot be read.
  absl::StatusOr<RegisterResult> RunRegister(const RegisterRequest& request, bool mend);
  // Whether WaitForChange may return; otherwise the rest of the lease goes to `rest`.
  bool ChangedOrFree(std::string_view record_key, int64_t generation, absl::Duration& rest);
  void OnMessage(std::string_view payload) ABSL_LOCKS_EXCLUDED(listener_mutex_);
  // The listener, and who waits for it.
  void Tell(const ChangeEvent& event) ABSL_LOCKS_EXCLUDED(listener_mutex_);

  const Options options_;
  const std::string channel_;
  const std::string index_key_;
  Mutex listener_mutex_;  // held while the listener is called
  ChangeListener listener_ ABSL_GUARDED_BY(listener_mutex_);
  const std::unique_ptr<Parts> parts_;  // last: its thread calls OnMessage
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_REDIS_REDIS_TOKEN_STORE_H_
