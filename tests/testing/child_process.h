#ifndef TOKEN_BROKER_TESTS_TESTING_CHILD_PROCESS_H_
#define TOKEN_BROKER_TESTS_TESTING_CHILD_PROCESS_H_

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "common/mutex.h"

namespace tokenbroker::testing {

// A real program as a child of the test: its output is collected, and it does not outlive the test.
class ChildProcess {
 public:
  struct Options {
    std::vector<std::string> argv;                   // argv[0]: a path, or a name that PATH finds
    std::map<std::string, std::string> environment;  // added to the test's own
    std::string input;  // its standard input, closed afterwards unless `keep_input_open`
    bool keep_input_open = false;
  };
  // The test fails at once if the program cannot be started.
  static std::unique_ptr<ChildProcess> Start(Options options);
  // Runs to the end. The test fails if that takes longer than `timeout`.
  struct Result {
    int exit_code = -1;  // 128 + signal where a signal ended it
    std::string out;
    std::string err;
  };
  static Result Run(Options options, absl::Duration timeout = absl::Seconds(60));

  // SIGKILL, if it still runs.
  ~ChildProcess();

  // The first line of standard output for which `pred` is true, waiting for it at most `timeout`;
  // nullopt: it did not come, or the program ended without it.
  std::optional<std::string> WaitForLine(const std::function<bool(const std::string&)>& pred,
                                         absl::Duration timeout);
  // The same over standard error.
  std::optional<std::string> WaitForErrorLine(const std::function<bool(const std::string&)>& pred,
                                              absl::Duration timeout);

  void Signal(int signal);
  // nullopt: still running after `timeout`.
  std::optional<int> Wait(absl::Duration timeout);

  pid_t pid() const { return pid_; }
  std::string out() const;
  std::string err() const;

 private:
  struct Stream {
    mutable Mutex mutex;
    CondVar changed;
    std::string text ABSL_GUARDED_BY(mutex);
    bool closed ABSL_GUARDED_BY(mutex) = false;
    std::thread reader;
  };
  ChildProcess() = default;
  static void Read(int fd, Stream& stream);
  static std::optional<std::string> WaitIn(Stream& stream,
                                           const std::function<bool(const std::string&)>& pred,
                                           absl::Duration timeout);

  pid_t pid_ = -1;
  int input_ = -1;
  std::optional<int> exit_code_;
  Stream out_;
  Stream err_;
};

}  // namespace tokenbroker::testing

#endif  // TOKEN_BROKER_TESTS_TESTING_CHILD_PROCESS_H_
