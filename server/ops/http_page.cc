#include "server/ops/http_page.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace tokenbroker {
namespace {

std::optional<int> HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return std::nullopt;
}

// Of a form: "+" is a space.
std::string Decode(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      const std::optional<int> high = HexDigit(text[i + 1]);
      const std::optional<int> low = HexDigit(text[i + 2]);
      if (high && low) {
        decoded.push_back(static_cast<char>(*high * 16 + *low));
        i += 2;
        continue;
      }
    }
    decoded.push_back(text[i] == '+' ? ' ' : text[i]);
  }
  return decoded;
}

}  // namespace

HttpRequest ParseHttpQuery(std::string_view query) {
  HttpRequest request;
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view item = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    if (item.empty()) continue;
    const size_t equals = std::min(item.find('='), item.size());
    request.parameters.emplace(Decode(item.substr(0, equals)),
                               Decode(item.substr(std::min(equals + 1, item.size()))));
  }
  return request;
}

HttpPage LivePage() {
  return [](const HttpRequest&) { return HttpResponse{.body = "ok\n"}; };
}

HttpPage ReadyPage(std::function<Readiness()> check, Metrics* metrics) {
  return [check = std::move(check), metrics](const HttpRequest&) {
    Readiness readiness = check();
    metrics->Set(Metric::kReady, {}, readiness.ready ? 1 : 0);
    return HttpResponse{.status = readiness.ready ? 200 : 503,
                        .content_type = "application/json",
                        .body = std::move(readiness.json) + "\n"};
  };
}

HttpPage MetricsPage(const Metrics* metrics) {
  return [metrics](const HttpRequest&) {
    return HttpResponse{.content_type = "text/plain; version=0.0.4; charset=utf-8",
                        .body = metrics->Text()};
  };
}

}  // namespace tokenbroker
