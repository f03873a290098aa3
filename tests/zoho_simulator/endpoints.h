// From an HTTP request to the state machine's operation, and what of it goes into the request log.

#ifndef TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_ENDPOINTS_H_
#define TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_ENDPOINTS_H_

#include "absl/time/time.h"
#include "tests/zoho_simulator/accounts_state.h"
#include "tests/zoho_simulator/http_front.h"
#include "tests/zoho_simulator/reply.h"
#include "tests/zoho_simulator/request_log.h"

namespace tokenbroker::zoho_simulator {

// The label of the listener that only records.
inline constexpr std::string_view kTrapLabel = "trap";

// Form body (urlencoded or multipart) and query together; the body wins. Other bodies, JSON for
// instance, are not understood, as at Zoho.
Parameters ParametersOf(const HttpRequest& request);

// The log's entry for a request that has just arrived. Takes no token, code or secret.
RequestEntry EntryFor(const AccountsState& state, const HttpRequest& request,
                      const Parameters& parameters, absl::Time now);

// Processes the request at the DC that is its label. 404 with outcome "not_found" if there is no
// such endpoint.
AccountsReply Dispatch(AccountsState& state, const HttpRequest& request,
                       const Parameters& parameters, absl::Time now);

}  // namespace tokenbroker::zoho_simulator

#endif  // TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_ENDPOINTS_H_
