#include "tests/simulation/scheduler.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>

namespace tokenbroker::simulation {
namespace {

// Stacks of schedules before.
std::vector<std::unique_ptr<Strand>>& IdleStrands() {
  thread_local std::vector<std::unique_ptr<Strand>> idle;
  return idle;
}

}  // namespace

Nanos Gate::FrozenBetween(Nanos from, Nanos to, Nanos now) const {
  Nanos total = 0;
  for (const auto& [begin, end] : freezes) {
    total += std::max<Nanos>(0, std::min(to, end < 0 ? now : end) - std::max(from, begin));
  }
  return total;
}

Scheduler::~Scheduler() {
  // Whoever ends a schedule kills its gates first.
  for (const Event& event : events_) {
    if (event.strand != nullptr && event.strand->blocked == event.wait) std::abort();
  }
}

void Scheduler::Push(Event event) {
  event.order = chance_.Next();
  events_.push_back(std::move(event));
  std::push_heap(events_.begin(), events_.end(), Later());
}

void Scheduler::Post(Gate* gate, Nanos delay, std::function<void()> what) {
  if ((gate != nullptr && gate->dead) || delay >= kNever) return;
  Push({.at = now_ + std::max<Nanos>(0, delay), .gate = gate, .what = std::move(what)});
}

void Scheduler::Spawn(Gate* gate, std::function<void()> body, std::function<void()> on_end) {
  auto& idle = IdleStrands();
  if (idle.empty()) idle.push_back(std::make_unique<Strand>());
  Strand* strand = idle.back().release();
  idle.pop_back();
  strand->gate = gate;
  strand->mark = -1;
  strand->minted.clear();
  strand->on_end = std::move(on_end);
  strand->fiber.Start(std::move(body));
  strand->blocked = ++waits_;
  strand->woken = false;
  if (gate != nullptr) gate->strands.push_back(strand);
  Push({.at = now_, .gate = gate, .strand = strand, .wait = strand->blocked});
}

bool Scheduler::Block(Nanos timeout) {
  Strand* self = current_;
  if (self == nullptr) std::abort();  // timers and callbacks must not block
  if (self->gate != nullptr && self->gate->dead) return false;
  self->blocked = ++waits_;
  self->woken = false;
  if (timeout < kNever) {
    Push({.at = now_ + std::max<Nanos>(0, timeout),
          .gate = self->gate,
          .strand = self,
          .wait = self->blocked});
  }
  self->fiber.Suspend();
  return self->woken && (self->gate == nullptr || !self->gate->dead);
}

void Scheduler::Wake(Strand* strand) {
  if (strand == nullptr || strand->blocked == 0 || strand->woken) return;
  strand->woken = true;
  Push({.at = now_, .gate = strand->gate, .strand = strand, .wait = strand->blocked});
}

void Scheduler::Resume(Strand* strand) {
  Strand* const before = current_;
  current_ = strand;
  strand->blocked = 0;
  const bool goes_on = strand->fiber.Resume();
  if (!goes_on) {
    if (strand->gate != nullptr) std::erase(strand->gate->strands, strand);
    if (strand->on_end) strand->on_end();
    strand->on_end = nullptr;
    IdleStrands().emplace_back(strand);
  }
  current_ = before;
}

bool Scheduler::Step() {
  while (!events_.empty()) {
    std::pop_heap(events_.begin(), events_.end(), Later());
    Event event = std::move(events_.back());
    events_.pop_back();
    if (event.strand != nullptr && event.strand->blocked != event.wait) continue;
    if (event.gate != nullptr && event.gate->dead) continue;
    now_ = std::max(now_, event.at);
    if (event.gate != nullptr && event.gate->frozen) {
      held_back_.emplace_back(event.gate, std::move(event));
      continue;
    }
    ++steps_;
    if (event.strand != nullptr) {
      Resume(event.strand);
    } else {
      event.what();
    }
    return true;
  }
  return false;
}

void Scheduler::Freeze(Gate& gate) {
  if (gate.frozen || gate.dead) return;
  gate.frozen = true;
  gate.freezes.emplace_back(now_, -1);
}

void Scheduler::Thaw(Gate& gate) {
  if (!gate.frozen) return;
  gate.frozen = false;
  gate.freezes.back().second = now_;
  std::vector<std::pair<Gate*, Event>> held = std::move(held_back_);
  held_back_.clear();
  for (auto& [owner, event] : held) {
    if (owner != &gate) {
      held_back_.emplace_back(owner, std::move(event));
    } else if (!gate.dead) {
      event.at = now_;
      Push(std::move(event));
    }
  }
}

void Scheduler::Kill(Gate& gate) {
  if (gate.dead) return;
  gate.dead = true;
  if (gate.frozen) {
    gate.frozen = false;
    gate.freezes.back().second = now_;
  }
  while (!gate.strands.empty()) {
    if (gate.strands.front() == current_) std::abort();
    Resume(gate.strands.front());
  }
  Drop(gate);
}

void Scheduler::Drop(Gate& gate) {
  // What is dropped may hold the last reference to something that calls back: not while the heap
  // is being changed.
  std::vector<Event> dropped;
  const auto split = std::partition(events_.begin(), events_.end(),
                                    [&](const Event& event) { return event.gate != &gate; });
  std::move(split, events_.end(), std::back_inserter(dropped));
  events_.erase(split, events_.end());
  std::make_heap(events_.begin(), events_.end(), Later());
  std::erase_if(held_back_, [&](auto& held) {
    if (held.first != &gate) return false;
    dropped.push_back(std::move(held.second));
    return true;
  });
}

}  // namespace tokenbroker::simulation
