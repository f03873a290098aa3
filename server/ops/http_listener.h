#ifndef TOKEN_BROKER_SERVER_OPS_HTTP_LISTENER_H_
#define TOKEN_BROKER_SERVER_OPS_HTTP_LISTENER_H_

#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/ops/http_page.h"
#include "server/ops/metrics.h"

namespace tokenbroker {

// A small HTTP/1.1 server for probes, scrapers and the consent page: GET and HEAD of fixed paths,
// one request per connection. Every response has the same headers: they forbid caching, framing,
// scripts and referrers, because the consent page's URL holds an authorization code. URLs, queries
// and headers are never logged.
//
// The internet may reach it, so that nobody can take much: a request line has at most 8 KiB, with
// all headers 16 KiB, and one deadline; no body is read; connections are limited, and where there
// are too many the oldest gives way to the newest, so that probes get through.
//
//   auto listener = HttpListener::Create({.listen = "127.0.0.1:0"}, {{"/livez", LivePage()}});
class HttpListener {
 public:
  struct Options {
    std::string listen = "127.0.0.1:9090";            // port 0: a free one
    absl::Duration read_timeout = absl::Seconds(5);   // for a request, from accept to its last byte
    absl::Duration write_timeout = absl::Seconds(5);  // for a response, from its first byte
    absl::Duration page_timeout = absl::Seconds(30);  // for the answer of an HttpPageLater
    int max_connections = 256;
    int max_pages_later = 64;    // under way at once, of all connections; more get 503
    Metrics* metrics = nullptr;  // borrowed; nullptr: nothing is counted
  };

  // Listens and answers when it returns. INVALID_ARGUMENT: `listen` is not host:port. UNAVAILABLE:
  // the address cannot be listened on, e.g. because another process does.
  static absl::StatusOr<std::unique_ptr<HttpListener>> Create(
      Options options, std::map<std::string, HttpPage> pages);
  // Stops.
  ~HttpListener();

  int port() const;
  // OK until it has ended by itself; then why. Does not recover.
  absl::Status status() const;
  // Closes the port and waits for the pages that are being made, for an HttpPageLater and slow
  // readers at most `write_timeout`. Answers that come later are dropped. Idempotent.
  void Stop();

 private:
  class Impl;
  explicit HttpListener(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_OPS_HTTP_LISTENER_H_
