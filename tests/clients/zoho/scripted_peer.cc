#include "tests/clients/zoho/scripted_peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace tokenbroker {
namespace {

// Longer than any test needs; a test that gets here fails.
constexpr absl::Duration kPatience = absl::Seconds(10);
// How soon a thread sees that the peer is being destroyed.
constexpr int kStopMilliseconds = 20;

// A socket bound to a port that the system chooses; it does not listen yet.
int BindTo(const std::string& address, int& port) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  inet_pton(AF_INET, address.c_str(), &name.sin_addr);
  socklen_t size = sizeof(name);
  if (listener < 0 || bind(listener, reinterpret_cast<sockaddr*>(&name), size) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&name), &size) != 0) {
    std::abort();  // no loopback interface: nothing can be tested
  }
  port = ntohs(name.sin_port);
  return listener;
}

// Waits for bytes (or the end). False: the peer is being destroyed.
bool WaitReadable(int socket, const std::atomic<bool>& stopping) {
  while (!stopping) {
    pollfd wanted{socket, POLLIN, 0};
    if (poll(&wanted, 1, kStopMilliseconds) > 0) return true;
  }
  return false;
}

// The length of the request at the front of `bytes`; npos: it is not complete.
size_t RequestSize(std::string_view bytes) {
  const size_t head = bytes.find("\r\n\r\n");
  if (head == std::string_view::npos) return std::string_view::npos;
  const std::string lower = absl::AsciiStrToLower({bytes.data(), head + 2});
  size_t body = 0;
  constexpr std::string_view kLength = "\r\ncontent-length:";
  if (const size_t at = lower.find(kLength); at != std::string::npos) {
    const size_t start = at + kLength.size();
    const std::string digits = lower.substr(start, lower.find("\r\n", start) - start);
    if (!absl::SimpleAtoi(digits, &body)) return std::string_view::npos;
  }
  const size_t size = head + 4 + body;
  return bytes.size() < size ? std::string_view::npos : size;
}

}  // namespace

ScriptedPeer::ScriptedPeer(std::vector<Script> scripts, const std::string& address)
    : scripts_(std::move(scripts)) {
  listener_ = BindTo(address, port_);
  if (listen(listener_, 64) != 0) std::abort();
  acceptor_ = std::thread([this] { Accept(); });
}

ScriptedPeer::~ScriptedPeer() {
  stopping_ = true;
  acceptor_.join();
  std::vector<std::thread> connections;
  {
    MutexLock lock(mutex_);
    connections.swap(connections_);
  }
  for (std::thread& connection : connections) connection.join();
  close(listener_);
}

std::string ScriptedPeer::url() const { return absl::StrCat("http://127.0.0.1:", port_); }

std::vector<ScriptedPeer::Received> ScriptedPeer::received() {
  MutexLock lock(mutex_);
  return received_;
}

std::vector<ScriptedPeer::Received> ScriptedPeer::WaitForAccepted(size_t count) {
  const absl::Time deadline = absl::Now() + kPatience;
  MutexLock lock(mutex_);
  while (received_.size() < count && absl::Now() < deadline) {
    changed_.WaitFor(mutex_, deadline - absl::Now());
  }
  return received_;
}

std::vector<ScriptedPeer::Received> ScriptedPeer::WaitForEnded(size_t count) {
  const absl::Time deadline = absl::Now() + kPatience;
  MutexLock lock(mutex_);
  const auto ended = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return static_cast<size_t>(
        std::count_if(received_.begin(), received_.end(),
                      [](const Received& received) { return received.ended; }));
  };
  while (ended() < count && absl::Now() < deadline) {
    changed_.WaitFor(mutex_, deadline - absl::Now());
  }
  return received_;
}

void ScriptedPeer::Accept() {
  while (WaitReadable(listener_, stopping_)) {
    const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) continue;
    MutexLock lock(mutex_);
    const size_t index = received_.size();
    received_.emplace_back();
    connections_.emplace_back([this, connection, index] { Serve(connection, index); });
    changed_.NotifyAll();
  }
}

void ScriptedPeer::Serve(int connection, size_t index) {
  const Script& script = scripts_[std::min(index, scripts_.size() - 1)];
  std::string unread;
  bool open = true;
  do {
    if (script.read_request) open = ReadRequest(connection, index, unread);
    open = open && Send(connection, script);
  } while (open && script.end == End::kStay && script.read_request);
  if (open && script.end == End::kStay) ReadRequest(connection, index, unread);
  if (script.end == End::kReset) {
    const linger now{1, 0};
    setsockopt(connection, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  } else if (open) {
    // Or unread bytes would turn the close into a reset.
    shutdown(connection, SHUT_WR);
    while (ReadRequest(connection, index, unread)) {
    }
  }
  close(connection);
  MutexLock lock(mutex_);
  received_[index].ended = true;
  changed_.NotifyAll();
}

bool ScriptedPeer::ReadRequest(int connection, size_t index, std::string& unread) {
  for (;;) {
    if (const size_t size = RequestSize(unread); size != std::string_view::npos) {
      unread.erase(0, size);
      MutexLock lock(mutex_);
      ++received_[index].requests;
      changed_.NotifyAll();
      return true;
    }
    if (!WaitReadable(connection, stopping_)) return false;
    char buffer[4096];
    const ssize_t count = recv(connection, buffer, sizeof(buffer), 0);
    if (count <= 0) return false;
    unread.append(buffer, static_cast<size_t>(count));
    MutexLock lock(mutex_);
    received_[index].bytes.append(buffer, static_cast<size_t>(count));
  }
}

bool ScriptedPeer::Send(int connection, const Script& script) {
  std::string_view rest = script.reply;
  while (!rest.empty()) {
    const size_t piece =
        script.drip_bytes == 0 ? rest.size() : std::min(script.drip_bytes, rest.size());
    const ssize_t count = send(connection, rest.data(), piece, MSG_NOSIGNAL);
    if (count <= 0) return false;
    rest.remove_prefix(static_cast<size_t>(count));
    if (script.drip_bytes > 0) absl::SleepFor(script.drip_interval);
    if (stopping_) return false;
  }
  return true;
}

RefusingPort::RefusingPort() : socket_(BindTo("127.0.0.1", port_)) {}

RefusingPort::~RefusingPort() { close(socket_); }

std::string RefusingPort::url() const { return absl::StrCat("http://127.0.0.1:", port_); }

std::string Reply(const std::string& status, const std::string& content_type,
                  const std::string& body) {
  return absl::StrCat("HTTP/1.1 ", status, "\r\nContent-Type: ", content_type,
                      "\r\nContent-Length: ", body.size(), "\r\n\r\n", body);
}

std::string JsonReply(const std::string& status, const std::string& body) {
  return Reply(status, "application/json;charset=utf-8", body);
}

}  // namespace tokenbroker
