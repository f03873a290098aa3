#include "server/ops/http_listener.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <chrono>
#include <cstdint>
#include <exception>
#include <limits>
#include <list>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/mutex.h"

namespace tokenbroker {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;

constexpr size_t kMaxTargetBytes = 8u << 10;
constexpr size_t kMaxHeadBytes = 16u << 10;
// What is read, and thrown away, of a client that goes on sending after its answer: a close would
// take the answer from it.
constexpr size_t kMaxIgnoredBytes = 64u << 10;
constexpr absl::Duration kLinger = absl::Seconds(1);
constexpr absl::Duration kAcceptPause = absl::Milliseconds(100);

// The URL of the consent page holds an authorization code: no cache, no referrer, nothing loaded
// from elsewhere that could see it, no frame around it.
constexpr std::pair<const char*, const char*> kHeaders[] = {
    {"Cache-Control", "no-store"},
    {"Content-Security-Policy",
     "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
    {"Referrer-Policy", "no-referrer"},
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
};

struct Address {
  std::string host;
  std::string port;
};

std::optional<Address> ParseAddress(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  if (colon == std::string::npos || colon == 0) return std::nullopt;
  Address address{listen.substr(0, colon), listen.substr(colon + 1)};
  int port = 0;
  if (!absl::SimpleAtoi(address.port, &port) || port < 0 || port > 65535) return std::nullopt;
  address.port = std::to_string(port);
  if (address.host.size() > 2 && address.host.front() == '[' && address.host.back() == ']') {
    address.host = address.host.substr(1, address.host.size() - 2);
  }
  return address;
}

// The way of answers from other threads to the listener's, which may have ended meanwhile.
class Mailbox {
 public:
  explicit Mailbox(asio::io_context* io) : io_(io) {}

  void Post(std::function<void()> task) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    if (io_ != nullptr) asio::post(*io_, std::move(task));
  }
  void Close() ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    io_ = nullptr;
  }

 private:
  Mutex mutex_;
  asio::io_context* io_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

// Everything but port(), status() and Stop() runs on one thread.
class HttpListener::Impl {
 public:
  Impl(Options options, std::map<std::string, HttpPage> pages)
      : options_(std::move(options)), pages_(std::move(pages)) {}

  absl::Status Start();
  void Stop();

  int port() const { return port_; }
  absl::Status status() const ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    return status_;
  }

 private:
  class Connection;

  void Listen(const tcp::endpoint& endpoint, error_code& ec);
  void Run();
  void Accept();
  void OnAcceptError(const error_code& ec);
  bool MakeRoom();
  void BeginStop();
  void Forget(const std::shared_ptr<Connection>& connection);
  void End(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_);
  void Count(std::string_view path, int status) {
    if (options_.metrics == nullptr) return;
    options_.metrics->Add(Metric::kHttpRequests, {path, std::to_string(status)});
  }

  const Options options_;
  const std::map<std::string, HttpPage> pages_;
  asio::io_context io_{1};
  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>(&io_);
  tcp::acceptor acceptor_{io_};
  asio::steady_timer accept_again_{io_};
  asio::steady_timer stop_timer_{io_};
  std::list<std::shared_ptr<Connection>> connections_;  // the oldest first
  int pages_later_ = 0;
  int port_ = -1;
  std::thread thread_;
  mutable Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

// One connection: reads a head, answers, reads on a little so that the answer arrives, closes. Each
// of these steps has one deadline.
class HttpListener::Impl::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Impl* listener, tcp::socket socket)
      : listener_(*listener), socket_(std::move(socket)), deadline_(listener->io_) {}

  void Start() {
    Enter(Step::kReading, listener_.options_.read_timeout);
    asio::async_read_until(socket_, asio::dynamic_buffer(head_, kMaxHeadBytes), "\r\n\r\n",
                           [self = shared_from_this()](const error_code& ec, size_t bytes) {
                             self->OnHead(ec, bytes);
                           });
  }

  bool is_reading() const { return step_ == Step::kReading; }
  // It waits for a page, and so for us.
  bool is_waiting() const { return step_ == Step::kWaiting; }

  void Close() {
    if (step_ == Step::kClosed) return;
    if (step_ == Step::kWaiting) --listener_.pages_later_;
    step_ = Step::kClosed;
    deadline_.cancel();
    error_code ignored;
    socket_.close(ignored);
    listener_.Forget(shared_from_this());
  }

 private:
  enum class Step { kReading, kWaiting, kWriting, kLingering, kClosed };

  void Enter(Step step, absl::Duration timeout) {
    step_ = step;
    deadline_.expires_after(absl::ToChronoNanoseconds(timeout));
    deadline_.async_wait([self = shared_from_this()](const error_code& ec) {
      // It may have been moved when this was on its way already.
      if (!ec && self->deadline_.expiry() <= std::chrono::steady_clock::now()) self->Close();
    });
  }

  void OnHead(const error_code& ec, size_t bytes) {
    if (step_ != Step::kReading) return;
    if (ec == asio::error::not_found) {
      const bool of_headers = head_.find('\n') != std::string::npos;
      return Answer({.status = of_headers ? 431 : 414, .body = "too long\n"});
    }
    if (ec) return Close();
    parser_.header_limit(kMaxHeadBytes);
    // What has a body is refused for its method, whatever its length.
    parser_.body_limit(std::numeric_limits<uint64_t>::max());
    error_code malformed;
    parser_.put(asio::buffer(head_.data(), bytes), malformed);
    if (malformed || !parser_.is_header_done()) {
      return Answer({.status = 400, .body = "bad request\n"});
    }
    Dispatch();
  }

  void Dispatch() {
    const std::string target(parser_.get().target());
    if (target.size() > kMaxTargetBytes) return Answer({.status = 414, .body = "too long\n"});
    const size_t path_bytes = std::min(target.find('?'), target.size());
    const auto page = listener_.pages_.find(target.substr(0, path_bytes));
    if (page == listener_.pages_.end()) return Answer({.status = 404, .body = "not found\n"});
    path_ = page->first;
    if (parser_.get().method() != http::verb::get && parser_.get().method() != http::verb::head) {
      return Answer({.status = 405, .body = "only GET\n"});
    }
    const HttpRequest request =
        ParseHttpQuery(std::string_view(target).substr(std::min(path_bytes + 1, target.size())));
    if (const auto* later = std::get_if<HttpPageLater>(&page->second)) {
      return AnswerLater(*later, request);
    }
    HttpResponse made;
    try {
      made = std::get<HttpPageNow>(page->second)(request);
    } catch (...) {
      // What it says is nobody's business.
      made = {.status = 500, .body = "internal error\n"};
    }
    Answer(std::move(made));
  }

  void AnswerLater(const HttpPageLater& page, const HttpRequest& request) {
    if (listener_.pages_later_ >= listener_.options_.max_pages_later) {
      return Answer({.status = 503, .body = "busy, try again\n"});
    }
    ++listener_.pages_later_;
    Enter(Step::kWaiting, listener_.options_.page_timeout);
    HttpAnswer answer = [mailbox = listener_.mailbox_, to = weak_from_this()](HttpResponse made) {
      mailbox->Post([to, made = std::move(made)]() mutable {
        const std::shared_ptr<Connection> self = to.lock();
        if (self != nullptr && self->is_waiting()) self->Answer(std::move(made));
      });
    };
    try {
      page(request, answer);
    } catch (...) {
      answer({.status = 500, .body = "internal error\n"});
    }
  }

  void Answer(HttpResponse made) {
    if (step_ == Step::kWaiting) --listener_.pages_later_;
    listener_.Count(path_, made.status);
    response_.result(static_cast<unsigned>(made.status));
    response_.version(11);
    for (const auto& [name, value] : kHeaders) response_.set(name, value);
    response_.set(http::field::content_type, made.content_type);
    if (made.status == 405) response_.set(http::field::allow, "GET, HEAD");
    response_.content_length(made.body.size());
    response_.keep_alive(false);
    if (parser_.get().method() != http::verb::head) response_.body() = std::move(made.body);
    Enter(Step::kWriting, listener_.options_.write_timeout);
    http::async_write(socket_, response_,
                      [self = shared_from_this()](const error_code& ec, size_t) {
                        if (self->step_ != Step::kWriting) return;
                        if (ec) return self->Close();
                        self->Linger();
                      });
  }

  void Linger() {
    Enter(Step::kLingering, kLinger);
    error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
    Ignore();
  }

  void Ignore() {
    head_.resize(kMaxHeadBytes);
    socket_.async_read_some(asio::buffer(head_),
                            [self = shared_from_this()](const error_code& ec, size_t bytes) {
                              self->ignored_bytes_ += bytes;
                              if (ec || self->ignored_bytes_ > kMaxIgnoredBytes) self->Close();
                              if (self->step_ == Step::kLingering) self->Ignore();
                            });
  }

  Impl& listener_;  // outlives what is called here, but not this object
  tcp::socket socket_;
  asio::steady_timer deadline_;
  Step step_ = Step::kReading;
  std::string head_;
  http::request_parser<http::empty_body> parser_;
  std::string_view path_ = "other";  // of the metric
  http::response<http::string_body> response_;
  size_t ignored_bytes_ = 0;
};

absl::Status HttpListener::Impl::Start() {
  const std::optional<Address> address = ParseAddress(options_.listen);
  if (!address) {
    return absl::InvalidArgumentError(absl::StrCat("'", options_.listen, "' is not host:port"));
  }
  error_code ec;
  tcp::resolver resolver(io_);
  const auto found = resolver.resolve(address->host, address->port,
                                      tcp::resolver::passive | tcp::resolver::numeric_service, ec);
  for (const auto& entry : found) {
    Listen(entry.endpoint(), ec);
    // In use: the other addresses of the name would be half of what is wanted.
    if (!ec || ec == asio::error::address_in_use) break;
  }
  if (ec || !acceptor_.is_open()) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", options_.listen,
                                               ": in use, or not an address of this machine"));
  }
  port_ = acceptor_.local_endpoint(ec).port();
  Accept();
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

// Without SO_REUSEPORT: two brokers on one address would each get a share of the requests.
void HttpListener::Impl::Listen(const tcp::endpoint& endpoint, error_code& ec) {
  error_code ignored;
  acceptor_.close(ignored);
  acceptor_.open(endpoint.protocol(), ec);
  if (!ec) acceptor_.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) acceptor_.bind(endpoint, ec);
  if (!ec) acceptor_.listen(asio::socket_base::max_listen_connections, ec);
}

void HttpListener::Impl::Run() {
  try {
    io_.run();
  } catch (const std::exception& e) {
    End(absl::InternalError(e.what()));
  }
}

void HttpListener::Impl::Accept() {
  acceptor_.async_accept([this](const error_code& ec, tcp::socket socket) {
    if (!acceptor_.is_open()) return;
    if (ec) return OnAcceptError(ec);
    if (connections_.size() < static_cast<size_t>(options_.max_connections) || MakeRoom()) {
      connections_.push_back(std::make_shared<Connection>(this, std::move(socket)));
      connections_.back()->Start();
    }
    Accept();
  });
}

void HttpListener::Impl::OnAcceptError(const error_code& ec) {
  if (ec == asio::error::bad_descriptor || ec == asio::error::invalid_argument ||
      ec == asio::error::not_socket) {
    End(absl::UnavailableError(absl::StrCat("no longer listening: ", ec.message())));
    return BeginStop();
  }
  // Of the connection that is lost, or of the machine, for a while.
  if (ec == asio::error::no_descriptors) MakeRoom();
  accept_again_.expires_after(absl::ToChronoNanoseconds(kAcceptPause));
  accept_again_.async_wait([this](const error_code& cancelled) {
    if (!cancelled && acceptor_.is_open()) Accept();
  });
}

// Whoever means it has sent its request by the time that it is the oldest.
bool HttpListener::Impl::MakeRoom() {
  const auto oldest = std::find_if(connections_.begin(), connections_.end(),
                                   [](const auto& one) { return !one->is_waiting(); });
  if (oldest == connections_.end()) return false;
  std::shared_ptr<Connection>(*oldest)->Close();
  return true;
}

void HttpListener::Impl::End(absl::Status status) {
  MutexLock lock(mutex_);
  status_ = std::move(status);
}

void HttpListener::Impl::Forget(const std::shared_ptr<Connection>& connection) {
  connections_.remove(connection);
  if (connections_.empty()) stop_timer_.cancel();
}

// The loop ends when nothing is left to do.
void HttpListener::Impl::BeginStop() {
  error_code ignored;
  acceptor_.close(ignored);
  accept_again_.cancel();
  const std::list<std::shared_ptr<Connection>> open = connections_;
  for (const auto& connection : open) {
    if (connection->is_reading()) connection->Close();
  }
  if (connections_.empty()) return;
  stop_timer_.expires_after(absl::ToChronoNanoseconds(options_.write_timeout));
  stop_timer_.async_wait([this](const error_code& cancelled) {
    if (!cancelled) io_.stop();
  });
}

void HttpListener::Impl::Stop() {
  if (!thread_.joinable()) return;
  mailbox_->Post([this] { BeginStop(); });
  thread_.join();
  mailbox_->Close();
  const std::list<std::shared_ptr<Connection>> open = connections_;
  for (const auto& connection : open) connection->Close();
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
absl::Status HttpListener::status() const { return impl_->status(); }
void HttpListener::Stop() { impl_->Stop(); }

}  // namespace tokenbroker
