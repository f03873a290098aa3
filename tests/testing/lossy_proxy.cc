#include "tests/testing/lossy_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace tokenbroker {
namespace {

constexpr size_t kChunk = 64 * 1024;
// Between the slices of one answer: long enough that its reader sees more than one of them.
constexpr std::chrono::microseconds kSlicePause(100);

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

void SendSmallPiecesAtOnce(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

bool SendAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

bool Contains(std::string_view text, std::string_view part) {
  return !part.empty() && text.find(part) != std::string_view::npos;
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

int LossyProxy::connections() {
  MutexLock lock(mutex_);
  return connections_;
}

void LossyProxy::SetServer(uint16_t server_port) {
  MutexLock lock(mutex_);
  server_port_ = server_port;
}

void LossyProxy::LoseAnswersTo(std::string command, int count, size_t delivered, int skipped) {
  MutexLock lock(mutex_);
  lossy_command_ = std::move(command);
  losses_ = count;
  delivered_ = delivered;
  skipped_ = skipped;
}

int LossyProxy::answers_lost() {
  MutexLock lock(mutex_);
  return answers_lost_;
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

void LossyProxy::HoldAt(std::string command) {
  MutexLock lock(mutex_);
  held_command_ = std::move(command);
}

int LossyProxy::held() {
  MutexLock lock(mutex_);
  return held_;
}

void LossyProxy::Release() {
  {
    MutexLock lock(mutex_);
    hold_ = false;
    held_command_.clear();
    release_ = true;
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

void LossyProxy::Refuse(std::string command) {
  MutexLock lock(mutex_);
  refused_command_ = std::move(command);
}

void LossyProxy::SetDown(bool down) {
  {
    MutexLock lock(mutex_);
    down_ = down;
  }
  if (down) Cut();
}

void LossyProxy::SetWeather(const Weather& weather) {
  MutexLock lock(mutex_);
  weather_ = weather;
  random_.seed(weather.seed);
}

LossyProxy::Damage LossyProxy::damage() {
  MutexLock lock(mutex_);
  return damage_;
}

void LossyProxy::Wake() {
  const uint64_t one = 1;
  EXPECT_EQ(write(wake_fd_, &one, sizeof(one)), static_cast<ssize_t>(sizeof(one)));
}

void LossyProxy::Run() {
  while (true) {
    bool hold = false;
    {
      MutexLock lock(mutex_);
      hold = hold_;
      const bool all = cut_ || stop_;
      int held = 0;
      for (Link& link : links_) {
        link.dead = link.dead || all;
        if (release_) link.held = false;
        held += link.held && !link.dead;
      }
      links_.remove_if([](const Link& link) {
        if (!link.dead) return false;
        close(link.client);
        close(link.server);
        return true;
      });
      held_ = held;
      release_ = false;
      cut_ = false;
      cut_done_.NotifyAll();
      if (stop_) return;
    }

    const SteadyTime now = std::chrono::steady_clock::now();
    std::vector<pollfd> waiting = {{.fd = wake_fd_, .events = POLLIN, .revents = 0},
                                   {.fd = listener_, .events = POLLIN, .revents = 0}};
    std::vector<Link*> polled;
    SteadyTime next = SteadyTime::max();
    for (Link& link : links_) {
      if (hold || link.held) continue;
      polled.push_back(&link);
      waiting.push_back({.fd = link.client, .events = POLLIN, .revents = 0});
      waiting.push_back({.fd = link.server, .events = POLLIN, .revents = 0});
      if (!link.pieces.empty()) next = std::min(next, std::max(now, link.pieces.front().due));
    }
    timespec timeout = {};
    if (next != SteadyTime::max()) {
      const auto left = std::chrono::duration_cast<std::chrono::nanoseconds>(next - now).count();
      timeout = {.tv_sec = left / 1'000'000'000, .tv_nsec = left % 1'000'000'000};
    }
    ppoll(waiting.data(), waiting.size(), next == SteadyTime::max() ? nullptr : &timeout, nullptr);
    if (waiting[0].revents != 0) {
      uint64_t count = 0;
      // What it says does not matter, only that it is quiet again.
      [[maybe_unused]] const ssize_t n = read(wake_fd_, &count, sizeof(count));
      continue;  // it may be time to hold
    }
    for (size_t i = 0; i < polled.size(); ++i) {
      Link& link = *polled[i];
      if (waiting[2 * i + 2].revents != 0) FromClient(link);
      if (waiting[2 * i + 3].revents != 0 && !link.dead && !link.held) FromServer(link);
      Deliver(link, std::chrono::steady_clock::now());
    }
    if (waiting[1].revents != 0) Accept();
  }
}

void LossyProxy::Accept() {
  Link link;
  link.client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  link.server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  SendSmallPiecesAtOnce(link.client);
  SendSmallPiecesAtOnce(link.server);
  sockaddr_in address = {};
  {
    MutexLock lock(mutex_);
    ++connections_;
    address = Loopback(server_port_);
    link.dead = down_;
  }
  link.dead = link.dead || connect(link.server, reinterpret_cast<const sockaddr*>(&address),
                                   sizeof(address)) != 0;
  links_.push_back(std::move(link));
}

void LossyProxy::FromClient(Link& link) {
  char chunk[kChunk];
  {
    MutexLock lock(mutex_);
    if (!held_command_.empty() || !refused_command_.empty()) {
      const ssize_t n = recv(link.client, chunk, sizeof(chunk), MSG_PEEK);
      const std::string_view command(chunk, std::max<ssize_t>(n, 0));
      if (Contains(command, refused_command_)) {
        link.dead = true;
        return;
      }
      if (Contains(command, held_command_)) {
        link.held = true;  // the command stays in the socket
        ++held_;
        return;
      }
    }
  }
  const ssize_t n = recv(link.client, chunk, sizeof(chunk), 0);
  if (n <= 0) {
    link.dead = true;
    return;
  }
  const std::string_view command(chunk, static_cast<size_t>(n));
  {
    MutexLock lock(mutex_);
    if (losses_ > 0 && Contains(command, lossy_command_) && skipped_-- <= 0) {
      --losses_;
      link.lose_answer = true;
      link.delivered = delivered_;
    }
  }
  if (!SendAll(link.server, command)) link.dead = true;
}

void LossyProxy::FromServer(Link& link) {
  char chunk[kChunk];
  const ssize_t n = recv(link.server, chunk, sizeof(chunk), 0);
  if (n <= 0) {
    link.dead = true;
    return;
  }
  std::string_view answer(chunk, static_cast<size_t>(n));
  MutexLock lock(mutex_);
  if (std::exchange(link.lose_answer, false) && answer.size() > link.delivered) {
    ++answers_lost_;
    link.pieces.push_back({{}, std::string(answer.substr(0, link.delivered)), true});
    return;
  }
  Scatter(link, answer);
}

void LossyProxy::Scatter(Link& link, std::string_view answer) {
  SteadyTime due = std::chrono::steady_clock::now();
  const double chance = std::uniform_real_distribution<double>(0, 1)(random_);
  double limit = weather_.delayed;
  if (chance < limit) {
    ++damage_.delayed;
    due += absl::ToChronoNanoseconds(weather_.delay);
  } else if (chance < (limit += weather_.sliced)) {
    ++damage_.sliced;
    while (answer.size() > 1) {
      const size_t size = std::min<size_t>(answer.size() - 1,
                                           std::uniform_int_distribution<size_t>(1, 16)(random_));
      link.pieces.push_back({due, std::string(answer.substr(0, size))});
      answer.remove_prefix(size);
      due += kSlicePause;
    }
  } else if (chance < (limit += weather_.cut)) {
    ++damage_.cut;
    const size_t size = next_cut_++ % answer.size();  // in turn, so that none is left out
    damage_.cut_after.insert(size);
    link.pieces.push_back({due, std::string(answer.substr(0, size)), true});
    return;
  }
  link.pieces.push_back({due, std::string(answer)});
}

void LossyProxy::Deliver(Link& link, SteadyTime now) {
  while (!link.dead && !link.pieces.empty() && link.pieces.front().due <= now) {
    const Piece piece = std::move(link.pieces.front());
    link.pieces.pop_front();
    link.dead = !SendAll(link.client, piece.bytes) || piece.last;
  }
}

}  // namespace tokenbroker
