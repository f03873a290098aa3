// The control endpoint: the Simulator's API as JSON over HTTP, for scripts. The table of its paths
// is in the README.

#ifndef TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_CONTROL_H_
#define TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_CONTROL_H_

#include <memory>
#include <string>

#include "tests/zoho_simulator/http_front.h"
#include "tests/zoho_simulator/simulator.h"

namespace tokenbroker::zoho_simulator {

// Answers one request to the control endpoint. Runs on that endpoint's own thread, and may block
// it.
void HandleControl(Simulator& simulator, std::shared_ptr<HttpExchange> exchange);

// The line that the program prints when it is ready: all URLs, as JSON.
std::string UrlsAsJson(const Simulator& simulator);

}  // namespace tokenbroker::zoho_simulator

#endif  // TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_CONTROL_H_
