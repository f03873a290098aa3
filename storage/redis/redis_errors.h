#ifndef TOKEN_BROKER_STORAGE_REDIS_REDIS_ERRORS_H_
#define TOKEN_BROKER_STORAGE_REDIS_REDIS_ERRORS_H_

#include <string_view>

#include "absl/status/status.h"

namespace tokenbroker::redis {

// What an error reply means.
struct ServerErrorVerdict {
  absl::Status status;  // STORE_UNAVAILABLE or RECORD_UNREADABLE, with advice for the operator
  bool retry = false;   // it may be over in a moment, or on another connection
  bool close = false;   // this connection is of no more use
  bool doubt = false;   // this server may not be the primary, or not the key's
};

// Reads an error reply. Only its code, the first word, reaches the status: the rest may quote the
// command's arguments. `username` is whom the connection logged in as; "" is the default user.
ServerErrorVerdict ServerError(std::string_view error, std::string_view username);

// MOVED, ASK or TRYAGAIN of a cluster: another node, or the same one in a moment.
bool IsRedirection(std::string_view error);

// The key holds something else than the command is for.
bool IsWrongType(std::string_view error);

// The server does not have the script: it was restarted, or its script cache flushed.
bool IsNoScript(std::string_view error);

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_REDIS_ERRORS_H_
