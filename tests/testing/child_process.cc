#include "tests/testing/child_process.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <utility>

#include "absl/time/clock.h"

extern char** environ;

namespace tokenbroker::testing {
namespace {

[[noreturn]] void Die(const std::string& what) {
  std::cerr << what << ": " << std::strerror(errno) << std::endl;
  std::abort();
}

struct Pipe {
  int read_end = -1;
  int write_end = -1;
  Pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) Die("pipe2");
    read_end = ends[0];
    write_end = ends[1];
  }
};

std::vector<std::string> MergedEnvironment(const std::map<std::string, std::string>& added) {
  std::vector<std::string> merged;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (added.count(text.substr(0, text.find('='))) == 0) merged.push_back(text);
  }
  for (const auto& [name, value] : added) merged.push_back(name + "=" + value);
  return merged;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& s : strings) pointers.push_back(s.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

std::unique_ptr<ChildProcess> ChildProcess::Start(Options options) {
  // A child that has ended must not end the test that writes to it.
  signal(SIGPIPE, SIG_IGN);
  Pipe in, out, err, failure;
  std::vector<std::string> environment = MergedEnvironment(options.environment);
  std::vector<char*> argv = Pointers(options.argv);
  std::vector<char*> envp = Pointers(environment);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) Die("fork");
  if (pid == 0) {
    // The thread that forked may end before the test does, so the parent is checked by its pid.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(126);
    signal(SIGPIPE, SIG_DFL);
    dup2(in.read_end, 0);
    dup2(out.write_end, 1);
    dup2(err.write_end, 2);
    // Nothing else is inherited: a listener that the test closes must be closed everywhere.
    close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
    execvpe(argv[0], argv.data(), envp.data());
    const int error = errno;
    [[maybe_unused]] const ssize_t written = write(failure.write_end, &error, sizeof(error));
    _exit(127);
  }
  close(in.read_end);
  close(out.write_end);
  close(err.write_end);
  close(failure.write_end);
  int error = 0;
  const ssize_t got = read(failure.read_end, &error, sizeof(error));
  close(failure.read_end);
  if (got == sizeof(error)) {
    errno = error;
    Die("cannot run " + options.argv[0]);
  }
  auto child = std::unique_ptr<ChildProcess>(new ChildProcess());
  child->pid_ = pid;
  child->out_.reader = std::thread([fd = out.read_end, s = &child->out_] { Read(fd, *s); });
  child->err_.reader = std::thread([fd = err.read_end, s = &child->err_] { Read(fd, *s); });
  size_t written = 0;
  while (written < options.input.size()) {
    const ssize_t n =
        write(in.write_end, options.input.data() + written, options.input.size() - written);
    if (n <= 0) break;
    written += static_cast<size_t>(n);
  }
  if (options.keep_input_open) {
    child->input_ = in.write_end;
  } else {
    close(in.write_end);
  }
  return child;
}

ChildProcess::Result ChildProcess::Run(Options options, absl::Duration timeout) {
  const std::string name = options.argv[0];
  std::unique_ptr<ChildProcess> child = Start(std::move(options));
  const std::optional<int> exit_code = child->Wait(timeout);
  if (!exit_code) {
    std::cerr << name << " did not end in time\n" << child->out() << child->err() << std::endl;
    std::abort();
  }
  // The readers see the end of the streams before they end.
  child->out_.reader.join();
  child->err_.reader.join();
  return Result{*exit_code, child->out(), child->err()};
}

ChildProcess::~ChildProcess() {
  if (!exit_code_) {
    kill(pid_, SIGKILL);
    Wait(absl::InfiniteDuration());
  }
  if (input_ >= 0) close(input_);
  if (out_.reader.joinable()) out_.reader.join();
  if (err_.reader.joinable()) err_.reader.join();
}

void ChildProcess::Read(int fd, Stream& stream) {
  char buffer[16384];
  while (true) {
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    MutexLock lock(stream.mutex);
    if (n <= 0) {
      stream.closed = true;
      stream.changed.NotifyAll();
      break;
    }
    stream.text.append(buffer, static_cast<size_t>(n));
    stream.changed.NotifyAll();
  }
  close(fd);
}

std::optional<std::string> ChildProcess::WaitIn(Stream& stream,
                                                const std::function<bool(const std::string&)>& pred,
                                                absl::Duration timeout) {
  const absl::Time until = absl::Now() + timeout;
  size_t seen = 0;
  MutexLock lock(stream.mutex);
  while (true) {
    for (size_t end = stream.text.find('\n', seen); end != std::string::npos;
         end = stream.text.find('\n', seen)) {
      std::string line = stream.text.substr(seen, end - seen);
      seen = end + 1;
      if (pred(line)) return line;
    }
    const absl::Duration left = until - absl::Now();
    if (stream.closed || left <= absl::ZeroDuration()) return std::nullopt;
    stream.changed.WaitFor(stream.mutex, left);
  }
}

std::optional<std::string> ChildProcess::WaitForLine(
    const std::function<bool(const std::string&)>& pred, absl::Duration timeout) {
  return WaitIn(out_, pred, timeout);
}

std::optional<std::string> ChildProcess::WaitForErrorLine(
    const std::function<bool(const std::string&)>& pred, absl::Duration timeout) {
  return WaitIn(err_, pred, timeout);
}

void ChildProcess::Signal(int signal) {
  if (!exit_code_) kill(pid_, signal);
}

std::optional<int> ChildProcess::Wait(absl::Duration timeout) {
  if (exit_code_) return exit_code_;
  // A pidfd becomes readable when the process ends.
  const int fd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  if (fd < 0) Die("pidfd_open");
  const absl::Time until = absl::Now() + timeout;
  while (true) {
    const absl::Duration left = until - absl::Now();
    const int64_t ms = left > absl::Hours(1) ? 3'600'000 : absl::ToInt64Milliseconds(left) + 1;
    pollfd waiting{fd, POLLIN, 0};
    const int ready = poll(&waiting, 1, static_cast<int>(std::max<int64_t>(ms, 0)));
    if (ready > 0) break;
    if (left <= absl::ZeroDuration()) {
      close(fd);
      return std::nullopt;
    }
  }
  close(fd);
  int status = 0;
  waitpid(pid_, &status, 0);
  exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return exit_code_;
}

std::string ChildProcess::out() const {
  MutexLock lock(out_.mutex);
  return out_.text;
}

std::string ChildProcess::err() const {
  MutexLock lock(err_.mutex);
  return err_.text;
}

}  // namespace tokenbroker::testing
