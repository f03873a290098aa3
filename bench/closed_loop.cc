#include "bench/closed_loop.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/mutex.h"
#include "tests/e2e/callback_threads.h"

namespace tokenbroker::bench {
namespace {

struct Run {
  Mutex mutex;
  CondVar ended;
  int under_way ABSL_GUARDED_BY(mutex) = 0;
  std::vector<absl::Duration> latencies ABSL_GUARDED_BY(mutex);
  std::atomic<int64_t> started{0};
  std::atomic<int64_t> done{0};
  std::atomic<int64_t> failed{0};
  std::atomic<bool> stop{false};
  int64_t max_calls = 0;
  bool keep_latencies = false;
  std::function<v1::GetAccessTokenRequest(int64_t)> make;
};

struct Call {
  grpc::ClientContext context;
  v1::GetAccessTokenRequest request;
  v1::GetAccessTokenResponse response;
  std::chrono::steady_clock::time_point begin;
};

void Next(const std::shared_ptr<Run>& run, v1::TokenService::Stub* stub) {
  const int64_t number = run->started++;
  if (run->stop || number >= run->max_calls) {
    MutexLock lock(run->mutex);
    if (--run->under_way == 0) run->ended.NotifyAll();
    return;
  }
  auto call = std::make_shared<Call>();
  call->request = run->make(number);
  call->context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(120));
  call->begin = std::chrono::steady_clock::now();
  stub->async()->GetAccessToken(
      &call->context, &call->request, &call->response, [run, stub, call](grpc::Status status) {
        ++run->done;
        if (!status.ok()) ++run->failed;
        if (run->keep_latencies) {
          const auto took = std::chrono::steady_clock::now() - call->begin;
          MutexLock lock(run->mutex);
          run->latencies.push_back(absl::FromChrono(took));
        }
        Next(run, stub);
      });
}

}  // namespace

absl::Duration Measured::Percentile(double share) const {
  if (latencies.empty()) return absl::ZeroDuration();
  const auto index = static_cast<size_t>(share * static_cast<double>(latencies.size() - 1));
  return latencies[index];
}

ClosedLoop::ClosedLoop(Options options) : options_(std::move(options)) {
  e2e::KeepCallbackThreads();
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  for (int i = 0; i < options_.connections; ++i) {
    std::shared_ptr<grpc::Channel> channel =
        grpc::CreateCustomChannel(options_.target, grpc::InsecureChannelCredentials(), arguments);
    channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(10));
    stubs_.push_back(v1::TokenService::NewStub(channel));
  }
}

Measured ClosedLoop::RunFor(absl::Duration duration,
                            const std::function<v1::GetAccessTokenRequest(int64_t)>& make) {
  return Run(INT64_MAX, duration, make);
}

Measured ClosedLoop::RunCalls(int64_t calls,
                              const std::function<v1::GetAccessTokenRequest(int64_t)>& make) {
  return Run(calls, absl::InfiniteDuration(), make);
}

Measured ClosedLoop::Run(int64_t max_calls, absl::Duration duration,
                         const std::function<v1::GetAccessTokenRequest(int64_t)>& make) {
  auto run = std::make_shared<bench::Run>();
  run->max_calls = max_calls;
  run->keep_latencies = options_.keep_latencies;
  run->make = make;
  {
    MutexLock lock(run->mutex);
    run->under_way = options_.calls_at_once;
  }
  const absl::Duration cpu_before = CpuTimeOf(options_.server);
  const absl::Time begin = absl::Now();
  for (int i = 0; i < options_.calls_at_once; ++i) Next(run, stubs_[i % stubs_.size()].get());
  Measured measured;
  MutexLock lock(run->mutex);
  while (run->under_way > 0) {
    const absl::Duration left = begin + duration - absl::Now();
    if (left <= absl::ZeroDuration()) run->stop = true;
    run->ended.WaitFor(run->mutex, run->stop ? absl::Seconds(1) : left);
  }
  measured.wall = absl::Now() - begin;
  measured.server_cpu = CpuTimeOf(options_.server) - cpu_before;
  measured.calls = run->done;
  measured.failed = run->failed;
  measured.latencies = std::move(run->latencies);
  std::sort(measured.latencies.begin(), measured.latencies.end());
  return measured;
}

absl::Duration CpuTimeOf(pid_t pid) {
  // /proc/<pid>/stat: user and system time are the 14th and 15th field, after a name that may hold
  // blanks and ends with the last ")".
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string text;
  std::getline(file, text);
  std::istringstream rest(text.substr(text.rfind(')') + 1));
  std::string skipped;
  for (int field = 3; field < 14; ++field) rest >> skipped;
  int64_t user = 0, system = 0;
  rest >> user >> system;
  return absl::Seconds(user + system) / sysconf(_SC_CLK_TCK);
}

}  // namespace tokenbroker::bench
