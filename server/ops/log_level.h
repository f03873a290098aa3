#ifndef TOKEN_BROKER_SERVER_OPS_LOG_LEVEL_H_
#define TOKEN_BROKER_SERVER_OPS_LOG_LEVEL_H_

#include <cstdint>
#include <string_view>

namespace tokenbroker {

// How urgent an event is. An event is written if its level is at least the configured one.
enum class LogLevel : uint8_t {
  kDebug = 1,    // what only developers want
  kInfo = 2,     // one line per call and per refresh
  kWarning = 3,  // what degrades the service
  kError = 4,    // what needs an operator
};

// "debug", "info", "warning", "error": the `level` of a log line.
inline std::string_view LogLevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "unknown";
}

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_OPS_LOG_LEVEL_H_
