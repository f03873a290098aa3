// Reads requests as they came over the wire.

#ifndef TOKEN_BROKER_TESTS_CLIENTS_ZOHO_FORM_BODY_H_
#define TOKEN_BROKER_TESTS_CLIENTS_ZOHO_FORM_BODY_H_

#include <map>
#include <string>

namespace tokenbroker {

// Request line and headers of the first request in `bytes`, up to the empty line.
std::string HeadOf(const std::string& bytes);

// The fields of an application/x-www-form-urlencoded body. A field that is there twice gets the
// value
// "<twice>", so that no comparison overlooks it.
std::map<std::string, std::string> FormOf(const std::string& bytes);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_CLIENTS_ZOHO_FORM_BODY_H_
