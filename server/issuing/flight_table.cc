#include "server/issuing/flight_table.h"

#include <utility>

#include "common/errors.h"

namespace tokenbroker {

FlightTable::Joined FlightTable::Join(const GrantKey& key, Waiter waiter) {
  const size_t index = IndexOf(key);
  Shard& shard = shards_[index];
  Joined joined;
  MutexLock lock(shard.mutex);
  if (waiter.ticket != 0) {
    if (const auto place = shard.tickets.find(waiter.ticket); place != shard.tickets.end()) {
      joined.refusal = std::move(place->second.leaving);
      shard.tickets.erase(place);
    }
  }
  const auto found = shard.flights.find(GrantKeyView(key));
  if (joined.refusal.ok() && shard.closed) joined.refusal = ShuttingDownError();
  if (joined.refusal.ok() && found != shard.flights.end()) joined.refusal = found->second.late;
  if (!joined.refusal.ok()) {
    joined.refused = std::move(waiter);
    return joined;
  }

  State& state = found != shard.flights.end() ? found->second : shard.flights[key];
  if (state.flight == nullptr) {
    state.flight = std::make_shared<Flight>(Flight{key, Purpose::kCaller});
    joined.started = state.flight;
    waiter.started_flight = true;
  }
  // The shard's number is part of the ticket, so that a ticket alone finds its shard.
  if (waiter.ticket == 0) waiter.ticket = shard.next_ticket++ * kShards + index;
  joined.ticket = waiter.ticket;
  shard.tickets.emplace(joined.ticket, Place{key});
  state.waiters.emplace(joined.ticket, std::move(waiter));
  return joined;
}

std::shared_ptr<Flight> FlightTable::StartBackground(const GrantKey& key, int64_t version) {
  Shard& shard = shards_[IndexOf(key)];
  MutexLock lock(shard.mutex);
  if (shard.closed) return nullptr;
  State& state = shard.flights[key];
  if (state.flight != nullptr) return nullptr;
  state.flight = std::make_shared<Flight>(Flight{key, Purpose::kBackground, version});
  return state.flight;
}

std::optional<FlightTable::Taken> FlightTable::Take(uint64_t ticket, const absl::Status& why) {
  Shard& shard = shards_[ticket % kShards];
  MutexLock lock(shard.mutex);
  const auto place = shard.tickets.find(ticket);
  if (place == shard.tickets.end()) return std::nullopt;
  if (place->second.between) {
    place->second.leaving = why;
    return std::nullopt;
  }
  GrantKey key = std::move(place->second.key);
  shard.tickets.erase(place);
  return Taken{key, std::move(shard.flights[key].waiters.extract(ticket).mapped())};
}

std::vector<Waiter> FlightTable::TakeIf(const GrantKey& key,
                                        absl::FunctionRef<bool(const Waiter&)> pred) {
  Shard& shard = shards_[IndexOf(key)];
  std::vector<Waiter> taken;
  MutexLock lock(shard.mutex);
  const auto found = shard.flights.find(GrantKeyView(key));
  if (found == shard.flights.end()) return taken;
  std::map<uint64_t, Waiter>& waiters = found->second.waiters;
  for (auto it = waiters.begin(); it != waiters.end();) {
    if (pred(it->second)) {
      shard.tickets.erase(it->first);
      taken.push_back(std::move(it->second));
      it = waiters.erase(it);
    } else {
      ++it;
    }
  }
  return taken;
}

bool FlightTable::AnyWaiter(const GrantKey& key,
                            absl::FunctionRef<bool(const Waiter&)> pred) const {
  const Shard& shard = shards_[IndexOf(key)];
  MutexLock lock(shard.mutex);
  const auto found = shard.flights.find(GrantKeyView(key));
  if (found == shard.flights.end()) return false;
  for (const auto& [ticket, waiter] : found->second.waiters) {
    if (pred(waiter)) return true;
  }
  return false;
}

std::vector<Waiter> FlightTable::MarkLate(const GrantKey& key, const absl::Status& status) {
  Shard& shard = shards_[IndexOf(key)];
  std::vector<Waiter> taken;
  MutexLock lock(shard.mutex);
  State& state = shard.flights[key];
  state.late = status;
  for (auto& [ticket, waiter] : state.waiters) {
    shard.tickets.erase(ticket);
    taken.push_back(std::move(waiter));
  }
  state.waiters.clear();
  return taken;
}

FlightTable::Landed FlightTable::Land(const GrantKey& key) {
  Shard& shard = shards_[IndexOf(key)];
  Landed landed;
  MutexLock lock(shard.mutex);
  const auto found = shard.flights.find(GrantKeyView(key));
  if (found == shard.flights.end()) return landed;
  landed.waiters.reserve(found->second.waiters.size());
  for (auto& [ticket, waiter] : found->second.waiters) {
    shard.tickets[ticket].between = true;
    landed.waiters.push_back(std::move(waiter));
  }
  landed.noted = found->second.noted;
  shard.flights.erase(found);
  return landed;
}

void FlightTable::Forget(uint64_t ticket) {
  Shard& shard = shards_[ticket % kShards];
  MutexLock lock(shard.mutex);
  shard.tickets.erase(ticket);
}

void FlightTable::Close() {
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    shard.closed = true;
  }
}

std::vector<FlightTable::Taken> FlightTable::TakeAll() {
  std::vector<Taken> taken;
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    for (auto& [key, state] : shard.flights) {
      for (auto& [ticket, waiter] : state.waiters) {
        shard.tickets.erase(ticket);
        taken.push_back({key, std::move(waiter)});
      }
      state.waiters.clear();
    }
  }
  return taken;
}

void FlightTable::NoteChange(const GrantKeyView& key, int64_t generation, bool alive) {
  Shard& shard = shards_[IndexOf(key)];
  MutexLock lock(shard.mutex);
  const auto found = shard.flights.find(key);
  if (found == shard.flights.end() || generation < found->second.noted.generation) return;
  found->second.noted = Noted{generation, alive};
}

FlightTable::Noted FlightTable::noted(const GrantKeyView& key) const {
  const Shard& shard = shards_[IndexOf(key)];
  MutexLock lock(shard.mutex);
  const auto found = shard.flights.find(key);
  return found == shard.flights.end() ? Noted{} : found->second.noted;
}

size_t FlightTable::size() const {
  size_t total = 0;
  for (const Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    total += shard.flights.size();
  }
  return total;
}

size_t FlightTable::waiters(const GrantKeyView& key) const {
  const Shard& shard = shards_[IndexOf(key)];
  MutexLock lock(shard.mutex);
  const auto found = shard.flights.find(key);
  return found == shard.flights.end() ? 0 : found->second.waiters.size();
}

}  // namespace tokenbroker
