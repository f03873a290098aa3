#ifndef TOKEN_BROKER_TESTS_SIMULATION_SCHEDULER_H_
#define TOKEN_BROKER_TESTS_SIMULATION_SCHEDULER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "tests/simulation/chance.h"
#include "tests/simulation/fiber.h"

namespace tokenbroker::simulation {

// Virtual time since the start of the schedule, in nanoseconds.
using Nanos = int64_t;
inline constexpr Nanos kMicro = 1'000;
inline constexpr Nanos kMilli = 1'000'000;
inline constexpr Nanos kSecond = 1'000'000'000;
inline constexpr Nanos kNever = INT64_MAX / 4;

class Scheduler;
struct Strand;

// What stands still and ends together: a process. What belongs to none goes on whatever happens to
// processes: the network, the servers, the operator.
struct Gate {
  int number = 0;
  bool frozen = false;
  bool dead = false;
  // From when until when it stood still; the last one may still be under way.
  std::vector<std::pair<Nanos, Nanos>> freezes;
  std::vector<Strand*> strands;  // blocking code under way, in the order in which it began

  // How much of the time between the two it stood still.
  Nanos FrozenBetween(Nanos from, Nanos to, Nanos now) const;
};

// Blocking code under way: one task of an executor.
struct Strand {
  Fiber fiber;
  Gate* gate = nullptr;
  uint64_t blocked = 0;  // which of its waits it is in; 0: it runs
  bool woken = false;
  std::function<void()> on_end;
  // Notes of those who look on; see judge.h.
  int mark = -1;
  Nanos checked_at = 0;
  std::vector<int> minted;
};

// Runs one thing at a time; the seed decides which. Whatever can happen is an event at a time; of
// those that are due at the same time a drawn one is next, and time moves only when none is left.
class Scheduler {
 public:
  explicit Scheduler(uint64_t seed) : chance_(seed) {}
  ~Scheduler();

  Nanos now() const { return now_; }
  Chance& chance() { return chance_; }
  // Events that were run.
  int64_t steps() const { return steps_; }

  // `gate` null: of the world.
  void Post(Gate* gate, Nanos delay, std::function<void()> what);
  // On a stack of its own, so that it may block. `on_end` runs after it.
  void Spawn(Gate* gate, std::function<void()> body, std::function<void()> on_end);

  // Of the running strand; null: none, what runs must not block.
  Strand* current() const { return current_; }
  // Stops the running strand until Wake or for `timeout`. False: the time is over, or its gate is
  // dead (then at once).
  bool Block(Nanos timeout);
  void Wake(Strand* strand);

  // Runs the next event. False: there is none.
  bool Step();

  void Freeze(Gate& gate);
  void Thaw(Gate& gate);
  // Ends it: its strands run to their ends, with Block returning at once, and nothing that was to
  // come for it comes. Not from one of its own strands.
  void Kill(Gate& gate);
  // Drops what was to come.
  void Drop(Gate& gate);

 private:
  struct Event {
    Nanos at = 0;
    uint64_t order = 0;  // drawn
    Gate* gate = nullptr;
    Strand* strand = nullptr;  // to be resumed, if it still is in this wait
    uint64_t wait = 0;
    std::function<void()> what;
  };
  struct Later {
    bool operator()(const Event& a, const Event& b) const {
      return a.at != b.at ? a.at > b.at : a.order > b.order;
    }
  };

  void Push(Event event);
  void Resume(Strand* strand);

  Chance chance_;
  Nanos now_ = 0;
  int64_t steps_ = 0;
  uint64_t waits_ = 0;
  Strand* current_ = nullptr;
  std::vector<Event> events_;                       // a heap
  std::vector<std::pair<Gate*, Event>> held_back_;  // of frozen gates
};

}  // namespace tokenbroker::simulation

#endif  // TOKEN_BROKER_TESTS_SIMULATION_SCHEDULER_H_
