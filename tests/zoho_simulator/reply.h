// What the simulated endpoints read and write: parameters and replies.

#ifndef TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_REPLY_H_
#define TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_REPLY_H_

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "tests/zoho_simulator/model.h"

namespace tokenbroker::zoho_simulator {

// What came in form body and query together.
using Parameters = std::map<std::string, std::string, std::less<>>;

// The value of `name`, empty if there is none.
const std::string& Get(const Parameters& parameters, std::string_view name);
bool Has(const Parameters& parameters, std::string_view name);

// Exactly what Zoho would send, with the name of what happened (`outcome`) and whose tokens it was
// about, for the request log.
struct AccountsReply {
  int status = 200;
  std::string content_type = "application/json;charset=UTF-8";
  std::string body;
  std::string location;  // of a redirect
  std::string outcome;
  GrantIdentity grant;
};

// {"error":"..."} with HTTP 200, as Zoho reports nearly all errors. The outcome is the error.
AccountsReply JsonError(const std::string& error);

// A page with a heading; `content` is HTML.
AccountsReply HtmlPage(int status, std::string_view title, std::string_view content);

// The page that a browser or a client sees for a request that is none: HTTP 400.
AccountsReply BadRequestPage();

}  // namespace tokenbroker::zoho_simulator

#endif  // TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_REPLY_H_
