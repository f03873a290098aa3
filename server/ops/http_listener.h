#ifndef TOKEN_BROKER_SERVER_OPS_HTTP_LISTENER_H_
#define TOKEN_BROKER_SERVER_OPS_HTTP_LISTENER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
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
  // Take the place of the listener's own headers of the same name.
  std::vector<std::pair<std::string, std::string>> headers;
};

// A page. Called on any of the listener's threads, which waits for it.
using HttpPage = std::function<HttpResponse(const HttpRequest&)>;

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

// A small HTTP/1.1 server for probes, scrapers and the consent page: GET and HEAD of fixed paths,
// one request per connection. Every response forbids caching, framing, scripts and referrers,
// because the consent page's URL holds an authorization code. URLs, queries and headers are never
// logged. Request lines and headers are limited to 8 KiB each; other methods are refused before a
// body is read.
//
//   auto listener = HttpListener::Create({.listen = "127.0.0.1:0"}, {{"/livez", LivePage()}});
class HttpListener {
 public:
  struct Options {
    std::string listen = "127.0.0.1:9090";  // port 0: a free one
    // Requests at once; as many slow clients keep the others waiting.
    int threads = 8;
    absl::Duration read_timeout = absl::Seconds(5);   // for the next byte of a request
    absl::Duration write_timeout = absl::Seconds(5);  // for the next byte of a response
    Metrics* metrics = nullptr;                       // borrowed; nullptr: nothing is counted
  };

  // Listens and answers when it returns. INVALID_ARGUMENT: `listen` is not host:port. UNAVAILABLE:
  // the address cannot be listened on, e.g. because another process does.
  static absl::StatusOr<std::unique_ptr<HttpListener>> Create(
      Options options, std::map<std::string, HttpPage> pages);
  // Stops.
  ~HttpListener();

  int port() const;
  // Closes the port and waits for the pages that are being made. Idempotent.
  void Stop();

 private:
  class Impl;
  explicit HttpListener(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_OPS_HTTP_LISTENER_H_
