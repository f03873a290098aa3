#ifndef TOKEN_BROKER_TESTS_SIMULATION_FIBER_H_
#define TOKEN_BROKER_TESTS_SIMULATION_FIBER_H_

#include <ucontext.h>

#include <cstddef>
#include <functional>

namespace tokenbroker::simulation {

// A stack of its own on which blocking code runs and stops in between. It belongs to the thread
// that made it, as all fibers of a simulation do. Address- and ThreadSanitizer are told of every
// switch.
class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // What the next Resume begins with. Only while nothing is under way. No exception leaves it.
  void Start(std::function<void()> body) { body_ = std::move(body); }
  // From outside: runs the body until it ends or calls Suspend. False: it has ended.
  bool Resume();
  // From the body: back to whoever called Resume.
  void Suspend();

 private:
  static void Enter(unsigned high, unsigned low);
  void Loop();

  std::function<void()> body_;
  ucontext_t own_;
  ucontext_t outside_;
  char* memory_ = nullptr;  // with a page that must not be touched below the stack
  char* stack_ = nullptr;
  // For the sanitizers.
  [[maybe_unused]] void* own_shadow_ = nullptr;
  [[maybe_unused]] void* outside_shadow_ = nullptr;
  [[maybe_unused]] const void* outside_stack_ = nullptr;
  [[maybe_unused]] size_t outside_size_ = 0;
};

}  // namespace tokenbroker::simulation

#endif  // TOKEN_BROKER_TESTS_SIMULATION_FIBER_H_
