#include "tests/e2e/load.h"

#include <chrono>
#include <memory>
#include <thread>
#include <utility>

#include "common/mutex.h"
#include "tests/e2e/callback_threads.h"

namespace tokenbroker::e2e {
namespace {

constexpr int kConnections = 4;  // per broker: one takes 1,000 calls at once by default

struct Call {
  grpc::ClientContext context;
  v1::GetAccessTokenRequest request;
  v1::GetAccessTokenResponse response;
};

// Counts down to the last answer.
class Outstanding {
 public:
  void Add() {
    MutexLock lock(mutex_);
    ++count_;
  }
  void Done() {
    MutexLock lock(mutex_);
    if (--count_ == 0) zero_.NotifyAll();
  }
  // Keeps `call` until all answers are there, so that none is destroyed on gRPC's own threads.
  void Keep(std::shared_ptr<Call> call) {
    MutexLock lock(mutex_);
    calls_.push_back(std::move(call));
  }
  void WaitForAll() {
    MutexLock lock(mutex_);
    while (count_ > 0) zero_.Wait(mutex_);
  }

 private:
  Mutex mutex_;
  CondVar zero_;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::shared_ptr<Call>> calls_ ABSL_GUARDED_BY(mutex_);
};

void Send(v1::TokenService::Stub& stub, v1::GetAccessTokenRequest request, absl::Duration deadline,
          Outstanding& outstanding, std::function<void(CallResult)> done) {
  KeepCallbackThreads();
  auto call = std::make_shared<Call>();
  outstanding.Add();
  outstanding.Keep(call);
  call->request = std::move(request);
  call->context.set_deadline(std::chrono::system_clock::now() +
                             absl::ToChronoMilliseconds(deadline));
  stub.async()->GetAccessToken(
      &call->context, &call->request, &call->response,
      [call, done = std::move(done)](grpc::Status status) {
        done(CallResult{std::move(status), call->response.version(), call->response.source(),
                        call->response.access_token()});
      });
}

}  // namespace

std::vector<CallResult> CallAllAtOnce(const std::vector<Broker*>& brokers,
                                      const std::vector<v1::GetAccessTokenRequest>& requests,
                                      absl::Duration deadline) {
  std::vector<std::unique_ptr<v1::TokenService::Stub>> stubs;
  for (int i = 0; i < kConnections; ++i) {
    for (Broker* broker : brokers) {
      std::shared_ptr<grpc::Channel> channel = broker->NewChannel();
      channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(10));
      stubs.push_back(v1::TokenService::NewStub(channel));
    }
  }
  std::vector<CallResult> results(requests.size());
  Outstanding outstanding;
  for (size_t i = 0; i < requests.size(); ++i) {
    Send(*stubs[i % stubs.size()], requests[i], deadline, outstanding,
         [&outstanding, result = &results[i]](CallResult r) {
           *result = std::move(r);
           outstanding.Done();
         });
  }
  outstanding.WaitForAll();
  return results;
}

void CallAtRate(Broker& broker, int rate, absl::Duration duration,
                const std::function<v1::GetAccessTokenRequest()>& make,
                const std::function<void(const CallResult&)>& on_result) {
  Outstanding outstanding;
  const int total = static_cast<int>(absl::ToDoubleSeconds(duration) * rate);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < total; ++i) {
    std::this_thread::sleep_until(start + std::chrono::microseconds(1'000'000LL * i / rate));
    Send(broker.stub(), make(), absl::Seconds(30), outstanding, [&](CallResult result) {
      on_result(result);
      outstanding.Done();
    });
  }
  outstanding.WaitForAll();
}

}  // namespace tokenbroker::e2e
