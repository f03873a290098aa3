#include "server/ops/http_listener.h"

#include <httplib.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <optional>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tokenbroker {
namespace {

// The URL of the consent page holds an authorization code: no cache, no referrer, nothing loaded
// from elsewhere that could see it, no frame around it.
const std::vector<std::pair<std::string, std::string>>& SecurityHeaders() {
  static const auto* const headers = new std::vector<std::pair<std::string, std::string>>{
      {"Cache-Control", "no-store"},
      {"Content-Security-Policy",
       "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
      {"Referrer-Policy", "no-referrer"},
      {"X-Content-Type-Options", "nosniff"},
      {"X-Frame-Options", "DENY"},
  };
  return *headers;
}

struct Address {
  std::string host;
  int port = 0;
};

std::optional<Address> ParseAddress(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  if (colon == std::string::npos || colon == 0) return std::nullopt;
  Address address{listen.substr(0, colon), 0};
  if (!absl::SimpleAtoi(listen.substr(colon + 1), &address.port) || address.port < 0 ||
      address.port > 65535) {
    return std::nullopt;
  }
  if (address.host.size() > 2 && address.host.front() == '[' && address.host.back() == ']') {
    address.host = address.host.substr(1, address.host.size() - 2);
  }
  return address;
}

}  // namespace

class HttpListener::Impl {
 public:
  Impl(Options options, std::map<std::string, HttpPage> pages)
      : options_(std::move(options)), pages_(std::move(pages)) {
    const int threads = std::max(1, options_.threads);
    server_.new_task_queue = [threads] {
      return new httplib::ThreadPool(static_cast<size_t>(threads));
    };
    // A kept connection would keep one of the threads.
    server_.set_keep_alive_max_count(1);
    server_.set_read_timeout(absl::ToChronoMicroseconds(options_.read_timeout));
    server_.set_write_timeout(absl::ToChronoMicroseconds(options_.write_timeout));
    server_.set_payload_max_length(kMaxBodyBytes);
    // Without SO_REUSEPORT, which the library sets by default: two brokers on one address would
    // each get a share of the requests.
    server_.set_socket_options([](auto socket) {
      const int yes = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    });
    server_.set_pre_routing_handler(
        [this](const httplib::Request& request, httplib::Response& response) {
          Answer(request, &response);
          return httplib::Server::HandlerResponse::Handled;
        });
    // The library's own answer would tell the browser what the exception said.
    server_.set_exception_handler(
        [this](const httplib::Request&, httplib::Response& response, std::exception_ptr) {
          Fill({.status = 500, .body = "internal error\n"}, &response);
          Count("other", 500);
        });
    // What is refused before it gets a path: malformed or too long.
    server_.set_error_handler([this](const httplib::Request&, httplib::Response& response) {
      if (response.has_header("Cache-Control")) return;
      Fill({.status = response.status, .body = "bad request\n"}, &response);
      Count("other", response.status);
    });
  }

  absl::Status Start() {
    const std::optional<Address> address = ParseAddress(options_.listen);
    if (!address) {
      return absl::InvalidArgumentError(absl::StrCat("'", options_.listen, "' is not host:port"));
    }
    if (address->port == 0) {
      port_ = server_.bind_to_any_port(address->host);
    } else {
      port_ = server_.bind_to_port(address->host, address->port) ? address->port : -1;
    }
    if (port_ <= 0) {
      return absl::UnavailableError(absl::StrCat("cannot listen on ", options_.listen,
                                                 ": in use, or not an address of this machine"));
    }
    thread_ = std::thread([this] {
      server_.listen_after_bind();
      ended_ = true;
    });
    // Stop has no effect before the library's loop runs.
    while (!server_.is_running() && !ended_) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (server_.is_running()) return absl::OkStatus();
    thread_.join();
    return absl::UnavailableError(absl::StrCat("cannot listen on ", options_.listen));
  }

  void Stop() {
    if (!thread_.joinable()) return;
    server_.stop();
    thread_.join();
  }

  int port() const { return port_; }

 private:
  static constexpr size_t kMaxBodyBytes = 8192;

  void Answer(const httplib::Request& request, httplib::Response* response) {
    const auto page = pages_.find(request.path);
    if (page == pages_.end()) {
      Fill({.status = 404, .body = "not found\n"}, response);
      return Count("other", 404);
    }
    if (request.method != "GET" && request.method != "HEAD") {
      Fill({.status = 405, .body = "only GET\n", .headers = {{"Allow", "GET, HEAD"}}}, response);
      // An unread body would be taken for the next request.
      response->set_header("Connection", "close");
      return Count(page->first, 405);
    }
    const HttpResponse made =
        page->second(HttpRequest{{request.params.begin(), request.params.end()}});
    Fill(made, response);
    Count(page->first, made.status);
  }

  static void Fill(const HttpResponse& made, httplib::Response* response) {
    response->status = made.status;
    response->headers.clear();
    response->set_content(made.body, made.content_type.c_str());
    for (const auto& [name, value] : made.headers) {
      response->headers.erase(name);  // set_header adds a second one
      response->set_header(name.c_str(), value);
    }
    for (const auto& [name, value] : SecurityHeaders()) {
      if (!response->has_header(name.c_str())) response->set_header(name.c_str(), value);
    }
  }

  void Count(std::string_view path, int status) {
    if (options_.metrics == nullptr) return;
    options_.metrics->Add(Metric::kHttpRequests, {path, std::to_string(status)});
  }

  const Options options_;
  const std::map<std::string, HttpPage> pages_;
  httplib::Server server_;
  std::atomic<bool> ended_{false};
  int port_ = -1;
  std::thread thread_;
};

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

absl::StatusOr<std::unique_ptr<HttpListener>> HttpListener::Create(
    Options options, std::map<std::string, HttpPage> pages) {
  auto impl = std::make_unique<Impl>(std::move(options), std::move(pages));
  if (absl::Status status = impl->Start(); !status.ok()) return status;
  return std::unique_ptr<HttpListener>(new HttpListener(std::move(impl)));
}

HttpListener::HttpListener(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpListener::~HttpListener() { Stop(); }
int HttpListener::port() const { return impl_->port(); }
void HttpListener::Stop() { impl_->Stop(); }

}  // namespace tokenbroker
