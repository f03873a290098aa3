#ifndef TOKEN_BROKER_STORAGE_REDIS_INFO_FIELDS_H_
#define TOKEN_BROKER_STORAGE_REDIS_INFO_FIELDS_H_

#include <algorithm>
#include <string_view>

namespace tokenbroker::redis {

// What INFO and CLUSTER INFO answer: lines "name:value", with headings and empty lines between.

// Calls `use(name, value)` for each field, in order. The views point into `info`.
template <typename Use>
void ForEachInfoField(std::string_view info, Use use) {
  while (!info.empty()) {
    const size_t end = std::min(info.find('\n'), info.size());
    std::string_view line = info.substr(0, end);
    info.remove_prefix(std::min(end + 1, info.size()));
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    const size_t colon = line.find(':');
    if (colon != std::string_view::npos) use(line.substr(0, colon), line.substr(colon + 1));
  }
}

// The first value of this name; "": there is none.
inline std::string_view InfoField(std::string_view info, std::string_view name) {
  std::string_view found;
  ForEachInfoField(info, [&](std::string_view field, std::string_view value) {
    if (field == name && found.empty()) found = value;
  });
  return found;
}

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_INFO_FIELDS_H_
