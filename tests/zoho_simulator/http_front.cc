// The only file here that includes Boost, and long for that reason.

#include "tests/zoho_simulator/http_front.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <future>
#include <map>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/mutex.h"

namespace tokenbroker::zoho_simulator {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;
using PlainStream = tcp::socket;
using TlsStream = asio::ssl::stream<tcp::socket>;

constexpr size_t kMaxHeaderBytes = 64u << 10;
constexpr size_t kReadAhead = 4096;
constexpr size_t kHugeBlock = 64u << 10;

// Closes with RST instead of FIN.
void Reset(tcp::socket& socket) {
  error_code ignored;
  socket.set_option(asio::socket_base::linger(true, 0), ignored);
  socket.close(ignored);
}

const char* ReasonOf(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 302:
      return "Found";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 404:
      return "Not Found";
    case 429:
      return "Too Many Requests";
    case 500:
      return "Internal Server Error";
    case 503:
      return "Service Unavailable";
    default:
      return "Status";
  }
}

bool IsMalformed(const error_code& ec) {
  const error_code end_of_stream = http::error::end_of_stream;
  return ec.category() == end_of_stream.category() && ec != end_of_stream;
}

// What connections need of the front.
struct Shared {
  HttpFront::OnRequest on_request;
  size_t max_body_bytes = 0;
};

// One connection; serves one request after the other. All of it runs on the socket's strand.
template <typename Stream>
class Connection : public std::enable_shared_from_this<Connection<Stream>> {
 public:
  static constexpr bool kTls = std::is_same_v<Stream, TlsStream>;

  Connection(Stream stream, std::string label, uint64_t id, std::shared_ptr<const Shared> shared)
      : stream_(std::move(stream)), label_(std::move(label)), id_(id), shared_(std::move(shared)) {}

  void Start() {
    if constexpr (kTls) {
      stream_.async_handshake(asio::ssl::stream_base::server,
                              [self = this->shared_from_this()](error_code ec) {
                                if (!ec) self->ReadRequest();
                              });
    } else {
      ReadRequest();
    }
  }

  class Exchange : public HttpExchange {
   public:
    Exchange(std::shared_ptr<Connection> connection, HttpRequest request)
        : connection_(std::move(connection)), request_(std::move(request)) {}

    const HttpRequest& request() const override { return request_; }

    void After(absl::Duration delay, std::function<void()> next) override {
      const auto executor = connection_->socket().get_executor();
      if (delay <= absl::ZeroDuration()) {
        asio::post(executor, std::move(next));
        return;
      }
      auto timer = std::make_shared<asio::steady_timer>(executor);
      timer->expires_after(absl::ToChronoNanoseconds(delay));
      timer->async_wait([timer, next = std::move(next)](error_code ec) {
        if (!ec) next();
      });
    }

    void End(HttpEnding ending) override { connection_->End(std::move(ending)); }

    void OnClientGone(std::function<void()> gone) override {
      if (connection_->broken_) {
        gone();
      } else {
        connection_->on_client_gone_ = std::move(gone);
      }
    }

   private:
    std::shared_ptr<Connection> connection_;
    HttpRequest request_;
  };

 private:
  tcp::socket& socket() {
    if constexpr (kTls) {
      return stream_.next_layer();
    } else {
      return stream_;
    }
  }

  void ReadRequest() {
    parser_.emplace();
    parser_->header_limit(kMaxHeaderBytes);
    parser_->body_limit(shared_->max_body_bytes);
    http::async_read(stream_, buffer_, *parser_,
                     [self = this->shared_from_this()](error_code ec, size_t) {
                       if (!ec) {
                         self->OnRead();
                       } else if (IsMalformed(ec)) {
                         self->RefuseMalformed();
                       } else {
                         self->Close();
                       }
                     });
  }

  void OnRead() {
    const auto& message = parser_->get();
    HttpRequest request;
    request.label = label_;
    request.method = std::string(message.method_string().data(), message.method_string().size());
    request.target = std::string(message.target().data(), message.target().size());
    const size_t question = request.target.find('?');
    request.path = request.target.substr(0, question);
    if (question != std::string::npos) request.query = request.target.substr(question + 1);
    const auto header = [&](http::field field) {
      const auto value = message[field];
      return std::string(value.data(), value.size());
    };
    request.authorization = header(http::field::authorization);
    request.content_type = header(http::field::content_type);
    request.connection_id = id_;
    request.https = kTls;
    keep_alive_ = message.keep_alive();
    request.body = std::move(parser_->get().body());
    ended_ = false;
    // With the next request there already, nothing more need come for this one to end.
    if (buffer_.size() == 0) WatchClient();
    shared_->on_request(std::make_shared<Exchange>(this->shared_from_this(), std::move(request)));
  }

  void RefuseMalformed() {
    keep_alive_ = false;
    ended_ = false;
    HttpEnding ending;
    ending.status = 400;
    ending.content_type = "text/html;charset=UTF-8";
    ending.body = "<html><body><h1>HTTP Status 400</h1></body></html>\n";
    End(std::move(ending));
  }

  // Reads ahead while the request is being worked on: the only way to see the caller leave.
  void WatchClient() {
    watching_ = true;
    stream_.async_read_some(buffer_.prepare(kReadAhead),
                            [self = this->shared_from_this()](error_code ec, size_t bytes) {
                              self->OnWatched(ec, bytes);
                            });
  }

  void OnWatched(error_code ec, size_t bytes) {
    watching_ = false;
    if (ec) {
      broken_ = true;
      if (!ended_ && on_client_gone_) std::exchange(on_client_gone_, nullptr)();
      if (next_wanted_) Close();
      return;
    }
    buffer_.commit(bytes);
    if (std::exchange(next_wanted_, false)) ReadRequest();
  }

  void End(HttpEnding ending) {
    ended_ = true;
    on_client_gone_ = nullptr;
    if (ending.action == HttpEnding::Action::kReset || broken_) {
      if (ending.before_end) ending.before_end();
      Reset(socket());
      return;
    }
    huge_left_ = ending.huge_bytes;
    const size_t body_bytes = huge_left_ != 0 ? huge_left_ : ending.body.size();
    out_ = absl::StrCat("HTTP/1.1 ", ending.status, " ", ReasonOf(ending.status),
                        "\r\nServer: ZGS\r\nContent-Type: ", ending.content_type,
                        "\r\nContent-Length: ", body_bytes, "\r\nCache-Control: no-store\r\n");
    if (!ending.location.empty()) absl::StrAppend(&out_, "Location: ", ending.location, "\r\n");
    if (ending.truncate_bytes.has_value()) keep_alive_ = false;
    absl::StrAppend(&out_, keep_alive_ ? "Connection: keep-alive" : "Connection: close", "\r\n\r\n",
                    ending.body);
    if (ending.truncate_bytes.has_value()) {
      out_.resize(std::min(out_.size(), *ending.truncate_bytes));
      huge_left_ = 0;
    }
    before_end_ = std::move(ending.before_end);
    written_ = 0;
    piece_ = ending.drip_interval.has_value() ? std::max<size_t>(ending.drip_bytes, 1) : SIZE_MAX;
    interval_ = ending.drip_interval.value_or(absl::ZeroDuration());
    huge_first_ = true;
    WritePiece();
  }

  void WritePiece() {
    const size_t size = std::min(out_.size() - written_, piece_);
    if (written_ + size == out_.size() && huge_left_ == 0 && before_end_) {
      std::exchange(before_end_, nullptr)();
    }
    asio::async_write(stream_, asio::buffer(out_.data() + written_, size),
                      [self = this->shared_from_this(), size](error_code ec, size_t) {
                        self->OnWritten(ec, size);
                      });
  }

  void OnWritten(error_code ec, size_t size) {
    if (ec) {
      if (before_end_) std::exchange(before_end_, nullptr)();
      Reset(socket());
      return;
    }
    written_ += size;
    if (written_ < out_.size()) {
      if (interval_ <= absl::ZeroDuration()) {
        WritePiece();
        return;
      }
      auto timer = std::make_shared<asio::steady_timer>(socket().get_executor());
      timer->expires_after(absl::ToChronoNanoseconds(interval_));
      timer->async_wait([timer, self = this->shared_from_this()](error_code wait_ec) {
        if (!wait_ec) self->WritePiece();
      });
      return;
    }
    if (huge_left_ != 0) {
      FillHugeBlock();
      WritePiece();
      return;
    }
    if (!keep_alive_) {
      Close();
    } else if (watching_) {
      next_wanted_ = true;
    } else if (broken_) {
      Close();
    } else {
      ReadRequest();
    }
  }

  // The next block of a huge body: one JSON string.
  void FillHugeBlock() {
    constexpr std::string_view kStart = "{\"padding\":\"";
    constexpr std::string_view kEnd = "\"}";
    out_.assign(std::min(huge_left_, kHugeBlock), 'x');
    if (std::exchange(huge_first_, false) && out_.size() >= kStart.size()) {
      out_.replace(0, kStart.size(), kStart);
    }
    huge_left_ -= out_.size();
    if (huge_left_ == 0 && out_.size() >= kEnd.size()) {
      out_.replace(out_.size() - kEnd.size(), kEnd.size(), kEnd);
    }
    written_ = 0;
  }

  void Close() {
    error_code ignored;
    socket().shutdown(tcp::socket::shutdown_both, ignored);
    socket().close(ignored);
  }

  Stream stream_;
  const std::string label_;
  const uint64_t id_;
  const std::shared_ptr<const Shared> shared_;
  boost::beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  std::function<void()> on_client_gone_;
  bool keep_alive_ = false;
  bool watching_ = false;     // the read-ahead is under way
  bool next_wanted_ = false;  // read the next request when it comes back
  bool broken_ = false;       // the caller has left
  bool ended_ = true;

  // The reply that is leaving.
  std::string out_;
  size_t written_ = 0;
  size_t piece_ = 0;
  absl::Duration interval_;
  size_t huge_left_ = 0;
  bool huge_first_ = true;
  std::function<void()> before_end_;
};

}  // namespace

class HttpFront::Impl {
 public:
  explicit Impl(Options options)
      : threads_(std::max(options.threads, 1)),
        io_(threads_),
        work_(asio::make_work_guard(io_)),
        tls_(asio::ssl::context::tls_server),
        certificate_(std::move(options.certificate)) {
    auto shared = std::make_shared<Shared>();
    shared->on_request = std::move(options.on_request);
    shared->max_body_bytes = options.max_body_bytes;
    shared_ = std::move(shared);
  }

  ~Impl() { Stop(); }

  absl::Status Start() {
    if (certificate_.has_value()) {
      // No session is ever resumed here; tickets and the cache would only cost time and memory.
      SSL_CTX_set_session_cache_mode(tls_.native_handle(), SSL_SESS_CACHE_OFF);
      SSL_CTX_set_num_tickets(tls_.native_handle(), 0);
      SSL_CTX_set_mode(tls_.native_handle(), SSL_MODE_RELEASE_BUFFERS);
      error_code ec;
      tls_.use_certificate_chain(asio::buffer(certificate_->certificate_pem), ec);
      if (!ec) {
        tls_.use_private_key(asio::buffer(certificate_->private_key_pem), asio::ssl::context::pem,
                             ec);
      }
      if (ec) return absl::InternalError(absl::StrCat("certificate: ", ec.message()));
    }
    for (int i = 0; i < threads_; ++i) {
      running_.emplace_back([this] { io_.run(); });
    }
    return absl::OkStatus();
  }

  void Stop() {
    work_.reset();
    io_.stop();
    for (std::thread& thread : running_) thread.join();
    running_.clear();
  }

  absl::StatusOr<uint16_t> Listen(std::string label, const std::string& address, uint16_t port,
                                  bool https) {
    error_code ec;
    const auto ip = asio::ip::make_address(address, ec);
    if (ec) return absl::UnavailableError(absl::StrCat("bad address ", address));
    auto listener =
        std::make_shared<Listener>(*this, std::move(label), tcp::endpoint(ip, port), https);
    if (absl::Status status = listener->Open(); !status.ok()) return status;
    {
      MutexLock lock(mutex_);
      listeners_.push_back(listener);
    }
    asio::post(listener->strand, [listener] { listener->Accept(); });
    return listener->endpoint.port();
  }

  absl::Status SetAcceptMode(std::string_view label, AcceptMode mode) {
    std::vector<std::shared_ptr<Listener>> chosen;
    {
      MutexLock lock(mutex_);
      for (const auto& listener : listeners_) {
        if (listener->label == label) chosen.push_back(listener);
      }
    }
    if (chosen.empty()) return absl::NotFoundError("no such DC");
    for (const auto& listener : chosen) {
      std::promise<absl::Status> done;
      asio::post(listener->strand, [&] { done.set_value(listener->SetMode(mode)); });
      if (absl::Status status = done.get_future().get(); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  int64_t connections(std::string_view label) const {
    MutexLock lock(mutex_);
    int64_t sum = 0;
    for (const auto& [name, count] : connections_) {
      if (label.empty() || name == label) sum += count;
    }
    return sum;
  }

 private:
  using Strand = asio::strand<asio::io_context::executor_type>;

  // One port. Runs on its strand.
  struct Listener : std::enable_shared_from_this<Listener> {
    Listener(Impl& the_front, std::string the_label, tcp::endpoint the_endpoint, bool is_https)
        : front(the_front),
          label(std::move(the_label)),
          endpoint(std::move(the_endpoint)),
          https(is_https),
          strand(asio::make_strand(the_front.io_)),
          acceptor(strand) {}

    absl::Status Open() {
      error_code ec;
      acceptor.open(endpoint.protocol(), ec);
      if (!ec) acceptor.set_option(asio::socket_base::reuse_address(true), ec);
      if (!ec) acceptor.bind(endpoint, ec);
      if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
      if (!ec) endpoint = acceptor.local_endpoint(ec);
      if (ec) {
        return absl::UnavailableError(absl::StrCat("port ", endpoint.port(), ": ", ec.message()));
      }
      return absl::OkStatus();
    }

    void Accept() {
      acceptor.async_accept(asio::make_strand(front.io_),
                            asio::bind_executor(strand, [self = shared_from_this()](
                                                            error_code ec, tcp::socket socket) {
                              if (ec == asio::error::operation_aborted) return;
                              if (!ec) self->Serve(std::move(socket));
                              if (!self->acceptor.is_open()) return;
                              if (ec) {  // no descriptors left: they come back
                                self->retry.expires_after(std::chrono::milliseconds(20));
                                self->retry.async_wait([self](error_code wait_ec) {
                                  if (!wait_ec && self->acceptor.is_open()) self->Accept();
                                });
                                return;
                              }
                              self->Accept();
                            }));
    }

    void Serve(tcp::socket socket) {
      const uint64_t id = front.CountConnection(label);
      if (mode == AcceptMode::kReset) {
        Reset(socket);
        return;
      }
      if (mode == AcceptMode::kStall) {
        stalled.push_back(std::move(socket));
        return;
      }
      error_code ignored;
      socket.set_option(tcp::no_delay(true), ignored);
      const auto executor = socket.get_executor();
      if (https) {
        auto connection = std::make_shared<Connection<TlsStream>>(
            TlsStream(std::move(socket), front.tls_), label, id, front.shared_);
        asio::post(executor, [connection] { connection->Start(); });
      } else {
        auto connection =
            std::make_shared<Connection<PlainStream>>(std::move(socket), label, id, front.shared_);
        asio::post(executor, [connection] { connection->Start(); });
      }
    }

    absl::Status SetMode(AcceptMode new_mode) {
      mode = new_mode;
      if (mode != AcceptMode::kStall) stalled.clear();
      error_code ignored;
      if (mode == AcceptMode::kRefuse) {
        acceptor.close(ignored);
      } else if (!acceptor.is_open()) {
        if (absl::Status status = Open(); !status.ok()) {
          acceptor.close(ignored);
          return status;
        }
        Accept();
      }
      return absl::OkStatus();
    }

    Impl& front;
    const std::string label;
    tcp::endpoint endpoint;
    const bool https;
    Strand strand;
    tcp::acceptor acceptor;
    asio::steady_timer retry{strand};
    AcceptMode mode = AcceptMode::kServe;
    std::vector<tcp::socket> stalled;
  };

  uint64_t CountConnection(const std::string& label) {
    MutexLock lock(mutex_);
    ++connections_[label];
    return ++next_connection_;
  }

  const int threads_;
  asio::io_context io_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  asio::ssl::context tls_;
  const std::optional<Certificate> certificate_;
  std::shared_ptr<const Shared> shared_;
  std::vector<std::thread> running_;

  mutable Mutex mutex_;
  std::vector<std::shared_ptr<Listener>> listeners_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int64_t> connections_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_connection_ ABSL_GUARDED_BY(mutex_) = 0;
};

HttpFront::HttpFront(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpFront::~HttpFront() = default;

absl::StatusOr<std::unique_ptr<HttpFront>> HttpFront::Create(Options options) {
  auto impl = std::make_unique<Impl>(std::move(options));
  if (absl::Status status = impl->Start(); !status.ok()) return status;
  return std::unique_ptr<HttpFront>(new HttpFront(std::move(impl)));
}

void HttpFront::Stop() { impl_->Stop(); }

absl::StatusOr<uint16_t> HttpFront::Listen(std::string label, const std::string& address,
                                           uint16_t port, bool https) {
  return impl_->Listen(std::move(label), address, port, https);
}

absl::Status HttpFront::SetAcceptMode(std::string_view label, AcceptMode mode) {
  return impl_->SetAcceptMode(label, mode);
}

int64_t HttpFront::connections(std::string_view label) const { return impl_->connections(label); }

}  // namespace tokenbroker::zoho_simulator
