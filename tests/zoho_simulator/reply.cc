#include "tests/zoho_simulator/reply.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "tests/zoho_simulator/text.h"

namespace tokenbroker::zoho_simulator {

const std::string& Get(const Parameters& parameters, std::string_view name) {
  static const std::string* const kEmpty = new std::string();
  const auto it = parameters.find(name);
  return it == parameters.end() ? *kEmpty : it->second;
}

bool Has(const Parameters& parameters, std::string_view name) {
  return parameters.find(name) != parameters.end();
}

AccountsReply JsonError(const std::string& error) {
  AccountsReply reply;
  reply.body = nlohmann::json{{"error", error}}.dump();
  reply.outcome = error;
  return reply;
}

AccountsReply HtmlPage(int status, std::string_view title, std::string_view content) {
  AccountsReply reply;
  reply.status = status;
  reply.content_type = "text/html;charset=UTF-8";
  reply.body = absl::StrCat("<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>",
                            HtmlEscape(title), "</title></head>\n<body><h1>", HtmlEscape(title),
                            "</h1>\n", std::string(content), "</body></html>\n");
  return reply;
}

AccountsReply BadRequestPage() {
  AccountsReply reply = HtmlPage(400, "HTTP Status 400", "");
  reply.outcome = "bad_request";
  return reply;
}

}  // namespace tokenbroker::zoho_simulator
