#include "tests/simulation/store_client.h"

#include <algorithm>

#include "common/errors.h"
#include "storage/protocol.h"

namespace tokenbroker::simulation {
namespace {

// As store.redis has them by default (config.proto).
constexpr Nanos kCommandTimeout = 250 * kMilli;
constexpr Nanos kConnectTimeout = 500 * kMilli;
constexpr Nanos kAckTimeout = 200 * kMilli;
constexpr int kTries = 3;
constexpr Nanos kFirstPoll = 100 * kMilli;
constexpr Nanos kLongestPoll = 500 * kMilli;

absl::Status Down() { return StoreUnavailableError("the simulated store"); }

}  // namespace

SimulatedStore::SimulatedStore(Seams* seams, StoreServers* servers)
    : seams_(seams), context_(seams->context), servers_(servers) {
  Subscribe();
}

void SimulatedStore::Close() {
  servers_->listener(seams_->process) = {};
  for (const auto& connection : idle_) connection->closed = true;
}

// --- Connections

std::shared_ptr<Connection> SimulatedStore::Take(bool fresh) {
  if (!fresh && !idle_.empty()) {
    std::shared_ptr<Connection> connection = std::move(idle_.back());
    idle_.pop_back();
    return connection;
  }
  auto connection = std::make_shared<Connection>();
  connection->process = seams_->process;
  connection->server = servers_->Resolve(seams_->process);
  const bool reached =
      connection->server != nullptr && servers_->CanReach(seams_->process, *connection->server);
  // Nobody answers at all, or somebody at least refuses.
  const Nanos delay = reached ? context_->chance().Between(100, 1'000) * kMicro : kConnectTimeout;
  context_->scheduler.Block(delay);
  if (seams_->dead() || !reached || !servers_->Accept(*connection)) return nullptr;
  if (connection->reign != reign_) {
    for (const auto& old : idle_) old->closed = true;
    idle_.clear();
    reign_ = connection->reign;
  }
  return connection;
}

void SimulatedStore::Return(std::shared_ptr<Connection> connection) {
  if (connection->reign == reign_) {
    idle_.push_back(std::move(connection));
  } else {
    connection->closed = true;
  }
}

std::optional<Reply> SimulatedStore::Execute(const std::shared_ptr<Connection>& connection,
                                             Nanos timeout, const std::function<void()>& send) {
  if (!seams_->Pass()) return std::nullopt;
  send();
  const Nanos deadline = now() + timeout;
  while (connection->inbox.empty()) {
    connection->reader = context_->scheduler.current();
    const bool woken = context_->scheduler.Block(deadline - now());
    connection->reader = nullptr;
    if (!woken) return std::nullopt;
  }
  Reply reply = std::move(connection->inbox.front());
  connection->inbox.pop_front();
  return reply;
}

absl::StatusOr<SimulatedStore::Answered> SimulatedStore::Run(const Call& call) {
  for (int count = 1;; ++count) {
    if (!seams_->Pass()) return Down();
    const std::shared_ptr<Connection> connection = Take(count > 1);
    if (connection != nullptr) {
      std::optional<Reply> reply = Execute(connection, kCommandTimeout, [&] {
        const Nanos quarantine = std::max<Nanos>(0, connection->quarantine_end - now());
        servers_->Send(connection, [call, connection, quarantine](Server& server) {
          Reply answer;
          if (call.fenced && server.reign != connection->reign) {
            answer.kind = Reply::Kind::kDeposed;
          } else if (!call.reads && !server.primary) {
            answer.kind = Reply::Kind::kReadOnly;
          } else {
            answer = call.script(server, quarantine);
          }
          return answer;
        });
      });
      const bool answered = reply && reply->kind == Reply::Kind::kValue;
      if (answered && reply->operation != call.operation) {
        connection->closed = true;
        return InternalError("an answer to something else");
      }
      bool acknowledged = true;
      if (answered && (call.acknowledged >> reply->outcome & 1) != 0 &&
          context_->defect != Defect::kUncheckedAck) {
        const std::optional<Reply> acks = Execute(connection, kAckTimeout + kCommandTimeout, [&] {
          servers_->SendWait(connection, StoreServers::kAcks, kAckTimeout);
        });
        acknowledged = acks && acks->kind == Reply::Kind::kCount;
        if (acknowledged && acks->count < StoreServers::kAcks) {
          Return(connection);
          if (servers_->Resolve(seams_->process) != connection->server) idle_.clear();
          return StoreNotAcknowledgedError();
        }
      }
      if (seams_->dead()) return Down();
      if (answered && acknowledged) {
        Return(connection);
        return Answered{*std::move(reply), connection->server, connection->quarantine_end};
      }
      if (!reply && context_->defect == Defect::kReusedConnection) {
        Return(connection);
      } else {
        connection->closed = true;
      }
      // What failed may have been replaced as the primary.
      if (servers_->Resolve(seams_->process) != connection->server ||
          (reply && reply->kind == Reply::Kind::kDeposed)) {
        for (const auto& old : idle_) old->closed = true;
        idle_.clear();
      }
    }
    if (count >= kTries || seams_->dead()) return Down();
  }
}

void SimulatedStore::Told(const Answered& answered, int grant, std::string_view promise,
                          int64_t generation, std::string_view attempt_id) {
  context_->judge.OnTold(seams_->process, grant, promise, generation, attempt_id);
  // Told late, by one that has been replaced meanwhile.
  if (answered.server != servers_->primary()) servers_->CheckToldIsKept(*servers_->primary());
}

// --- Changes

void SimulatedStore::WaitForChange(const GrantKey& key, int64_t generation,
                                   absl::Duration timeout) {
  const int grant = context_->GrantOf(key);
  const Nanos until = now() + seams_->ToWorld(timeout);
  for (Nanos poll = kFirstPoll;; poll = std::min(poll * 3 / 2, kLongestPoll)) {
    const absl::StatusOr<Answered> answered = Run(LoadCall(grant));
    if (seams_->dead()) return;
    Nanos rest = kLongestPoll;
    if (answered.ok()) {
      const GrantRecord* record = answered->reply.record.get();
      if (record == nullptr || record->generation > generation) return;
      rest = answered->quarantine_end - now();
      if (LeaseIsLive(context_->limits, *record, answered->reply.server_time)) {
        rest = std::max(rest,
                        absl::ToInt64Nanoseconds(record->lease_end - answered->reply.server_time));
      }
    }
    const Nanos left = std::min(rest, until - now());
    if (left <= 0) return;
    Strand* self = context_->scheduler.current();
    waiting_.emplace_back(grant, self);
    context_->scheduler.Block(std::min(left, poll / 100 * context_->chance().Between(75, 125)));
    std::erase_if(waiting_, [&](const auto& entry) { return entry.second == self; });
  }
}

void SimulatedStore::OnMessage(const ChangeEvent& event) {
  if (listener_) listener_(event);
  const int grant = context_->GrantOf(event.key);
  for (const auto& [waited_for, strand] : waiting_) {
    if (waited_for == grant) context_->scheduler.Wake(strand);
  }
}

void SimulatedStore::Subscribe() {
  Server* server = servers_->Resolve(seams_->process);
  if (server == nullptr || !server->up || !servers_->CanReach(seams_->process, *server)) {
    context_->scheduler.Post(seams_->gate, context_->chance().Between(50, 1'500) * kMilli,
                             [this] { Subscribe(); });
    return;
  }
  StoreServers::Listener& listener = servers_->listener(seams_->process);
  listener.server = server;
  listener.gate = seams_->gate;
  listener.deaf = false;
  listener.tell = [this](const ChangeEvent& event) { OnMessage(event); };
  ++subscription_;
  session_ = ++sessions_;
  for (const auto& [grant, strand] : waiting_) context_->scheduler.Wake(strand);
}

void SimulatedStore::EndSubscription() {
  if (session_ == 0) return;
  session_ = 0;
  ++subscription_;
  servers_->listener(seams_->process).server = nullptr;
  context_->scheduler.Post(seams_->gate, context_->chance().Between(50, 1'500) * kMilli,
                           [this] { Subscribe(); });
}

void SimulatedStore::LoseSubscription(bool silently) {
  if (!silently) {
    EndSubscription();
    return;
  }
  servers_->listener(seams_->process).deaf = true;
  // A PING after a second of silence, and a second for its answer.
  context_->scheduler.Post(seams_->gate, context_->chance().Between(500, 2'000) * kMilli,
                           [this, subscription = subscription_] {
                             if (subscription_ == subscription) EndSubscription();
                           });
}

void SimulatedStore::LookAgain() {
  const auto still_hears = [this] {
    const Server* server = servers_->listener(seams_->process).server;
    return server != nullptr && server->up && server == servers_->Resolve(seams_->process) &&
           servers_->CanReach(seams_->process, *server);
  };
  if (session_ == 0 || still_hears()) return;
  const bool gone = !servers_->listener(seams_->process).server->up;
  context_->scheduler.Post(seams_->gate, context_->chance().Below(2'000) * kMilli,
                           [this, subscription = subscription_, still_hears, gone] {
                             if (subscription_ == subscription && (gone || !still_hears()))
                               EndSubscription();
                           });
}

}  // namespace tokenbroker::simulation
