// A server on a loopback port that speaks bytes, not HTTP: it does to each connection what its
// script says and remembers every byte that came in. For what no well-behaved server does.
//
//   ScriptedPeer peer({{.reply = JsonReply("200 OK", "{}")}, {.end = ScriptedPeer::End::kReset}});
//   ... the code under test posts to peer.url() ...
//   EXPECT_EQ(peer.WaitForEnded(1)[0].requests, 1);
//
// Thread-safe. The destructor ends all connections.

#ifndef TOKEN_BROKER_TESTS_CLIENTS_ZOHO_SCRIPTED_PEER_H_
#define TOKEN_BROKER_TESTS_CLIENTS_ZOHO_SCRIPTED_PEER_H_

#include <atomic>
#include <cstddef>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "common/mutex.h"

namespace tokenbroker {

class ScriptedPeer {
 public:
  // How a connection ends once the reply is out.
  enum class End {
    kClose,  // in good order
    kReset,  // TCP RST
    kStay,   // until the caller closes it; further requests are read and answered in the same way
  };
  struct Script {
    bool read_request = true;  // before the reply
    std::string reply;
    size_t drip_bytes = 0;  // 0: all at once; else in pieces of this size …
    absl::Duration drip_interval = absl::ZeroDuration();  // … this far apart
    End end = End::kClose;
  };
  // What came in on one connection.
  struct Received {
    std::string bytes;
    int requests = 0;  // complete ones
    bool ended = false;
  };

  // Connection i follows script i, later ones the last. `address`: the loopback address to listen
  // on.
  explicit ScriptedPeer(std::vector<Script> scripts, const std::string& address = "127.0.0.1");
  ~ScriptedPeer();

  std::string url() const;  // "http://127.0.0.1:4711"
  int port() const { return port_; }

  // All connections so far, in the order of arrival.
  std::vector<Received> received();
  // Waits until at least `count` connections were accepted (or have ended), then returns all. After
  // 10 s it returns what there is.
  std::vector<Received> WaitForAccepted(size_t count);
  std::vector<Received> WaitForEnded(size_t count);

 private:
  void Accept();
  void Serve(int connection, size_t index);
  // Reads until a request is complete. False: the caller closed the connection first.
  bool ReadRequest(int connection, size_t index, std::string& unread);
  bool Send(int connection, const Script& script);

  const std::vector<Script> scripts_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stopping_{false};

  Mutex mutex_;
  CondVar changed_;
  std::vector<Received> received_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> connections_ ABSL_GUARDED_BY(mutex_);
  std::thread acceptor_;
};

// A loopback port that refuses connections: taken, but nobody listens.
class RefusingPort {
 public:
  RefusingPort();
  ~RefusingPort();
  std::string url() const;

 private:
  int port_ = 0;
  const int socket_;
};

// A reply with Content-Length.
std::string Reply(const std::string& status, const std::string& content_type,
                  const std::string& body);
std::string JsonReply(const std::string& status, const std::string& body);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_CLIENTS_ZOHO_SCRIPTED_PEER_H_
