#ifndef TOKEN_BROKER_SERVER_RPC_HEALTH_SERVICE_H_
#define TOKEN_BROKER_SERVER_RPC_HEALTH_SERVICE_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "common/mutex.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace tokenbroker {

// grpc.health.v1.Health for "" and "tokenbroker.v1.TokenService". Instead of gRPC's own one, which
// says SERVING from the moment the port is open, cannot be described by reflection, and keeps its
// watchers' streams, and with them the server, open to the end of a shutdown's grace. Thread-safe.
class HealthService final : public grpc::health::v1::Health::CallbackService {
 public:
  HealthService();
  ~HealthService() override;

  // NOT_SERVING at first.
  void SetServing(bool serving);
  // Whether somebody is told of changes as they come.
  bool IsWatched() const;
  // Says NOT_SERVING for good and ends all watchers' streams, those that begin later too.
  void End();

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context,
                                  const grpc::health::v1::HealthCheckRequest* request,
                                  grpc::health::v1::HealthCheckResponse* response) override;
  grpc::ServerWriteReactor<grpc::health::v1::HealthCheckResponse>* Watch(
      grpc::CallbackServerContext* context,
      const grpc::health::v1::HealthCheckRequest* request) override;

 private:
  class Watcher;
  struct Look {
    grpc::health::v1::HealthCheckResponse::ServingStatus status;
    bool ended;
  };

  Look LookAt(std::string_view service) const;
  void Forget(Watcher* watcher);
  void TellWatchers();

  mutable Mutex mutex_;
  bool serving_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<Watcher*, std::shared_ptr<Watcher>> watchers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_RPC_HEALTH_SERVICE_H_
