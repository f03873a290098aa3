#include "tests/storage/redis/lossy_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace tokenbroker {
namespace {

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

}  // namespace

LossyProxy::LossyProxy(uint16_t server_port) : server_port_(server_port) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(listen(listener_, 64), 0);
  EXPECT_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
  port_ = ntohs(address.sin_port);
  thread_ = std::thread(&LossyProxy::Run, this);
}

LossyProxy::~LossyProxy() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
  }
  Wake();
  thread_.join();
  close(listener_);
  close(wake_fd_);
}

void LossyProxy::LoseAnswersTo(std::string command, int count) {
  MutexLock lock(mutex_);
  lossy_command_ = std::move(command);
  losses_ = count;
}

int LossyProxy::losses_left() {
  MutexLock lock(mutex_);
  return losses_;
}

void LossyProxy::Hold() {
  {
    MutexLock lock(mutex_);
    hold_ = true;
  }
  Wake();
}

void LossyProxy::Release() {
  {
    MutexLock lock(mutex_);
    hold_ = false;
  }
  Wake();
}

void LossyProxy::Cut() {
  {
    MutexLock lock(mutex_);
    cut_ = true;
  }
  Wake();
  MutexLock lock(mutex_);
  while (cut_) cut_done_.Wait(mutex_);
}

void LossyProxy::Wake() {
  const uint64_t one = 1;
  EXPECT_EQ(write(wake_fd_, &one, sizeof(one)), static_cast<ssize_t>(sizeof(one)));
}

void LossyProxy::Run() {
  bool stop = false;
  while (!stop) {
    bool hold = false;
    {
      MutexLock lock(mutex_);
      stop = stop_;
      hold = hold_;
      for (Link& link : links_) link.dead = link.dead || cut_ || stop_;
      links_.remove_if([](const Link& link) {
        if (!link.dead) return false;
        close(link.client);
        close(link.server);
        return true;
      });
      cut_ = false;
      cut_done_.NotifyAll();
    }
    if (stop) return;

    std::vector<pollfd> waiting = {{.fd = wake_fd_, .events = POLLIN, .revents = 0},
                                   {.fd = listener_, .events = POLLIN, .revents = 0}};
    if (!hold) {
      for (const Link& link : links_) {
        waiting.push_back({.fd = link.client, .events = POLLIN, .revents = 0});
        waiting.push_back({.fd = link.server, .events = POLLIN, .revents = 0});
      }
    }
    poll(waiting.data(), waiting.size(), -1);
    if (waiting[0].revents != 0) {
      uint64_t count = 0;
      // What it says does not matter, only that it is quiet again.
      [[maybe_unused]] const ssize_t n = read(wake_fd_, &count, sizeof(count));
      continue;  // it may be time to hold
    }
    size_t i = 2;
    for (Link& link : links_) {
      if (i >= waiting.size()) break;
      if (waiting[i++].revents != 0) Pump(link, true);
      if (waiting[i++].revents != 0 && !link.dead) Pump(link, false);
    }
    if (waiting[1].revents != 0) Accept();
  }
}

void LossyProxy::Accept() {
  Link link;
  link.client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  link.server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = Loopback(server_port_);
  link.dead =
      connect(link.server, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0;
  links_.push_back(link);
}

void LossyProxy::Pump(Link& link, bool from_client) {
  char chunk[64 * 1024];
  const ssize_t n = recv(from_client ? link.client : link.server, chunk, sizeof(chunk), 0);
  if (n <= 0) {
    link.dead = true;
    return;
  }
  if (from_client) {
    MutexLock lock(mutex_);
    if (losses_ > 0 && std::string_view(chunk, n).find(lossy_command_) != std::string_view::npos) {
      --losses_;
      link.lose_answer = true;
    }
  } else if (link.lose_answer) {
    link.dead = true;
    return;
  }
  for (ssize_t sent = 0; sent < n;) {
    const ssize_t m =
        send(from_client ? link.server : link.client, chunk + sent, n - sent, MSG_NOSIGNAL);
    if (m <= 0) {
      link.dead = true;
      return;
    }
    sent += m;
  }
}

}  // namespace tokenbroker
