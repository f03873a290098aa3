#ifndef TOKEN_BROKER_TESTS_E2E_LOAD_H_
#define TOKEN_BROKER_TESTS_E2E_LOAD_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/e2e/world.h"

namespace tokenbroker::e2e {

// How one of many calls ended.
struct CallResult {
  grpc::Status status;
  int64_t version = 0;
  v1::TokenSource source = v1::TOKEN_SOURCE_UNSPECIFIED;
  std::string access_token;
};

// Sends all `requests` at once, the i-th to broker i modulo their number, over a few connections to
// each, and waits for all answers.
std::vector<CallResult> CallAllAtOnce(const std::vector<Broker*>& brokers,
                                      const std::vector<v1::GetAccessTokenRequest>& requests,
                                      absl::Duration deadline = absl::Seconds(60));

// Calls `broker` `rate` times a second for `duration`, each call with what `make` gives, without
// waiting for answers in between. `on_result` is called on any thread.
void CallAtRate(Broker& broker, int rate, absl::Duration duration,
                const std::function<v1::GetAccessTokenRequest()>& make,
                const std::function<void(const CallResult&)>& on_result);

}  // namespace tokenbroker::e2e

#endif  // TOKEN_BROKER_TESTS_E2E_LOAD_H_
