#ifndef TOKEN_BROKER_SERVER_OPS_HTTP_PAGE_H_
#define TOKEN_BROKER_SERVER_OPS_HTTP_PAGE_H_

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <variant>

#include "server/ops/metrics.h"

namespace tokenbroker {

struct HttpRequest {
  // Of the query, decoded; a name may be there more than once.
  std::multimap<std::string, std::string> parameters;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

// A page that is made at once. Called on the listener's thread, which everybody waits for.
using HttpPageNow = std::function<HttpResponse(const HttpRequest&)>;
// A page that others take their time for. Called like the one above, and must not block; the answer
// is to be given once, from any thread, and holds up nobody until then.
using HttpAnswer = std::function<void(HttpResponse)>;
using HttpPageLater = std::function<void(const HttpRequest&, HttpAnswer)>;
using HttpPage = std::variant<HttpPageNow, HttpPageLater>;

// Of the part of a URL behind its "?". What is not well encoded stays as it is.
HttpRequest ParseHttpQuery(std::string_view query);

// What /readyz says.
struct Readiness {
  bool ready = false;
  std::string json;  // why, for people: {"store":"ok",…}
};

// Always 200: the process answers. Says nothing about Zoho or the store, because a restart mends
// neither.
HttpPage LivePage();
// 200 or 503 with the JSON as body; remembers the answer in Metric::kReady. `metrics` is borrowed.
HttpPage ReadyPage(std::function<Readiness()> check, Metrics* metrics);
// `metrics` is borrowed.
HttpPage MetricsPage(const Metrics* metrics);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_OPS_HTTP_PAGE_H_
