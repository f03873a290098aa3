#include "server/rpc/library_log.h"

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>

#include <string>
#include <utility>

#include "common/mutex.h"

namespace tokenbroker {
namespace {

// Never destroyed: gRPC's threads may speak until the process ends.
struct Hearing {
  Mutex mutex;
  LibraryLog::Listener listener ABSL_GUARDED_BY(mutex);
};
Hearing& TheHearing() {
  static auto* const hearing = new Hearing;
  return *hearing;
}

void Tell(std::string_view library, std::string_view text) {
  Hearing& hearing = TheHearing();
  MutexLock lock(hearing.mutex);
  if (hearing.listener) hearing.listener(library, text);
}

// Not called for less than GRPC_VERBOSITY asks for; its default is errors.
void OnGrpc(gpr_log_func_args* args) { Tell("grpc", args->message); }

void OnProtobuf(google::protobuf::LogLevel level, const char*, int, const std::string& message) {
  if (level >= google::protobuf::LOGLEVEL_WARNING) Tell("protobuf", message);
}

}  // namespace

LibraryLog::LibraryLog(Listener listener) {
  Hearing& hearing = TheHearing();
  {
    MutexLock lock(hearing.mutex);
    hearing.listener = std::move(listener);
  }
  gpr_set_log_function(&OnGrpc);
  google::protobuf::SetLogHandler(&OnProtobuf);
}

LibraryLog::~LibraryLog() {
  Hearing& hearing = TheHearing();
  MutexLock lock(hearing.mutex);
  hearing.listener = nullptr;
}

}  // namespace tokenbroker
