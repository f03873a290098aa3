#ifndef TOKEN_BROKER_TESTS_SERVER_OPS_CONNECTION_H_
#define TOKEN_BROKER_TESTS_SERVER_OPS_CONNECTION_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

namespace tokenbroker {

// A TCP connection to the listener, without an HTTP library between.
class Connection {
 public:
  explicit Connection(int port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Connection() { close(fd_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  bool connected() const { return connected_; }

  void Send(const std::string& text) {
    size_t sent = 0;
    while (sent < text.size()) {
      const ssize_t n = send(fd_, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += static_cast<size_t>(n);
    }
  }

  // Whether the other side has closed, within so many milliseconds.
  bool Ended(int wait_ms) {
    pollfd readable{fd_, POLLIN, 0};
    char byte;
    return poll(&readable, 1, wait_ms) == 1 && recv(fd_, &byte, 1, MSG_PEEK) <= 0;
  }

  bool HasAnswer() {
    pollfd readable{fd_, POLLIN, 0};
    return poll(&readable, 1, 0) == 1;
  }

  // Everything until the other side closes, or ten seconds pass without a byte.
  std::string ReadAll() {
    std::string text;
    char buffer[4096];
    pollfd readable{fd_, POLLIN, 0};
    while (poll(&readable, 1, 10'000) == 1) {
      const ssize_t n = recv(fd_, buffer, sizeof(buffer), 0);
      if (n <= 0) return text;
      text.append(buffer, static_cast<size_t>(n));
    }
    ADD_FAILURE() << "the connection stays open";
    return text;
  }

 private:
  const int fd_;
  bool connected_ = false;
};

inline std::string Exchange(int port, const std::string& request) {
  Connection connection(port);
  EXPECT_TRUE(connection.connected());
  connection.Send(request);
  return connection.ReadAll();
}

inline std::string Get(int port, const std::string& path) {
  return Exchange(port, "GET " + path + " HTTP/1.1\r\nHost: test\r\n\r\n");
}

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_SERVER_OPS_CONNECTION_H_
