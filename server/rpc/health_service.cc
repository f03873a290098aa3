#include "server/rpc/health_service.h"

#include <utility>
#include <vector>

#include "tokenbroker/v1/token_service.grpc.pb.h"

namespace tokenbroker {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// One watcher's stream. What it sends next is looked up when it can be sent, so that a slow watcher
// skips what it missed and always ends up with the truth.
class HealthService::Watcher final : public grpc::ServerWriteReactor<HealthCheckResponse> {
 public:
  Watcher(HealthService* service, std::string name) : service_(service), name_(std::move(name)) {}

  // Something may have changed.
  void Go() {
    enum class Step { kNothing, kWrite, kFinish } step = Step::kNothing;
    {
      MutexLock lock(mutex_);
      if (writing_ || finished_) return;
      const Look look = service_->LookAt(name_);
      if (!gone_ && look.status != sent_) {
        step = Step::kWrite;
        writing_ = true;
        sent_ = look.status;
        response_.set_status(look.status);
      } else if (gone_ || look.ended) {
        step = Step::kFinish;
        finished_ = true;
      }
    }
    if (step == Step::kWrite) StartWrite(&response_);
    if (step == Step::kFinish) {
      Finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server is shutting down"));
    }
  }

 private:
  void OnWriteDone(bool ok) override {
    {
      MutexLock lock(mutex_);
      writing_ = false;
      gone_ |= !ok;
    }
    Go();
  }
  void OnCancel() override {
    {
      MutexLock lock(mutex_);
      gone_ = true;
    }
    Go();
  }
  void OnDone() override { service_->Forget(this); }

  HealthService* const service_;
  const std::string name_;
  HealthCheckResponse response_;  // of the write under way

  Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;
  HealthCheckResponse::ServingStatus sent_ ABSL_GUARDED_BY(mutex_) = HealthCheckResponse::UNKNOWN;
};

HealthService::HealthService() = default;
HealthService::~HealthService() = default;

void HealthService::SetServing(bool serving) {
  {
    MutexLock lock(mutex_);
    if (ended_) return;
    serving_ = serving;
  }
  TellWatchers();
}

bool HealthService::IsWatched() const {
  MutexLock lock(mutex_);
  return !watchers_.empty();
}

void HealthService::End() {
  {
    MutexLock lock(mutex_);
    serving_ = false;
    ended_ = true;
  }
  TellWatchers();
}

grpc::ServerUnaryReactor* HealthService::Check(grpc::CallbackServerContext* context,
                                               const HealthCheckRequest* request,
                                               HealthCheckResponse* response) {
  const Look look = LookAt(request->service());
  response->set_status(look.status);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(look.status == HealthCheckResponse::SERVICE_UNKNOWN
                      ? grpc::Status(grpc::StatusCode::NOT_FOUND, "no such service")
                      : grpc::Status::OK);
  return reactor;
}

grpc::ServerWriteReactor<HealthCheckResponse>* HealthService::Watch(
    grpc::CallbackServerContext*, const HealthCheckRequest* request) {
  auto watcher = std::make_shared<Watcher>(this, request->service());
  {
    MutexLock lock(mutex_);
    watchers_.emplace(watcher.get(), watcher);
  }
  watcher->Go();
  return watcher.get();
}

HealthService::Look HealthService::LookAt(std::string_view service) const {
  MutexLock lock(mutex_);
  if (!service.empty() && service != v1::TokenService::service_full_name()) {
    return {HealthCheckResponse::SERVICE_UNKNOWN, ended_};
  }
  return {serving_ ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING, ended_};
}

void HealthService::Forget(Watcher* watcher) {
  std::shared_ptr<Watcher> last;  // destroyed after the lock is released
  MutexLock lock(mutex_);
  const auto it = watchers_.find(watcher);
  last = std::move(it->second);
  watchers_.erase(it);
}

void HealthService::TellWatchers() {
  std::vector<std::shared_ptr<Watcher>> watchers;
  {
    MutexLock lock(mutex_);
    for (const auto& [key, watcher] : watchers_) watchers.push_back(watcher);
  }
  for (const std::shared_ptr<Watcher>& watcher : watchers) watcher->Go();
}

}  // namespace tokenbroker
