#ifndef TOKEN_BROKER_CLIENTS_ZOHO_CLIENT_NAME_H_
#define TOKEN_BROKER_CLIENTS_ZOHO_CLIENT_NAME_H_

#include <string_view>

namespace tokenbroker {

// Whether Zoho's console takes the text as a client's name: "no special characters except "_" and
// "&"" (guide). Letters and digits of all languages are fine; bytes that are no UTF-8 are not.
bool IsConsoleClientName(std::string_view text);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_CLIENTS_ZOHO_CLIENT_NAME_H_
