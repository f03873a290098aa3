#include "tests/clients/zoho/form_body.h"

#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace tokenbroker {
namespace {

std::string PercentDecode(absl::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    int byte = 0;
    if (text[i] == '%' && absl::SimpleHexAtoi(text.substr(i + 1, 2), &byte)) {
      decoded += static_cast<char>(byte);
      i += 2;
    } else {
      decoded += text[i] == '+' ? ' ' : text[i];
    }
  }
  return decoded;
}

}  // namespace

std::string HeadOf(const std::string& bytes) { return bytes.substr(0, bytes.find("\r\n\r\n") + 2); }

std::map<std::string, std::string> FormOf(const std::string& bytes) {
  std::map<std::string, std::string> form;
  const size_t head = bytes.find("\r\n\r\n");
  if (head == std::string::npos) return form;
  for (const absl::string_view field :
       absl::StrSplit(absl::string_view(bytes).substr(head + 4), '&', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(field, absl::MaxSplits('=', 1));
    const auto [it, added] = form.emplace(PercentDecode(pair.first), PercentDecode(pair.second));
    if (!added) it->second = "<twice>";
  }
  return form;
}

}  // namespace tokenbroker
