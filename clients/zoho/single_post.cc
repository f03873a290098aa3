#include "clients/zoho/single_post.h"

#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "clients/zoho/origin.h"

namespace tokenbroker {
namespace {

using SteadyClock = std::chrono::steady_clock;

// Zoho's replies have under 1 kB. Room for them from the start leaves no copy of the tokens in
// memory that was given back while the buffer grew.
constexpr size_t kUsualReplyBytes = 8 * 1024;

struct CurlError {
  CURLcode code;
  std::string_view word;
};

// The one table from libcurl's codes to the broker's words. It does not say whether something was
// sent: most of these come before as well as after the first byte (a handshake can fail to send,
// and so can a request), so only the check before sending tells.
constexpr CurlError kCurlErrors[] = {
    {CURLE_COULDNT_RESOLVE_HOST, "resolve_failed"},
    {CURLE_COULDNT_CONNECT, "connect_failed"},
    {CURLE_SSL_CONNECT_ERROR, "tls_failed"},
    {CURLE_SSL_CIPHER, "tls_failed"},
    {CURLE_PEER_FAILED_VERIFICATION, "certificate_refused"},
    {CURLE_SSL_ISSUER_ERROR, "certificate_refused"},
    {CURLE_SSL_INVALIDCERTSTATUS, "certificate_refused"},
    // The file was readable when the process started.
    {CURLE_SSL_CACERT_BADFILE, "ca_file_unreadable"},
    {CURLE_SEND_ERROR, "send_failed"},
    {CURLE_RECV_ERROR, "receive_failed"},
    // Closed without a byte of a reply: the server may well have worked on the request.
    {CURLE_GOT_NOTHING, "closed_without_reply"},
    {CURLE_PARTIAL_FILE, "reply_cut_off"},
    // Not HTTP, or HTTP/0.9, which has no status.
    {CURLE_WEIRD_SERVER_REPLY, "not_http"},
    {CURLE_UNSUPPORTED_PROTOCOL, "not_http"},
    {CURLE_BAD_CONTENT_ENCODING, "not_http"},
    // Only our own callbacks stop the reading.
    {CURLE_WRITE_ERROR, "reply_too_large"},
    {CURLE_OUT_OF_MEMORY, "out_of_memory"},
    // Only the check before sending aborts; its first refusal has a status of its own.
    {CURLE_ABORTED_BY_CALLBACK, "repetition_refused"},
    {CURLE_URL_MALFORMAT, "bad_url"},
};

std::string CurlErrorWord(CURLcode code) {
  for (const CurlError& known : kCurlErrors) {
    if (known.code == code) return std::string(known.word);
  }
  return absl::StrCat("curl_", static_cast<int>(code));
}

// libcurl counts in whole milliseconds and takes 0 for 'no limit'.
long CurlMilliseconds(absl::Duration duration) {
  const absl::Duration clamped = std::clamp(duration, absl::Milliseconds(1), absl::Hours(1));
  return static_cast<long>(absl::ToInt64Milliseconds(absl::Ceil(clamped, absl::Milliseconds(1))));
}

bool IsLoopbackAddress(std::string_view ip) {
  return ip.substr(0, 4) == "127." || ip == "::1" || ip == "::ffff:127.0.0.1";
}

struct FreeEasy {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct FreeMulti {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

class Transfer {
 public:
  Transfer(const FormPost& post, BeforeSend before_send) : post_(post), before_send_(before_send) {}
  ~Transfer() {
    if (multi_ && easy_) curl_multi_remove_handle(multi_.get(), easy_.get());
    const Secret wiped(std::move(body_));  // half a reply may hold a whole token
  }
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  PostResult Run(const TrustAnchors& anchors) {
    const std::optional<WebUrl> url = ParseWebUrl(post_.url);
    if (!url) return NotSent("bad_url");
    plaintext_ = url->origin.scheme != "https";
    if (plaintext_ && !(post_.allow_plaintext_loopback && IsLoopback(url->origin))) {
      return NotSent("plaintext_refused");
    }
    easy_.reset(curl_easy_init());
    multi_.reset(curl_multi_init());
    if (!easy_ || !multi_ || !Configure() || !anchors.Apply(easy_.get()) ||
        curl_multi_add_handle(multi_.get(), easy_.get()) != CURLM_OK) {
      return NotSent("out_of_memory");
    }
    return ResultOf(Drive());
  }

 private:
  static PostResult NotSent(std::string_view error) {
    PostResult result;
    result.error = error;
    return result;
  }

  template <typename Value>
  void Set(CURLoption option, Value value) {
    configured_ = configured_ && curl_easy_setopt(easy_.get(), option, value) == CURLE_OK;
  }

  bool Configure() {
    curl_slist* list = curl_slist_append(nullptr, "Accept: application/json");
    headers_.reset(list);
    // Without a wait for '100 Continue': where it is refused (417), libcurl repeats the request.
    if (list == nullptr || curl_slist_append(list, "Expect:") == nullptr) return false;

    Set(CURLOPT_URL, post_.url.c_str());
    Set(CURLOPT_PROTOCOLS_STR, plaintext_ ? "http" : "https");
    Set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    Set(CURLOPT_HTTP09_ALLOWED, 0L);
    Set(CURLOPT_POST, 1L);
    // Not copied: the bytes stay in the Secret, apart from what libcurl's send buffer holds.
    Set(CURLOPT_POSTFIELDS, post_.body.Reveal().data());
    Set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(post_.body.size()));
    Set(CURLOPT_HTTPHEADER, headers_.get());
    Set(CURLOPT_USERAGENT, post_.user_agent.c_str());

    Set(CURLOPT_FOLLOWLOCATION, 0L);
    // libcurl repeats a POST by itself when a reused connection turns out dead.
    Set(CURLOPT_FRESH_CONNECT, 1L);
    Set(CURLOPT_FORBID_REUSE, 1L);
    Set(CURLOPT_PREREQFUNCTION, &Transfer::OnConnected);
    Set(CURLOPT_PREREQDATA, static_cast<void*>(this));
    // "": none, not the environment's.
    Set(CURLOPT_PROXY, "");
    Set(CURLOPT_NOPROXY, "*");
    Set(CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));

    Set(CURLOPT_SSL_VERIFYPEER, 1L);
    Set(CURLOPT_SSL_VERIFYHOST, 2L);
    Set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));

    Set(CURLOPT_NOSIGNAL, 1L);
    Set(CURLOPT_CONNECTTIMEOUT_MS, CurlMilliseconds(post_.connect_timeout));
    // Do not join the resolver's thread when time is up: a name server that hangs would hold this
    // thread for as long as the resolver tries (20 s and more), whatever the timeout says.
    Set(CURLOPT_QUICK_EXIT, 1L);

    Set(CURLOPT_HEADERFUNCTION, &Transfer::OnHead);
    Set(CURLOPT_HEADERDATA, static_cast<void*>(this));
    Set(CURLOPT_WRITEFUNCTION, &Transfer::OnBody);
    Set(CURLOPT_WRITEDATA, static_cast<void*>(this));
    return configured_;
  }

  // Runs the transfer by hand instead of by curl_easy_perform(), which looks at its callbacks only
  // once a second: the end of the lease needs a sharper limit.
  CURLcode Drive() {
    posted_ = started_ = SteadyClock::now();
    for (;;) {
      int running = 0;
      if (curl_multi_perform(multi_.get(), &running) != CURLM_OK) return CURLE_OUT_OF_MEMORY;
      int queued = 0;
      if (const CURLMsg* message = curl_multi_info_read(multi_.get(), &queued);
          message != nullptr && message->msg == CURLMSG_DONE) {
        return message->data.result;
      }
      const absl::Duration rest = Rest();
      if (rest <= absl::ZeroDuration()) return CURLE_OPERATION_TIMEDOUT;
      if (curl_multi_poll(multi_.get(), nullptr, 0, static_cast<int>(CurlMilliseconds(rest)),
                          nullptr) != CURLM_OK) {
        return CURLE_OUT_OF_MEMORY;
      }
    }
  }

  // Until the limit of the present phase.
  absl::Duration Rest() const {
    const absl::Duration limit = check_called_ ? post_.response_timeout : post_.connect_timeout;
    const SteadyClock::time_point now = SteadyClock::now();
    return std::min(limit - absl::FromChrono(now - started_),
                    post_.total_timeout - absl::FromChrono(now - posted_));
  }

  PostResult ResultOf(CURLcode code) {
    PostResult result;
    result.refused = refused_;
    long http_status = 0;
    curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &http_status);
    if (code == CURLE_OK && check_passed_ && head_complete_) {
      result.delivery = TokenResponse::Delivery::kAnswered;
      result.http_status = static_cast<int>(http_status);
      result.body = Secret(std::move(body_));
      result.length_known = length_known_;
      return result;
    }
    // The check passes before the first byte of the request, so without it nothing has left. A
    // transfer that ends well without it cannot be, and proves nothing.
    const bool may_have_left = check_passed_ || code == CURLE_OK;
    result.delivery =
        may_have_left ? TokenResponse::Delivery::kUnknown : TokenResponse::Delivery::kNotSent;
    if (!refused_.ok()) return result;
    if (!check_error_.empty()) {
      result.error = check_error_;
    } else if (code == CURLE_OPERATION_TIMEDOUT) {
      result.error = check_passed_ ? "response_timeout" : "connect_timeout";
    } else {
      // libcurl takes a connection that ends within the head for a whole reply.
      result.error = code == CURLE_OK ? "reply_cut_off" : CurlErrorWord(code);
    }
    return result;
  }

  bool MaySend(std::string_view peer_ip) {
    if (std::exchange(check_called_, true)) return false;  // libcurl is about to repeat the POST
    started_ = SteadyClock::now();
    if (plaintext_ && !IsLoopbackAddress(peer_ip)) {
      check_error_ = "plaintext_refused";
      return false;
    }
    refused_ = before_send_();
    if (!refused_.ok()) return false;
    if (Rest() <= absl::ZeroDuration()) {
      check_error_ = "check_too_slow";
      return false;
    }
    check_passed_ = true;
    return true;
  }

  static int OnConnected(void* self, char* peer_ip, char*, int, int) {
    return static_cast<Transfer*>(self)->MaySend(peer_ip) ? CURL_PREREQFUNC_OK
                                                          : CURL_PREREQFUNC_ABORT;
  }

  static size_t OnHead(char* data, size_t size, size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    const absl::string_view line(data, size * count);
    if (line.size() > transfer.post_.max_reply_bytes - transfer.head_bytes_) return 0;
    transfer.head_bytes_ += line.size();
    if (absl::StartsWith(line, "HTTP/")) {
      const size_t space = line.find(' ');
      transfer.interim_ = space != line.npos && line.substr(space + 1, 1) == "1";
      transfer.length_known_ = false;
    }
    if (!transfer.interim_ && (line == "\r\n" || line == "\n")) transfer.head_complete_ = true;
    if (absl::StartsWithIgnoreCase(line, "content-length:") ||
        absl::StartsWithIgnoreCase(line, "transfer-encoding:")) {
      transfer.length_known_ = true;
    }
    return line.size();
  }

  static size_t OnBody(char* data, size_t size, size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    const size_t bytes = size * count;
    if (bytes > transfer.post_.max_reply_bytes - transfer.body_.size()) return 0;
    if (transfer.body_.capacity() < kUsualReplyBytes) transfer.body_.reserve(kUsualReplyBytes);
    transfer.body_.append(data, bytes);
    return bytes;
  }

  const FormPost& post_;
  const BeforeSend before_send_;
  bool plaintext_ = false;
  bool configured_ = true;
  std::unique_ptr<curl_slist, FreeList> headers_;
  // The multi handle goes last: it closes the connection.
  std::unique_ptr<CURLM, FreeMulti> multi_;
  std::unique_ptr<CURL, FreeEasy> easy_;

  SteadyClock::time_point posted_;   // the whole
  SteadyClock::time_point started_;  // the present phase
  bool check_called_ = false;
  bool check_passed_ = false;
  absl::Status refused_;
  std::string check_error_;

  size_t head_bytes_ = 0;
  bool interim_ = false;        // the head being read is of a 1xx reply
  bool head_complete_ = false;  // that of the final reply
  bool length_known_ = false;
  std::string body_;
};

}  // namespace

PostResult PostOnce(const FormPost& post, const TrustAnchors& anchors, BeforeSend before_send) {
  return Transfer(post, before_send).Run(anchors);
}

}  // namespace tokenbroker
