// What holds for every reply, whatever its bytes. Shared by the fuzzer and the test with fixed
// seeds.

#ifndef TOKEN_BROKER_TESTS_CLIENTS_ZOHO_TOKEN_REPLY_PROPERTIES_H_
#define TOKEN_BROKER_TESTS_CLIENTS_ZOHO_TOKEN_REPLY_PROPERTIES_H_

#include <string>
#include <string_view>

namespace tokenbroker {

// Classifies `input` as a reply of the token and of the revocation endpoint. The first line of
// `input` is the HTTP status in decimal digits, the rest the body; without such a line it is all
// body of an HTTP 200. Returns the first property that does not hold, "" if all do.
std::string BrokenReplyProperty(std::string_view input);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_CLIENTS_ZOHO_TOKEN_REPLY_PROPERTIES_H_
