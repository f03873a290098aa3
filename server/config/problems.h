#ifndef TOKEN_BROKER_SERVER_CONFIG_PROBLEMS_H_
#define TOKEN_BROKER_SERVER_CONFIG_PROBLEMS_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace tokenbroker {

// Where a value was written.
struct ValueSource {
  std::string name;  // the configuration file's name, "--set", "TOKENBROKER_GRPC_LISTEN"
  int line = 0;      // from 1; 0: not from a file
};

// Collects what is wrong with a configuration, so that an operator sees all of it at once.
class Problems {
 public:
  // `path` is the key's, e.g. "oauth_clients[0].client_id"; "": the whole file. Texts never hold a
  // file's content, except the configuration's own values.
  void Add(const ValueSource& source, std::string_view path, std::string_view text);

  bool empty() const { return problems_.empty(); }
  // Whether something is wrong at `path` or beneath it. A value that could not be read is not
  // reported as missing too.
  bool Has(std::string_view path) const;

  // OK if there are none; otherwise INVALID_ARGUMENT with one line per problem,
  // "broker.yaml:12: store.redis.address: …", ordered by line; those that are not from the file
  // last.
  absl::Status ToStatus() const;

 private:
  struct Problem {
    ValueSource source;
    std::string path;
    std::string text;
  };
  std::vector<Problem> problems_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_CONFIG_PROBLEMS_H_
