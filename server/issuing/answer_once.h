#ifndef TOKEN_BROKER_SERVER_ISSUING_ANSWER_ONCE_H_
#define TOKEN_BROKER_SERVER_ISSUING_ANSWER_ONCE_H_

#include <atomic>
#include <functional>
#include <utility>

#include "absl/status/statusor.h"
#include "common/errors.h"

namespace tokenbroker {

// A callback for which several race: the work, an early answer, the caller's deadline. It is called
// exactly once: with the first answer, or, when all who could answer are gone without having done
// so (an executor that shuts down drops its tasks), with SHUTTING_DOWN. Shared by those who may
// answer. Thread-safe.
template <typename Answer>
class AnswerOnce {
 public:
  using Callback = std::function<void(absl::StatusOr<Answer>)>;

  explicit AnswerOnce(Callback callback) : callback_(std::move(callback)) {}
  ~AnswerOnce() { Call(ShuttingDownError()); }
  AnswerOnce(const AnswerOnce&) = delete;
  AnswerOnce& operator=(const AnswerOnce&) = delete;

  void Call(absl::StatusOr<Answer> answer) {
    if (!called_.exchange(true)) callback_(std::move(answer));
  }
  bool called() const { return called_; }

 private:
  std::atomic<bool> called_{false};
  const Callback callback_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_ISSUING_ANSWER_ONCE_H_
