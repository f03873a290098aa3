#ifndef TOKEN_BROKER_BENCH_CLOSED_LOOP_H_
#define TOKEN_BROKER_BENCH_CLOSED_LOOP_H_

#include <grpcpp/channel.h>
#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tokenbroker/v1/token_service.grpc.pb.h"

namespace tokenbroker::bench {

// What a run of calls was like.
struct Measured {
  int64_t calls = 0;
  int64_t failed = 0;
  absl::Duration wall;
  absl::Duration server_cpu;              // user and system time of the server's process
  std::vector<absl::Duration> latencies;  // sorted; only where asked for

  double PerSecond() const { return static_cast<double>(calls) / absl::ToDoubleSeconds(wall); }
  absl::Duration CpuPerCall() const { return server_cpu / static_cast<double>(calls); }
  // `share` of the calls were at least as fast: 0.5, 0.99.
  absl::Duration Percentile(double share) const;
};

// Keeps a fixed number of calls under way: each answer starts the next call.
class ClosedLoop {
 public:
  struct Options {
    std::string target;
    pid_t server = 0;  // whose CPU time counts
    int connections = 2;
    int calls_at_once = 64;
    bool keep_latencies = false;
  };
  explicit ClosedLoop(Options options);

  // Until `duration` has passed.
  Measured RunFor(absl::Duration duration,
                  const std::function<v1::GetAccessTokenRequest(int64_t)>& make);
  // Exactly `calls` calls.
  Measured RunCalls(int64_t calls, const std::function<v1::GetAccessTokenRequest(int64_t)>& make);

 private:
  Measured Run(int64_t max_calls, absl::Duration duration,
               const std::function<v1::GetAccessTokenRequest(int64_t)>& make);

  const Options options_;
  std::vector<std::unique_ptr<v1::TokenService::Stub>> stubs_;
};

// User and system time that a process has used.
absl::Duration CpuTimeOf(pid_t pid);

}  // namespace tokenbroker::bench

#endif  // TOKEN_BROKER_BENCH_CLOSED_LOOP_H_
