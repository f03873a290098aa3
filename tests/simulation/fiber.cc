#include "tests/simulation/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <utility>

#if defined(__has_feature)
#define TB_HAS_FEATURE(feature) __has_feature(feature)
#else
#define TB_HAS_FEATURE(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || TB_HAS_FEATURE(address_sanitizer)
#define TB_FIBER_ASAN 1
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__) || TB_HAS_FEATURE(thread_sanitizer)
#define TB_FIBER_TSAN 1
#include <sanitizer/tsan_interface.h>
#endif

namespace tokenbroker::simulation {
namespace {

constexpr size_t kPage = 4096;
// The deepest task takes about 10 KiB, several times that under the sanitizers. Pages that are
// never touched cost nothing.
constexpr size_t kStack = 512 * 1024;

}  // namespace

Fiber::Fiber() {
  void* memory = mmap(nullptr, kStack + kPage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kPage, PROT_NONE) != 0) std::abort();
  memory_ = static_cast<char*>(memory);
  stack_ = memory_ + kPage;
  getcontext(&own_);
  own_.uc_stack.ss_sp = stack_;
  own_.uc_stack.ss_size = kStack;
  own_.uc_link = nullptr;
  // makecontext passes ints only.
  const auto self = reinterpret_cast<uintptr_t>(this);
  makecontext(&own_, reinterpret_cast<void (*)()>(&Fiber::Enter), 2,
              static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
#ifdef TB_FIBER_TSAN
  own_shadow_ = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
#ifdef TB_FIBER_TSAN
  __tsan_destroy_fiber(own_shadow_);
#endif
  munmap(memory_, kStack + kPage);
}

void Fiber::Enter(unsigned high, unsigned low) {
  auto* self = reinterpret_cast<Fiber*>((static_cast<uintptr_t>(high) << 32) | low);
#ifdef TB_FIBER_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &self->outside_stack_, &self->outside_size_);
#endif
  self->Loop();
}

void Fiber::Loop() {
  while (true) {
    body_();
    body_ = nullptr;
    Suspend();
  }
}

bool Fiber::Resume() {
#ifdef TB_FIBER_ASAN
  __sanitizer_start_switch_fiber(&outside_shadow_, stack_, kStack);
#endif
#ifdef TB_FIBER_TSAN
  outside_shadow_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(own_shadow_, 0);
#endif
  swapcontext(&outside_, &own_);
#ifdef TB_FIBER_ASAN
  __sanitizer_finish_switch_fiber(outside_shadow_, nullptr, nullptr);
#endif
  return body_ != nullptr;
}

void Fiber::Suspend() {
#ifdef TB_FIBER_ASAN
  __sanitizer_start_switch_fiber(&own_shadow_, outside_stack_, outside_size_);
#endif
#ifdef TB_FIBER_TSAN
  __tsan_switch_to_fiber(outside_shadow_, 0);
#endif
  swapcontext(&own_, &outside_);
#ifdef TB_FIBER_ASAN
  __sanitizer_finish_switch_fiber(own_shadow_, &outside_stack_, &outside_size_);
#endif
}

}  // namespace tokenbroker::simulation
