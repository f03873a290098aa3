#ifndef TOKEN_BROKER_TESTS_SERVER_CONSENT_QUERY_H_
#define TOKEN_BROKER_TESTS_SERVER_CONSENT_QUERY_H_

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>

#include "server/consent/callback.h"

namespace tokenbroker {

inline std::string DecodeQueryText(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      out.push_back(static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16)));
      i += 2;
    } else {
      out.push_back(text[i] == '+' ? ' ' : text[i]);
    }
  }
  return out;
}

// The parameters of a well-formed query, as the HTTP listener gives them to the callback.
inline CallbackParameters ParseCallbackQuery(std::string_view query) {
  CallbackParameters parameters;
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const size_t equals = std::min(pair.find('='), pair.size());
    if (pair.empty()) continue;
    parameters.emplace(DecodeQueryText(pair.substr(0, equals)),
                       DecodeQueryText(pair.substr(std::min(equals + 1, pair.size()))));
  }
  return parameters;
}

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_SERVER_CONSENT_QUERY_H_
