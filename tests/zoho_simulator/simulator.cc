#include "tests/zoho_simulator/simulator.h"

#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/mutex.h"
#include "common/status_macros.h"
#include "tests/zoho_simulator/certificate.h"
#include "tests/zoho_simulator/control.h"
#include "tests/zoho_simulator/endpoints.h"
#include "tests/zoho_simulator/http_front.h"
#include "tests/zoho_simulator/text.h"

namespace tokenbroker::zoho_simulator {
namespace {

constexpr size_t kMaxControlBodyBytes = 16u << 20;

// Thousands of open requests need as many descriptors; the usual soft limit is 1024.
void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// The system's date at start, going on with the monotonic clock.
std::function<absl::Time()> SystemTime() {
  const absl::Time start = absl::Now();
  const auto steady_start = std::chrono::steady_clock::now();
  return [start, steady_start] {
    return start + absl::FromChrono(std::chrono::steady_clock::now() - steady_start);
  };
}

std::string UrlOf(const char* scheme, const std::string& address, uint16_t port) {
  return absl::StrCat(scheme, "://", address == "0.0.0.0" ? "127.0.0.1" : address, ":", port);
}

// A request on its way through its fault.
struct Flight {
  std::shared_ptr<HttpExchange> exchange;
  Parameters parameters;
  uint64_t sequence = 0;
  Fault fault;
  uint64_t releases = 0;  // so many had been when it arrived
  std::string outcome = "not_processed";
  std::optional<GrantIdentity> grant;
  AccountsReply reply;
  bool client_gone = false;
};
using FlightPtr = std::shared_ptr<Flight>;

// What the fault says instead of the endpoint. Nothing if it leaves the reply alone.
std::optional<AccountsReply> Replacement(const Fault& fault, const AccountsState& state,
                                         const HttpRequest& request, const std::string& trap_url) {
  AccountsReply reply;
  reply.status = fault.status != 0 ? fault.status : 200;
  if (!fault.content_type.empty()) reply.content_type = fault.content_type;
  switch (fault.kind) {
    case FaultKind::kStatus:
      if (fault.status == 0) reply.status = 500;
      reply.body = fault.body.empty() ? "{\"error\":\"general_error\"}" : fault.body;
      return reply;
    case FaultKind::kHtml:
      reply.content_type = "text/html;charset=UTF-8";
      reply.body =
          fault.body.empty() ? HtmlPage(200, "Sorry, something went wrong", "").body : fault.body;
      return reply;
    case FaultKind::kEmpty:
    case FaultKind::kHugeBody:
      return reply;
    case FaultKind::kRedirect:
      reply.status = fault.status != 0 ? fault.status : 302;
      reply.location =
          fault.redirect_to.empty() ? absl::StrCat(trap_url, request.path) : fault.redirect_to;
      return reply;
    case FaultKind::kGarbageJson:
      reply.body = fault.body.empty() ? "{\"access_token\":\"1000.broken" : fault.body;
      return reply;
    case FaultKind::kTooManyRequests:
      reply.status = 429;
      reply.body = fault.body;
      return reply;
    case FaultKind::kThrottle:
      return state.Throttled(request.label);
    default:
      return std::nullopt;
  }
}

}  // namespace

class Simulator::Impl {
 public:
  explicit Impl(Options options) : options_(std::move(options)), accounts_(options_.seed) {
    if (!options_.now) options_.now = SystemTime();
    if (options_.dcs.empty()) options_.dcs = {{.name = "us"}, {.name = "eu"}};
  }

  ~Impl() {
    if (control_front_ != nullptr) control_front_->Stop();
    if (front_ != nullptr) front_->Stop();
    std::vector<Hung> hung;
    MutexLock lock(mutex_);
    hung.swap(hung_);
  }

  absl::Status Start(Simulator& simulator) {
    RaiseDescriptorLimit();
    for (const DcOptions& dc : options_.dcs) {
      if (dc.name == kTrapLabel) return absl::InvalidArgumentError("no DC may be called trap");
      TB_RETURN_IF_ERROR(accounts_.AddDc(dc.name, dc.behaviour.value_or(options_.behaviour)));
    }
    for (const ClientConfig& client : options_.clients) {
      TB_RETURN_IF_ERROR(accounts_.AddClient(client));
    }
    for (const UserConfig& user : options_.users) TB_RETURN_IF_ERROR(accounts_.AddUser(user));
    accounts_.SetDefaultConsent(options_.default_consent);

    HttpFront::Options front;
    front.threads = options_.threads;
    front.on_request = [this](std::shared_ptr<HttpExchange> exchange) {
      OnRequest(std::move(exchange));
    };
    if (options_.https) {
      TB_ASSIGN_OR_RETURN(front.certificate, MakeCertificate());
      certificate_pem_ = front.certificate->certificate_pem;
    }
    TB_ASSIGN_OR_RETURN(front_, HttpFront::Create(std::move(front)));
    // The trap first: a request that comes early may be sent there.
    TB_ASSIGN_OR_RETURN(const uint16_t trap_port,
                        front_->Listen(std::string(kTrapLabel), options_.listen_address, 0, false));
    trap_url_ = UrlOf("http", options_.listen_address, trap_port);
    for (const DcOptions& dc : options_.dcs) TB_RETURN_IF_ERROR(StartDc(dc));

    if (options_.control) {
      HttpFront::Options control;
      control.max_body_bytes = kMaxControlBodyBytes;
      control.on_request = [&simulator](std::shared_ptr<HttpExchange> exchange) {
        HandleControl(simulator, std::move(exchange));
      };
      TB_ASSIGN_OR_RETURN(control_front_, HttpFront::Create(std::move(control)));
      TB_ASSIGN_OR_RETURN(
          const uint16_t port,
          control_front_->Listen("control", options_.listen_address, options_.control_port, false));
      control_url_ = UrlOf("http", options_.listen_address, port);
    }
    return absl::OkStatus();
  }

  absl::Status StartDc(const DcOptions& options) {
    Dc dc;
    dc.name_ = options.name;
    TB_ASSIGN_OR_RETURN(const uint16_t port,
                        front_->Listen(options.name, options_.listen_address, options.port, false));
    dc.url_ = UrlOf("http", options_.listen_address, port);
    if (options_.https) {
      TB_ASSIGN_OR_RETURN(
          const uint16_t https_port,
          front_->Listen(options.name, options_.listen_address, options.https_port, true));
      dc.https_url_ = UrlOf("https", options_.listen_address, https_port);
    }
    accounts_.SetAccountsServer(options.name, options_.https ? dc.https_url_ : dc.url_);
    dcs_.emplace(options.name, std::move(dc));
    return absl::OkStatus();
  }

  absl::Time now() const { return options_.now() + absl::Nanoseconds(advanced_ns_.load()); }

  int ReleaseHung(std::string_view dc) {
    std::vector<Hung> released;
    {
      MutexLock lock(mutex_);
      ++releases_[std::string(dc)];
      for (auto it = hung_.begin(); it != hung_.end();) {
        if (!dc.empty() && it->flight->exchange->request().label != dc) {
          ++it;
          continue;
        }
        released.push_back(std::move(*it));
        it = hung_.erase(it);
      }
    }
    for (Hung& hung : released) {
      hung.flight->exchange->After(absl::ZeroDuration(), std::move(hung.next));
    }
    return static_cast<int>(released.size());
  }

  int hung() const {
    MutexLock lock(mutex_);
    return static_cast<int>(hung_.size());
  }

  Options options_;
  AccountsState accounts_;
  RequestLog log_;
  FaultRules faults_;
  std::map<std::string, Dc, std::less<>> dcs_;
  std::string certificate_pem_;
  std::string control_url_;
  std::string trap_url_;
  std::atomic<int64_t> advanced_ns_{0};
  std::unique_ptr<HttpFront> front_;
  std::unique_ptr<HttpFront> control_front_;

 private:
  struct Hung {
    FlightPtr flight;
    std::function<void()> next;
  };

  void OnRequest(std::shared_ptr<HttpExchange> exchange) {
    auto flight = std::make_shared<Flight>();
    const HttpRequest& request = exchange->request();
    flight->parameters = ParametersOf(request);
    RequestEntry entry = EntryFor(accounts_, request, flight->parameters, now());
    flight->releases = ReleasesOf(request.label);
    const std::optional<Fault> fault =
        faults_.Take({entry.dc, entry.path, entry.grant_type, entry.client_id, entry.grant.org_id});
    if (fault.has_value()) flight->fault = *fault;
    flight->sequence = log_.Begin(std::move(entry));
    flight->exchange = std::move(exchange);
    flight->exchange->OnClientGone([this, weak = std::weak_ptr<Flight>(flight)] {
      if (const FlightPtr gone = weak.lock()) OnClientGone(gone);
    });
    Then(flight, flight->fault.delay, [this, flight] { OnDelayed(flight); });
  }

  void Then(const FlightPtr& flight, absl::Duration delay, std::function<void()> next) {
    if (delay > absl::ZeroDuration()) {
      flight->exchange->After(delay, std::move(next));
    } else {
      next();
    }
  }

  void OnDelayed(const FlightPtr& flight) {
    switch (flight->fault.kind) {
      case FaultKind::kResetBeforeProcessing:
        End(flight, HttpEnding::Action::kReset);
        return;
      case FaultKind::kHang:
        Hang(flight, [this, flight] { Process(flight); });
        return;
      default:
        Process(flight);
    }
  }

  void Process(const FlightPtr& flight) {
    const HttpRequest& request = flight->exchange->request();
    std::optional<AccountsReply> replacement =
        Replacement(flight->fault, accounts_, request, trap_url_);
    if (!replacement.has_value() || flight->fault.process) {
      flight->reply = Dispatch(accounts_, request, flight->parameters, now());
      flight->outcome = flight->reply.outcome;
      const GrantIdentity& grant = flight->reply.grant;
      if (grant.number != 0 || !grant.org_id.empty()) flight->grant = grant;
    }
    if (replacement.has_value()) flight->reply = *std::move(replacement);
    Then(flight, flight->fault.reply_delay, [this, flight] { OnProcessed(flight); });
  }

  void OnProcessed(const FlightPtr& flight) {
    switch (flight->fault.kind) {
      case FaultKind::kResetAfterProcessing:
        End(flight, HttpEnding::Action::kReset);
        return;
      case FaultKind::kHangAfterProcessing:
        Hang(flight, [this, flight] { End(flight, HttpEnding::Action::kReply); });
        return;
      default:
        End(flight, HttpEnding::Action::kReply);
    }
  }

  void End(const FlightPtr& flight, HttpEnding::Action action) {
    const Fault& fault = flight->fault;
    HttpEnding ending;
    ending.action = action;
    ending.status = flight->reply.status;
    ending.content_type = flight->reply.content_type;
    ending.location = flight->reply.location;
    ending.body = std::move(flight->reply.body);
    if (fault.kind == FaultKind::kHugeBody) ending.huge_bytes = fault.huge_bytes;
    if (fault.kind == FaultKind::kTruncate) ending.truncate_bytes = fault.truncate_bytes;
    ending.drip_interval = fault.drip_interval;
    ending.drip_bytes = fault.drip_bytes;
    RequestLog::Ending record;
    record.outcome = flight->outcome;
    if (fault.kind != FaultKind::kNone) record.fault = std::string(FaultKindName(fault.kind));
    const bool sent = action == HttpEnding::Action::kReply && !flight->client_gone;
    record.http_status = sent ? flight->reply.status : 0;
    record.client_gone = flight->client_gone;
    record.grant = flight->grant;
    // Holds no flight: the connection keeps this, and a flight keeps the connection.
    ending.before_end = [this, sequence = flight->sequence, record = std::move(record)]() mutable {
      record.finish_time = now();
      log_.Finish(sequence, std::move(record));
    };
    flight->exchange->End(std::move(ending));
  }

  void Hang(const FlightPtr& flight, std::function<void()> next) {
    if (flight->client_gone) {
      End(flight, HttpEnding::Action::kReset);
      return;
    }
    {
      // A release frees all that had arrived, also what was just about to hang.
      MutexLock lock(mutex_);
      if (flight->releases == ReleasesOfLocked(flight->exchange->request().label)) {
        hung_.push_back({flight, std::move(next)});
        return;
      }
    }
    next();
  }

  uint64_t ReleasesOf(const std::string& dc) {
    MutexLock lock(mutex_);
    return ReleasesOfLocked(dc);
  }

  uint64_t ReleasesOfLocked(const std::string& dc) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return releases_[dc] + releases_[""];
  }

  // A hanging request whose caller leaves is over. A delayed one is still processed: Zoho would not
  // notice either.
  void OnClientGone(const FlightPtr& flight) {
    flight->client_gone = true;
    log_.ClientGone(flight->sequence);
    bool was_hung = false;
    {
      std::vector<Hung> dropped;
      MutexLock lock(mutex_);
      for (auto it = hung_.begin(); it != hung_.end(); ++it) {
        if (it->flight != flight) continue;
        dropped.push_back(std::move(*it));
        hung_.erase(it);
        was_hung = true;
        break;
      }
    }
    if (was_hung) End(flight, HttpEnding::Action::kReset);
  }

  mutable Mutex mutex_;
  std::vector<Hung> hung_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, uint64_t> releases_ ABSL_GUARDED_BY(mutex_);  // by DC; "": of all
};

Simulator::Simulator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Simulator::~Simulator() = default;

absl::StatusOr<std::unique_ptr<Simulator>> Simulator::Create(Options options) {
  std::unique_ptr<Simulator> simulator(new Simulator(std::make_unique<Impl>(std::move(options))));
  TB_RETURN_IF_ERROR(simulator->impl_->Start(*simulator));
  return simulator;
}

const Simulator::Dc& Simulator::dc(std::string_view name) const {
  const auto it = impl_->dcs_.find(name);
  if (it == impl_->dcs_.end()) {
    std::fprintf(stderr, "zoho_simulator: no DC is called %s\n", std::string(name).c_str());
    std::abort();
  }
  return it->second;
}

std::vector<std::string> Simulator::dc_names() const {
  std::vector<std::string> names;
  for (const DcOptions& dc : impl_->options_.dcs) names.push_back(dc.name);
  return names;
}

const std::string& Simulator::control_url() const { return impl_->control_url_; }
const std::string& Simulator::trap_url() const { return impl_->trap_url_; }
const std::string& Simulator::certificate_pem() const { return impl_->certificate_pem_; }

std::string Simulator::ConsentUrl(std::string_view dc_name,
                                  const std::map<std::string, std::string>& parameters,
                                  const ConsentChoice& choice) const {
  const Dc& where = dc(dc_name);
  std::map<std::string, std::string> all = parameters;
  all["sim_user"] = choice.user_id;
  if (!choice.org_id.empty()) all["sim_org"] = choice.org_id;
  all["sim_environment"] = std::string(EnvironmentName(choice.environment));
  all["sim_decision"] = choice.accept ? "accept" : "refuse";
  std::string url =
      absl::StrCat(where.https_url().empty() ? where.url() : where.https_url(), "/oauth/v2/auth");
  const char* separator = "?";
  for (const auto& [name, value] : all) {
    absl::StrAppend(&url, separator, PercentEncode(name), "=", PercentEncode(value));
    separator = "&";
  }
  return url;
}

AccountsState& Simulator::accounts() { return impl_->accounts_; }

absl::StatusOr<std::vector<SeededGrant>> Simulator::SeedGrants(std::string_view dc,
                                                               std::string_view client_id,
                                                               int count, SeedOptions options) {
  return impl_->accounts_.SeedGrants(dc, client_id, count, std::move(options), now());
}

RequestLog& Simulator::log() { return impl_->log_; }

int64_t Simulator::ConnectionCount(std::string_view name) const {
  return impl_->front_->connections(name);
}

uint64_t Simulator::AddFault(FaultRule rule) { return impl_->faults_.Add(std::move(rule)); }
bool Simulator::RemoveFault(uint64_t id) { return impl_->faults_.Remove(id); }

void Simulator::ClearFaults(std::string_view dc) {
  impl_->faults_.Clear(dc);
  ReleaseHung(dc);
}

std::vector<FaultRules::Numbered> Simulator::faults() const { return impl_->faults_.List(); }
int Simulator::ReleaseHung(std::string_view dc) { return impl_->ReleaseHung(dc); }
int Simulator::hung() const { return impl_->hung(); }

absl::Status Simulator::SetAcceptMode(std::string_view dc, AcceptMode mode) {
  return impl_->front_->SetAcceptMode(dc, mode);
}

absl::Time Simulator::now() const { return impl_->now(); }

void Simulator::AdvanceTime(absl::Duration by) {
  impl_->advanced_ns_.fetch_add(absl::ToInt64Nanoseconds(by));
}

}  // namespace tokenbroker::zoho_simulator
