#ifndef TOKEN_BROKER_TESTS_SIMULATION_TRACE_H_
#define TOKEN_BROKER_TESTS_SIMULATION_TRACE_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/simulation/scheduler.h"

namespace tokenbroker::simulation {

// What happened, in order: a hash of all of it, and the newest lines in full.
class Trace {
 public:
  // `print`: every line at once, to standard output.
  Trace(const Scheduler* scheduler, bool print) : scheduler_(scheduler), print_(print) {}

  // `what` must live for ever. `who` is a process (0, 1, …), or -1: the world. The rest are numbers
  // that mean something for this kind of line.
  void Add(std::string_view what, int who, int64_t a = 0, int64_t b = 0, int64_t c = 0);

  uint64_t hash() const { return hash_; }
  // The newest lines, oldest first.
  std::vector<std::string> Tail() const;

 private:
  struct Line {
    Nanos at = 0;
    std::string_view what;
    int who = 0;
    int64_t a = 0, b = 0, c = 0;
  };
  static std::string Text(const Line& line);

  const Scheduler* const scheduler_;
  const bool print_;
  uint64_t hash_ = 14695981039346656037u;
  uint64_t count_ = 0;
  std::array<Line, 256> lines_;
};

}  // namespace tokenbroker::simulation

#endif  // TOKEN_BROKER_TESTS_SIMULATION_TRACE_H_
