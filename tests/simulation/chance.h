#ifndef TOKEN_BROKER_TESTS_SIMULATION_CHANCE_H_
#define TOKEN_BROKER_TESTS_SIMULATION_CHANCE_H_

#include <cstdint>

namespace tokenbroker::simulation {

// Chance from a seed: the same numbers everywhere (SplitMix64).
class Chance {
 public:
  explicit Chance(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15 + 0x1234567) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // 0 to `below` - 1.
  int64_t Below(int64_t below) {
    return static_cast<int64_t>(Next() % static_cast<uint64_t>(below));
  }
  int64_t Between(int64_t low, int64_t high) { return low + Below(high - low + 1); }
  // In `parts` of a million.
  bool Millionths(int64_t parts) { return parts > 0 && Below(1'000'000) < parts; }
  bool Percent(int64_t parts) { return Below(100) < parts; }
  // Between the two, small ones as often as large ones: each doubling of the length is as likely as
  // any other. Integers only, so that no library's rounding counts.
  int64_t Spread(int64_t low, int64_t high) {
    int doublings = 0;
    while ((low << (doublings + 1)) < high) ++doublings;
    const int64_t from = low << Below(doublings + 1);
    const int64_t to = from * 2 < high ? from * 2 : high;
    return Between(from, to);
  }

 private:
  uint64_t state_;
};

}  // namespace tokenbroker::simulation

#endif  // TOKEN_BROKER_TESTS_SIMULATION_CHANCE_H_
