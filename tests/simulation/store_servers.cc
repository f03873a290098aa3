#include "tests/simulation/store_servers.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tokenbroker::simulation {

StoreServers::StoreServers(Context* context) : context_(context) {
  for (int i = 0; i <= context_->profile.replicas; ++i) {
    servers_.push_back(std::make_unique<Server>());
    servers_.back()->number = i;
    const Nanos skew = context_->profile.skew;
    servers_.back()->clock = context_->chance().Between(-skew, skew);
  }
  primary_ = servers_[0].get();
  primary_->primary = true;
  primary_->first_seen = -kQuarantine;  // a new store has none
  for (auto& server : servers_) {
    if (server.get() != primary_) Follow(*server, *primary_);
  }
}

Nanos StoreServers::Hop() {
  Nanos delay = context_->chance().Between(20, 400) * kMicro;
  if (context_->Happens(context_->profile.message_late, Fault::kStoreDelay)) {
    delay += context_->chance().Spread(5, 1'500) * kMilli;
  }
  return delay;
}

bool StoreServers::CanReach(int process, const Server& server) const {
  if (IsCut(process)) return false;
  if (isolated_ == nullptr) return true;
  const bool beside = (beside_ >> process & 1) != 0;
  return beside == (isolated_ == &server);
}

Server* StoreServers::Resolve(int process) const {
  if (IsCut(process)) return nullptr;
  if (isolated_ != nullptr && (beside_ >> process & 1) != 0) return isolated_;
  return primary_;
}

bool StoreServers::Accept(Connection& connection) {
  Server& server = *connection.server;
  if (!server.up || !server.primary || !CanReach(connection.process, server)) return false;
  if (server.first_seen == -1) server.first_seen = context_->now();
  connection.reign = server.reign;
  connection.started = server.started;
  connection.quarantine_end =
      context_->defect == Defect::kNoQuarantine ? 0 : server.first_seen + kQuarantine;
  return true;
}

void StoreServers::Send(const std::shared_ptr<Connection>& connection, Script script) {
  if (!CanReach(connection->process, *connection->server)) return;
  if (context_->Happens(context_->profile.request_lost, Fault::kStoreRequestLost)) return;
  context_->scheduler.Post(nullptr, Hop(), [this, connection, script = std::move(script)] {
    Arrive(connection, script);
  });
}

void StoreServers::Arrive(const std::shared_ptr<Connection>& connection, const Script& script) {
  Server& server = *connection->server;
  if (!CanReach(connection->process, server)) return;
  if (!server.up || server.started != connection->started ||
      (server.reign != connection->reign && context_->profile.connections_killed)) {
    Reply reset;
    reset.kind = Reply::Kind::kReset;
    Answer(connection, std::move(reset));
    return;
  }
  Answer(connection, script(server));
}

void StoreServers::Answer(const std::shared_ptr<Connection>& connection, Reply reply) {
  if (context_->Happens(context_->profile.reply_lost, Fault::kStoreReplyLost)) return;
  context_->scheduler.Post(nullptr, Hop(), [this, connection, reply = std::move(reply)]() mutable {
    Deliver(connection, std::move(reply));
  });
}

void StoreServers::Deliver(const std::shared_ptr<Connection>& connection, Reply reply) {
  if (connection->closed || !CanReach(connection->process, *connection->server)) return;
  connection->inbox.push_back(std::move(reply));
  context_->scheduler.Wake(connection->reader);
}

void StoreServers::SendWait(const std::shared_ptr<Connection>& connection, int acks,
                            Nanos timeout) {
  if (!CanReach(connection->process, *connection->server)) return;
  if (context_->Happens(context_->profile.request_lost, Fault::kStoreRequestLost)) return;
  context_->scheduler.Post(nullptr, Hop(), [this, connection, acks, timeout] {
    Server& server = *connection->server;
    if (!server.up || !server.primary || server.reign != connection->reign) {
      Arrive(connection, [](Server&) {
        Reply reply;
        reply.kind = Reply::Kind::kReset;
        return reply;
      });
      return;
    }
    const uint64_t number = ++waits_;
    server.waiting.push_back({number, connection, server.log.size(), acks});
    EndWaits(server, false);
    if (server.waiting.empty() || server.waiting.back().number != number) return;
    context_->scheduler.Post(nullptr, timeout, [this, &server, number] {
      const auto it = std::find_if(server.waiting.begin(), server.waiting.end(),
                                   [&](const auto& w) { return w.number == number; });
      if (it == server.waiting.end()) return;
      const Server::Waiting over = *it;
      server.waiting.erase(it);
      Reply reply;
      reply.kind = Reply::Kind::kCount;
      for (const size_t known : server.acknowledged) reply.count += known >= over.offset ? 1 : 0;
      Answer(over.connection, std::move(reply));
    });
  });
}

void StoreServers::EndWaits(Server& server, bool all) {
  std::erase_if(server.waiting, [&](const Server::Waiting& waiting) {
    Reply reply;
    reply.kind = all ? Reply::Kind::kReset : Reply::Kind::kCount;
    for (const size_t known : server.acknowledged) reply.count += known >= waiting.offset ? 1 : 0;
    if (!all && reply.count < waiting.acks) return false;
    Answer(waiting.connection, std::move(reply));
    return true;
  });
}

void StoreServers::Write(Server& server, int grant, Version version) {
  server.records[static_cast<size_t>(grant)] = version;
  server.log.push_back({grant, std::move(version)});
  for (auto& other : servers_) {
    if (other->follows == &server) Replicate(*other);
  }
}

void StoreServers::Preset(int grant, const GrantRecord& record) {
  auto shared = std::make_shared<const GrantRecord>(record);
  for (auto& server : servers_) {
    server->records[static_cast<size_t>(grant)] = {shared};
    server->log.push_back({grant, {shared}});
    server->sent = server->log.size();
    primary_->acknowledged[static_cast<size_t>(server->number)] = server->log.size();
  }
  primary_->acknowledged[static_cast<size_t>(primary_->number)] = 0;
}

void StoreServers::Publish(const Server& server, int grant, const GrantRecord& record) {
  const ChangeEvent event{context_->grants[static_cast<size_t>(grant)], record.generation,
                          record.state};
  for (size_t i = 0; i < listeners_.size(); ++i) {
    Listener& listener = listeners_[i];
    if (listener.server != &server || listener.gate == nullptr || listener.deaf ||
        !CanReach(static_cast<int>(i), server)) {
      continue;
    }
    Nanos delay = Hop();
    if (context_->Happens(context_->profile.event_late, Fault::kEventDelayed)) {
      delay += context_->chance().Spread(1, 1'000) * kMilli;
    }
    listener.next_arrival = std::max(listener.next_arrival, context_->now() + delay);
    context_->scheduler.Post(listener.gate, listener.next_arrival - context_->now(),
                             [&listener, event, gate = listener.gate] {
                               if (listener.gate == gate && !listener.deaf) listener.tell(event);
                             });
  }
}

void StoreServers::Replicate(Server& replica) {
  Server& from = *replica.follows;
  if (replica.stalled || !replica.in_sync || !from.up || isolated_ == &from) return;
  if (replica.sent == from.log.size()) return;
  replica.sent = from.log.size();
  replica.next_arrival = std::max(replica.next_arrival,
                                  context_->now() + context_->chance().Between(20, 300) * kMicro);
  context_->scheduler.Post(nullptr, replica.next_arrival - context_->now(),
                           [this, &replica, &from, link = replica.link, target = replica.sent] {
                             if (replica.link != link) return;
                             while (replica.log.size() < target) {
                               const Server::Write& write = from.log[replica.log.size()];
                               replica.log.push_back(write);
                               replica.records[static_cast<size_t>(write.grant)] = write.version;
                             }
                             context_->scheduler.Post(
                                 nullptr, context_->chance().Between(20, 300) * kMicro,
                                 [this, &from, link, target, number = replica.number] {
                                   Acknowledge(from, link, number, target);
                                 });
                           });
}

void StoreServers::Acknowledge(Server& primary, int64_t link, int replica, size_t offset) {
  const Server& from = *servers_[static_cast<size_t>(replica)];
  if (from.link != link || !primary.up || isolated_ == &primary) return;
  size_t& known = primary.acknowledged[static_cast<size_t>(replica)];
  known = std::max(known, offset);
  EndWaits(primary, false);
}

void StoreServers::Follow(Server& replica, Server& primary) {
  replica.primary = false;
  replica.follows = &primary;
  replica.link = ++links_;
  primary.acknowledged[static_cast<size_t>(replica.number)] = 0;
  if (primary.log.empty() && replica.log.empty()) return;
  replica.in_sync = false;  // nothing goes over the link before the copy has come
  context_->scheduler.Post(nullptr, context_->chance().Between(1, 500) * kMilli,
                           [this, &replica, link = replica.link] {
                             if (replica.link == link) ResyncFully(replica);
                           });
}

void StoreServers::ResyncFully(Server& replica) {
  Server& from = *replica.follows;
  replica.log = from.log;
  replica.records = from.records;
  replica.sent = replica.log.size();
  replica.in_sync = true;
  replica.next_arrival = context_->now();
  Acknowledge(from, replica.link, replica.number, replica.sent);
}

void StoreServers::StepDown(Server& server) {
  server.primary = false;
  server.reign = ++reigns_;
  EndWaits(server, true);
  if (primary_ != &server) Follow(server, *primary_);
}

void StoreServers::Promote(Server& server) {
  context_->trace.Add("promoted", -1, server.number, static_cast<int64_t>(server.log.size()));
  server.primary = true;
  server.reign = ++reigns_;
  server.first_seen = -1;
  server.follows = nullptr;
  server.link = ++links_;
  server.stalled = false;
  server.acknowledged = {};
  primary_ = &server;
  for (auto& other : servers_) {
    if (other.get() != &server && other->up && other.get() != isolated_) Follow(*other, server);
  }
  context_->judge.ForgetThrottles();
  CheckToldIsKept(server);
  if (on_change_) on_change_();
}

bool StoreServers::IsCandidate(const Server& server) const {
  return server.up && &server != isolated_ && server.follows == primary_ && server.in_sync;
}

bool StoreServers::HasCandidate() const {
  return std::any_of(servers_.begin(), servers_.end(),
                     [this](const auto& server) { return IsCandidate(*server); });
}

void StoreServers::Elect() {
  Server* best = nullptr;
  for (auto& server : servers_) {
    if (!IsCandidate(*server)) continue;
    if (best == nullptr || server->log.size() > best->log.size()) best = server.get();
  }
  if (best != nullptr) Promote(*best);
}

void StoreServers::CheckToldIsKept(const Server& server) {
  for (size_t grant = 0; grant < context_->grants.size(); ++grant) {
    const GrantRecord* record = server.records[grant].record.get();
    const int64_t generation = record == nullptr ? 0 : record->generation;
    for (const Judge::Told& told : context_->judge.told(static_cast<int>(grant))) {
      bool kept = generation >= told.generation;
      if (kept && !told.attempt_id.empty()) {
        kept = std::any_of(server.log.begin(), server.log.end(), [&](const Server::Write& write) {
          const GrantRecord& written = *write.version.record;
          return write.grant == static_cast<int>(grant) && written.generation == told.generation &&
                 (written.last_commit_attempt == told.attempt_id ||
                  written.last_register_attempt == told.attempt_id);
        });
      }
      if (kept) continue;
      context_->judge.Break(told.promise,
                            absl::StrCat("grant ", grant, ": generation ", told.generation,
                                         " was told to be stored, and server ", server.number,
                                         ", now primary, ", "does not have it"));
    }
  }
}

bool StoreServers::KillPrimary() {
  if (failing_over_ || !HasCandidate()) return false;
  failing_over_ = true;
  Server& old = *primary_;
  context_->trace.Add("primary killed", -1, old.number);
  old.up = false;
  if (on_change_) on_change_();
  ++old.started;
  old.waiting.clear();
  context_->scheduler.Post(nullptr, context_->chance().Spread(100, 8'000) * kMilli, [this, &old] {
    old.primary = false;
    Elect();
    context_->scheduler.Post(nullptr, context_->chance().Spread(100, 60'000) * kMilli,
                             [this, &old] {
                               context_->trace.Add("server is back", -1, old.number);
                               old.up = true;
                               old.reign = ++reigns_;
                               Follow(old, *primary_);
                               failing_over_ = false;
                             });
  });
  return true;
}

bool StoreServers::PartitionPrimary(uint64_t processes_with_it) {
  if (failing_over_ || !HasCandidate()) return false;
  failing_over_ = true;
  Server& old = *primary_;
  context_->trace.Add("primary isolated", -1, old.number, static_cast<int64_t>(processes_with_it));
  isolated_ = &old;
  beside_ = processes_with_it;
  old.acknowledged = {};
  if (on_change_) on_change_();
  // Nothing that is on its way between them arrives.
  for (auto& other : servers_) {
    if (other->follows == &old) other->link = ++links_;
  }
  context_->scheduler.Post(nullptr, context_->chance().Spread(100, 8'000) * kMilli,
                           [this] { Elect(); });
  context_->scheduler.Post(
      nullptr, context_->chance().Spread(8'100, 90'000) * kMilli, [this, &old] {
        context_->trace.Add("partition over", -1, old.number);
        isolated_ = nullptr;
        beside_ = 0;
        if (on_change_) on_change_();
        // The others tell it some time later.
        context_->scheduler.Post(nullptr, context_->chance().Below(1'000) * kMilli, [this, &old] {
          StepDown(old);
          failing_over_ = false;
        });
      });
  return true;
}

bool StoreServers::RestartPrimary() {
  if (failing_over_) return false;
  failing_over_ = true;
  Server& server = *primary_;
  context_->trace.Add("primary restarts", -1, server.number);
  server.up = false;
  if (on_change_) on_change_();
  ++server.started;
  server.waiting.clear();
  for (auto& other : servers_) {
    if (other->follows == &server) other->link = ++links_;
  }
  context_->scheduler.Post(nullptr, context_->chance().Spread(50, 3'000) * kMilli, [this, &server] {
    // What no replica has may be lost.
    size_t kept = 0;
    for (auto& other : servers_) {
      if (other->follows == &server) kept = std::max(kept, other->log.size());
    }
    if (kept < server.log.size()) {
      kept = static_cast<size_t>(context_->chance().Between(
          static_cast<int64_t>(kept), static_cast<int64_t>(server.log.size())));
      server.log.resize(kept);
      server.records = {};
      for (const Server::Write& write : server.log) {
        server.records[static_cast<size_t>(write.grant)] = write.version;
      }
    }
    server.up = true;
    Promote(server);
    failing_over_ = false;
  });
  return true;
}

bool StoreServers::StallReplication(Nanos duration) {
  if (stalling_) return false;
  stalling_ = true;
  context_->trace.Add("replication stalls", -1, duration / kMilli);
  for (auto& server : servers_) server->stalled = true;
  context_->scheduler.Post(nullptr, duration, [this] {
    stalling_ = false;
    for (auto& server : servers_) {
      server->stalled = false;
      if (server->follows != nullptr) Replicate(*server);
    }
  });
  return true;
}

void StoreServers::CutProcess(int process, Nanos duration) {
  if (IsCut(process)) return;
  context_->trace.Add("cut off", process, duration / kMilli);
  cut_ |= uint64_t{1} << process;
  if (on_change_) on_change_();
  context_->scheduler.Post(nullptr, duration, [this, process] {
    cut_ &= ~(uint64_t{1} << process);
    if (on_change_) on_change_();
  });
}

void StoreServers::Heal() {
  cut_ = 0;
  for (auto& server : servers_) {
    server->stalled = false;
    if (server->follows != nullptr) Replicate(*server);
  }
  if (on_change_) on_change_();
}

}  // namespace tokenbroker::simulation
