// A small blocking HTTP client for the simulator's own tests: it shows how a connection ended,
// which ordinary clients hide.

#ifndef TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_HTTP_CLIENT_H_
#define TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_HTTP_CLIENT_H_

#include <map>
#include <memory>
#include <string>

namespace tokenbroker::zoho_simulator {

struct HttpResult {
  enum class End {
    kReply,    // a complete reply
    kClosed,   // FIN before the reply was complete
    kReset,    // RST
    kRefused,  // nobody listens
    kTimeout,  // nothing came for the time limit
    kTls,      // the handshake failed
  } end = End::kTimeout;
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // what came of it
};

// One connection to "http://127.0.0.1:port" or "https://host:port" (host may be "localhost").
class HttpConnection {
 public:
  // `ca_pem`: the certificate to trust, for https. `timeout_ms` limits each wait.
  explicit HttpConnection(const std::string& url, std::string ca_pem = "", int timeout_ms = 10000);
  ~HttpConnection();
  HttpConnection(HttpConnection&&) noexcept;

  // Sends bytes as they are. False if the connection is gone.
  bool Send(const std::string& bytes);

  // Sends a request; a body goes as a form unless `headers` ("Name: value\r\n"...) name a type.
  bool Request(const std::string& method, const std::string& target, const std::string& body = "",
               const std::string& headers = "");

  // Reads one reply.
  HttpResult Read();

  // How connecting went: kReply if it is up.
  HttpResult::End state() const;

  // Closes it.
  void Close();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// One request on a connection of its own.
HttpResult Call(const std::string& url, const std::string& method, const std::string& target,
                const std::string& body = "", const std::string& headers = "",
                const std::string& ca_pem = "");

}  // namespace tokenbroker::zoho_simulator

#endif  // TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_HTTP_CLIENT_H_
