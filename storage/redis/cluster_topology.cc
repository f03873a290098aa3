// The topology of a Redis Cluster: a map of its slots, mended by what nodes answer and read again
// when something does not fit.
#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <random>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "common/errors.h"
#include "common/mutex.h"
#include "common/status_macros.h"
#include "storage/redis/cluster_view.h"
#include "storage/redis/hash_slot.h"
#include "storage/redis/redis_errors.h"
#include "storage/redis/topology.h"

namespace tokenbroker::redis {
namespace {

// However many operations fail at once, the map is not read again sooner.
constexpr absl::Duration kRefreshInterval = absl::Milliseconds(50);
// Slots per node that hold the note on its reign. Moving slots rarely moves all of them at once.
constexpr size_t kNotesPerNode = 3;
// The PrimaryNumber of slots that nobody serves; those of nodes come after it.
constexpr uint64_t kNobodysNumber = 1;

struct Node {
  Endpoint endpoint;
  uint64_t number = 0;
  std::shared_ptr<ConnectionPool> pool;
};

// Immutable, so that it can be read without the lock. Nodes without slots are not in it.
struct SlotMap {
  static constexpr uint16_t kNobody = 0xffff;
  SlotMap() { owners.fill(kNobody); }

  std::vector<std::shared_ptr<const Node>> nodes;
  std::array<uint16_t, kSlotCount> owners;  // indices of `nodes`
  std::vector<Endpoint> replicas;

  const Node* Owner(uint16_t slot) const {
    return owners[slot] == kNobody ? nullptr : nodes[owners[slot]].get();
  }
};

// A node's slots in an order that scatters them, so that neighbours, which move together, are far
// apart. At most `count`.
std::vector<uint16_t> SomeSlots(const SlotMap& map, const Endpoint& endpoint, size_t count) {
  std::vector<uint16_t> slots;
  for (uint32_t i = 0; i < kSlotCount && slots.size() < count; ++i) {
    const auto slot = static_cast<uint16_t>((i * 6763) % kSlotCount);  // odd: visits every slot
    const Node* owner = map.Owner(slot);
    if (owner != nullptr && owner->endpoint == endpoint) slots.push_back(slot);
  }
  return slots;
}

class ClusterTopology : public Topology {
 public:
  ClusterTopology(TopologyOptions options, std::vector<Endpoint> seeds)
      : options_(std::move(options)), seeds_(std::move(seeds)), observer_(options_.reign) {}

  absl::StatusOr<std::shared_ptr<ConnectionPool>> Route(std::string_view key) override
      ABSL_LOCKS_EXCLUDED(mutex_) {
    TB_ASSIGN_OR_RETURN(const std::shared_ptr<const SlotMap> map, CurrentMap());
    if (const Node* owner = map->Owner(HashSlot(key))) return owner->pool;
    MutexLock lock(mutex_);
    stale_ = true;
    return StoreUnavailableError("no node of the Redis cluster serves a slot of the keys");
  }

  uint64_t PrimaryNumber(std::string_view key) const override ABSL_LOCKS_EXCLUDED(mutex_) {
    std::shared_ptr<const SlotMap> map;
    {
      MutexLock lock(mutex_);
      map = map_;
    }
    if (map == nullptr) return 0;
    const Node* owner = map->Owner(HashSlot(key));
    return owner == nullptr ? kNobodysNumber : owner->number;
  }

  std::shared_ptr<ConnectionPool> Follow(const ConnectionPool& from,
                                         std::string_view error) override
      ABSL_LOCKS_EXCLUDED(mutex_) {
    const std::optional<Endpoint> asked = from.primary();
    const std::optional<Redirection> redirection =
        ParseRedirection(error, asked ? asked->host : "");
    if (!redirection) return nullptr;
    MutexLock lock(mutex_);
    const std::shared_ptr<const Node> target = NodeAt(redirection->endpoint);
    if (redirection->ask) {
      ++counters_.asked;
      return target->pool;
    }
    ++counters_.moved;
    stale_ = true;
    if (map_ == nullptr || map_->Owner(redirection->slot) == target.get()) return target->pool;
    // This slot at once; the others when the map is read again.
    auto mended = std::make_shared<SlotMap>(*map_);
    auto found = std::find(mended->nodes.begin(), mended->nodes.end(), target);
    if (found == mended->nodes.end()) found = mended->nodes.insert(found, target);
    mended->owners[redirection->slot] =
        static_cast<uint16_t>(std::distance(mended->nodes.begin(), found));
    map_ = std::move(mended);
    return target->pool;
  }

  void Doubt(const ConnectionPool& pool) override ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    stale_ = true;
    for (const auto& [name, node] : nodes_) {
      if (node->pool.get() == &pool) suspect_ = node->endpoint;
    }
  }

  absl::StatusOr<std::vector<std::string>> ShardTags() override ABSL_LOCKS_EXCLUDED(mutex_) {
    TB_ASSIGN_OR_RETURN(const std::shared_ptr<const SlotMap> map, CurrentMap());
    std::vector<std::string> tags;
    for (const std::shared_ptr<const Node>& node : map->nodes) {
      for (uint16_t slot : SomeSlots(*map, node->endpoint, 1)) tags.push_back(TagOfSlot(slot));
    }
    return tags;
  }

  // Any node will do: what is published at one of them reaches all.
  absl::StatusOr<Listening> Listen(Deadline deadline) override ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::Status first_failure;
    Listening second_best;  // of a node that does not feel well, if there is no other
    for (const Endpoint& endpoint : Candidates()) {
      if (deadline.Passed()) break;
      Listening listening;
      listening.endpoint = endpoint;
      const Deadline share = Deadline::In(deadline.Left() / 2);
      absl::StatusOr<std::unique_ptr<Connection>> connection =
          Connection::Open(endpoint, options_.login, share);
      if (!connection.ok()) {
        if (first_failure.ok()) first_failure = connection.status();
        continue;
      }
      listening.connection = *std::move(connection);
      const absl::StatusOr<ClusterState> state =
          AskForState(*listening.connection, options_.login, share);
      if (state.ok() && state->healthy) return listening;
      if (state.ok()) {
        second_best = std::move(listening);
      } else if (first_failure.ok()) {
        first_failure = state.status();
      }
    }
    if (second_best.connection != nullptr) return second_best;
    if (first_failure.ok()) return StoreUnavailableError("no node of the Redis cluster answers");
    return first_failure;
  }

  bool StillHears(const Endpoint& endpoint, Deadline deadline) override
      ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::StatusOr<std::unique_ptr<Connection>> connection =
        Connection::Open(endpoint, options_.login, deadline);
    if (!connection.ok()) return false;
    const absl::StatusOr<ClusterState> state = AskForState(**connection, options_.login, deadline);
    if (!state.ok()) return false;
    MutexLock lock(mutex_);
    // A node that was cut off keeps its epoch while the others go on.
    return state->healthy && state->epoch >= epoch_;
  }

  absl::Duration HeldBack() const override ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::Duration longest;
    MutexLock lock(mutex_);
    for (const auto& [name, node] : nodes_) {
      longest = std::max(longest, node->pool->held_back());
    }
    return longest;
  }

  Counters counters() const override ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    return counters_;
  }

 private:
  // The node at this address; made if it was not known.
  std::shared_ptr<const Node> NodeAt(const Endpoint& endpoint)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::shared_ptr<const Node>& node = nodes_[endpoint.ToString()];
    if (node == nullptr) {
      node = std::make_shared<const Node>(
          Node{endpoint, ++last_number_,
               std::make_shared<ConnectionPool>(ConnectionPool::Options{
                   .connect = [this,
                               endpoint](Deadline deadline) { return Connect(endpoint, deadline); },
                   .size = options_.pool_size,
                   .connect_timeout = options_.connect_timeout})});
    }
    return node;
  }

  absl::StatusOr<Session> Connect(const Endpoint& endpoint, Deadline deadline)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    Session session;
    session.endpoint = endpoint;
    TB_ASSIGN_OR_RETURN(session.connection, Connection::Open(endpoint, options_.login, deadline));
    std::shared_ptr<const SlotMap> map;
    {
      MutexLock lock(mutex_);
      map = map_;
    }
    std::vector<std::string> tags;
    if (map != nullptr && options_.reign.quarantine > absl::ZeroDuration()) {
      for (uint16_t slot : SomeSlots(*map, endpoint, kNotesPerNode)) {
        tags.push_back(TagOfSlot(slot));
      }
    }
    TB_ASSIGN_OR_RETURN(session.reign, observer_.Observe(*session.connection, tags, deadline));
    return session;
  }

  // The map, read again first if something did not fit it. While one thread reads, the others go on
  // with the old one, if there is one.
  absl::StatusOr<std::shared_ptr<const SlotMap>> CurrentMap() ABSL_LOCKS_EXCLUDED(mutex_) {
    const Deadline deadline = Deadline::In(2 * options_.connect_timeout);
    {
      MutexLock lock(mutex_);
      while (map_ == nullptr && refreshing_) {
        if (deadline.Passed()) return StoreUnavailableError("no node of the Redis cluster answers");
        refreshed_.WaitFor(mutex_, deadline.Left());
      }
      if (map_ != nullptr && (refreshing_ || !stale_ || !next_refresh_.Passed())) return map_;
      refreshing_ = true;
      stale_ = false;
    }
    absl::StatusOr<ClusterView> view = AskNodes(deadline);
    MutexLock lock(mutex_);
    refreshing_ = false;
    refreshed_.NotifyAll();
    next_refresh_ = Deadline::In(kRefreshInterval);
    if (!view.ok()) {
      stale_ = true;
      if (map_ != nullptr) return map_;
      return view.status();
    }
    Adopt(*view);
    return map_;
  }

  void Adopt(const ClusterView& view) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    ++counters_.refreshes;
    epoch_ = view.epoch;
    auto map = std::make_shared<SlotMap>();
    map->replicas = view.replicas;
    std::map<std::string, std::shared_ptr<const Node>> kept;
    for (const ClusterView::Range& range : view.ranges) {
      const std::shared_ptr<const Node> node = NodeAt(range.primary);
      kept.emplace(range.primary.ToString(), node);
      auto found = std::find(map->nodes.begin(), map->nodes.end(), node);
      if (found == map->nodes.end()) found = map->nodes.insert(found, node);
      const auto index = static_cast<uint16_t>(std::distance(map->nodes.begin(), found));
      for (int slot = range.first; slot <= range.last; ++slot) map->owners[slot] = index;
    }
    if (map_ != nullptr) {
      // Slots that were promised to another primary than before: not by MOVED, so by a failover.
      for (const std::shared_ptr<const Node>& node : map->nodes) {
        const auto& before = map_->nodes;
        if (std::find(before.begin(), before.end(), node) == before.end()) {
          ++counters_.primary_changes;
        }
      }
    }
    // The connections to nodes that are no longer primaries go with them.
    nodes_ = std::move(kept);
    map_ = std::move(map);
  }

  // Asks one node after the other. The first that feels well and knows no less than we did is
  // believed; failing that, the one that knows most.
  absl::StatusOr<ClusterView> AskNodes(Deadline deadline) ABSL_LOCKS_EXCLUDED(mutex_) {
    int64_t known_epoch = 0;
    {
      MutexLock lock(mutex_);
      known_epoch = epoch_;
    }
    absl::StatusOr<ClusterView> best =
        StoreUnavailableError("no node of the Redis cluster answers");
    bool first = true;
    for (const Endpoint& endpoint : Candidates()) {
      if (deadline.Passed()) break;
      absl::StatusOr<ClusterView> view =
          AskForView(endpoint, options_.login, Deadline::In(deadline.Left() / 3));
      if (view.ok() && view->healthy && view->epoch >= known_epoch) return view;
      if (view.ok() && (!best.ok() || view->epoch > best->epoch)) {
        best = std::move(view);
      } else if (first && !view.ok()) {
        best = view.status();
      }
      first = false;
    }
    return best;
  }

  // All nodes that are known and then the seeds, in no order but that a node which just failed is
  // the last.
  std::vector<Endpoint> Candidates() ABSL_LOCKS_EXCLUDED(mutex_) {
    thread_local std::minstd_rand random(std::random_device{}());
    std::vector<Endpoint> all;
    Endpoint suspect;
    {
      MutexLock lock(mutex_);
      suspect = suspect_;
      for (const auto& [name, node] : nodes_) all.push_back(node->endpoint);
      if (map_ != nullptr) all.insert(all.end(), map_->replicas.begin(), map_->replicas.end());
    }
    std::shuffle(all.begin(), all.end(), random);
    const size_t learnt = all.size();
    all.insert(all.end(), seeds_.begin(), seeds_.end());
    std::shuffle(all.begin() + static_cast<std::ptrdiff_t>(learnt), all.end(), random);
    std::vector<Endpoint> candidates;
    for (Endpoint& endpoint : all) {
      if (std::find(candidates.begin(), candidates.end(), endpoint) == candidates.end()) {
        candidates.push_back(std::move(endpoint));
      }
    }
    std::stable_partition(candidates.begin(), candidates.end(),
                          [&](const Endpoint& endpoint) { return !(endpoint == suspect); });
    return candidates;
  }

  const TopologyOptions options_;
  const std::vector<Endpoint> seeds_;
  ReignObserver observer_;
  mutable Mutex mutex_;
  CondVar refreshed_;
  std::shared_ptr<const SlotMap> map_ ABSL_GUARDED_BY(mutex_);  // null: not read yet
  // By address: those of the map, and others that a redirection named since.
  std::map<std::string, std::shared_ptr<const Node>> nodes_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_number_ ABSL_GUARDED_BY(mutex_) = kNobodysNumber;
  int64_t epoch_ ABSL_GUARDED_BY(mutex_) = 0;  // of the map
  bool stale_ ABSL_GUARDED_BY(mutex_) = false;
  bool refreshing_ ABSL_GUARDED_BY(mutex_) = false;
  Deadline next_refresh_ ABSL_GUARDED_BY(mutex_) = Deadline::In(absl::ZeroDuration());
  Endpoint suspect_ ABSL_GUARDED_BY(mutex_);
  Counters counters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<Topology> MakeClusterTopology(TopologyOptions options,
                                              std::vector<Endpoint> seeds) {
  return std::make_unique<ClusterTopology>(std::move(options), std::move(seeds));
}

}  // namespace tokenbroker::redis
