// HTTP and HTTPS servers with control of the socket: replies that drip, break off, reset or never
// come. Asynchronous: thousands of open requests cost one thread. Knows nothing of Zoho.

#ifndef TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_HTTP_FRONT_H_
#define TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_HTTP_FRONT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/zoho_simulator/certificate.h"
#include "tests/zoho_simulator/faults.h"

namespace tokenbroker::zoho_simulator {

struct HttpRequest {
  std::string label;   // of the listener that it came to
  std::string method;  // "GET"
  std::string target;  // as sent
  std::string path;    // the target's part before "?"
  std::string query;   // the part behind it, not decoded
  std::string authorization;
  std::string content_type;
  std::string body;
  uint64_t connection_id = 0;  // from 1, over all listeners
  bool https = false;
};

// How a request ends.
struct HttpEnding {
  enum class Action { kReply, kReset } action = Action::kReply;
  int status = 200;
  std::string content_type;
  std::string location;  // empty: no such header
  std::string body;
  size_t huge_bytes = 0;  // not 0: the body is this many bytes of JSON text instead
  std::optional<absl::Duration> drip_interval;  // the bytes leave in pieces, this far apart
  size_t drip_bytes = 1;
  std::optional<size_t> truncate_bytes;  // only so much leaves, then the connection closes
  // Called once, when the last byte is about to leave, or just before the reset.
  std::function<void()> before_end;
};

// A request that waits for its end. Callbacks run on the front's threads, one at a time per
// request.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;

  virtual const HttpRequest& request() const = 0;

  // Runs `next` after `delay`; from any thread.
  virtual void After(absl::Duration delay, std::function<void()> next) = 0;

  // Ends the request. Exactly once, from a callback.
  virtual void End(HttpEnding ending) = 0;

  // Calls `gone` at most once, if the caller closes the connection before End(). It must not hold
  // the exchange. From a callback.
  virtual void OnClientGone(std::function<void()> gone) = 0;
};

class HttpFront {
 public:
  using OnRequest = std::function<void(std::shared_ptr<HttpExchange>)>;

  struct Options {
    int threads = 1;
    std::optional<Certificate> certificate;  // for listeners with HTTPS
    size_t max_body_bytes = 1u << 20;
    OnRequest on_request;  // on one of the threads; must not block
  };

  // Internal: the certificate is not usable.
  static absl::StatusOr<std::unique_ptr<HttpFront>> Create(Options options);

  // Closes everything. Exchanges must not outlive the front, but may after Stop().
  ~HttpFront();

  // Ends the threads. Callbacks that were due are dropped.
  void Stop();

  // Returns the port (`port`, or a free one for 0). Several listeners may have the same label.
  // Unavailable: the address cannot be had.
  absl::StatusOr<uint16_t> Listen(std::string label, const std::string& address, uint16_t port,
                                  bool https);

  // For all listeners of `label`; in force when it returns. Not to be called on the front's
  // threads. NotFound: no such label. Unavailable: the port cannot be had again.
  absl::Status SetAcceptMode(std::string_view label, AcceptMode mode);

  // Connections accepted so far; of all labels if empty.
  int64_t connections(std::string_view label) const;

 private:
  class Impl;
  explicit HttpFront(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tokenbroker::zoho_simulator

#endif  // TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_HTTP_FRONT_H_
