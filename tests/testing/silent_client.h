#ifndef TOKEN_BROKER_TESTS_TESTING_SILENT_CLIENT_H_
#define TOKEN_BROKER_TESTS_TESTING_SILENT_CLIENT_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"

namespace tokenbroker::testing {

// A client that speaks just enough HTTP/2 (RFC 9113) to listen: it says hello and then nothing.
class SilentClient {
 public:
  struct Frame {
    uint8_t type = 0;
    std::string payload;
  };
  static constexpr uint8_t kSettings = 4;
  static constexpr uint8_t kPing = 6;
  static constexpr uint8_t kGoAway = 7;

  explicit SilentClient(int port, absl::Duration patience = absl::Seconds(10))
      : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval timeout = absl::ToTimeval(patience);
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    const std::string hello("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33);
    EXPECT_EQ(send(socket_, hello.data(), hello.size(), MSG_NOSIGNAL), 33);
  }
  ~SilentClient() { close(socket_); }
  SilentClient(const SilentClient&) = delete;
  SilentClient& operator=(const SilentClient&) = delete;

  // nullopt: the server has closed the connection. The test fails if neither happens within
  // `patience`.
  std::optional<Frame> Read() {
    const std::string head = ReadBytes(9);
    if (head.size() < 9) return std::nullopt;
    const auto byte = [&head](int i) { return static_cast<uint8_t>(head[i]); };
    return Frame{byte(3), ReadBytes(byte(0) << 16 | byte(1) << 8 | byte(2))};
  }
  // Reads on to the first one of a type.
  std::optional<Frame> Await(uint8_t type) {
    while (std::optional<Frame> frame = Read()) {
      if (frame->type == type) return frame;
    }
    return std::nullopt;
  }
  // How many calls at once the server says that it takes, before anything else.
  std::optional<uint32_t> MaxConcurrentStreams() {
    const std::optional<Frame> settings = Read();
    if (!settings || settings->type != kSettings) return std::nullopt;
    // Every setting has 6 bytes: its number, which is 3, and its value.
    for (size_t i = 0; i + 6 <= settings->payload.size(); i += 6) {
      const auto byte = [&](size_t n) { return static_cast<uint8_t>(settings->payload[i + n]); };
      if (byte(0) == 0 && byte(1) == 3) {
        return uint32_t{byte(2)} << 24 | uint32_t{byte(3)} << 16 | uint32_t{byte(4)} << 8 | byte(5);
      }
    }
    return std::nullopt;
  }

 private:
  std::string ReadBytes(size_t size) {
    std::string bytes(size, '\0');
    const ssize_t got = recv(socket_, bytes.data(), size, MSG_WAITALL);
    EXPECT_TRUE(got >= 0 || errno == ECONNRESET) << "neither a frame nor the end";
    bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return bytes;
  }

  const int socket_;
};

}  // namespace tokenbroker::testing

#endif  // TOKEN_BROKER_TESTS_TESTING_SILENT_CLIENT_H_
