// The composition root: makes the parts, introduces them to each other, waits for the signal to
// end, and takes them apart in the order that loses nothing.
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <atomic>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "clients/zoho/curl_accounts_server.h"
#include "clients/zoho/token_reply.h"
#include "common/errors.h"
#include "common/status_macros.h"
#include "server/config/command_line.h"
#include "server/config/settings.h"
#include "server/consent/authorization_url.h"
#include "server/consent/callback.h"
#include "server/durability_watch.h"
#include "server/issuing/grant_registrar.h"
#include "server/issuing/org_directory.h"
#include "server/issuing/refresher.h"
#include "server/issuing/thread_executor.h"
#include "server/issuing/token_issuer.h"
#include "server/open_store.h"
#include "server/ops/http_listener.h"
#include "server/ops/log.h"
#include "server/ops/metrics.h"
#include "server/rpc/grpc_server.h"
#include "server/rpc/library_log.h"
#include "server/rpc/token_service.h"
#include "server/unreadable_watch.h"
#include "storage/observed_token_store.h"

namespace tokenbroker {
namespace {

// How often the store is looked at: while it is well, and while it is not.
constexpr absl::Duration kStoreCheck = absl::Seconds(5);
constexpr absl::Duration kStoreCheckWhileDown = absl::Milliseconds(500);
// For the answers of all who still wait, before the listener cancels calls.
constexpr absl::Duration kAnsweringWaiters = absl::Seconds(1);

// --- What operators see ---

void LogCall(EventLog& log, bool cached_calls, const CallEvent& call) {
  const bool from_cache = call.source == "cache";
  if (from_cache && !cached_calls) return;
  const LogLevel level = call.internal_error.empty() ? LogLevel::kInfo : LogLevel::kError;
  if (!log.IsEnabled(level)) return;
  log.Event(level, "call",
            {{"rpc", call.rpc},
             {"org_id", call.org_id},
             {"environment", call.environment},
             {"oauth_client", call.oauth_client},
             {"code", call.code},
             {"reason", call.reason},
             {"source", call.source},
             {"latency_ms", call.latency},
             {"peer", from_cache ? std::string() : call.Peer()},
             {"internal_error", call.internal_error}});
}

LogLevel LevelOf(std::string_view outcome) {
  for (const std::string_view quiet : {"fresh", "busy", "cooldown", "budget", "breaker_open"}) {
    if (outcome == quiet) return LogLevel::kDebug;
  }
  for (const std::string_view well : {"refreshed", "registered", "revoked"}) {
    if (outcome == well) return LogLevel::kInfo;
  }
  return LogLevel::kWarning;
}

IssuingEvents MakeEvents(EventLog& log, Metrics& metrics) {
  IssuingEvents events;
  events.on_refresh = [&log, &metrics](const RefreshEvent& event) {
    metrics.RefreshEnded(event.dc, event.purpose, event.outcome, event.sent, event.latency);
    const LogLevel level = LevelOf(event.outcome);
    const bool refused = event.sent && level == LogLevel::kWarning && !event.error.empty();
    log.Event(level, "refresh",
              {{"org_id", event.key.org_id},
               {"environment", EnvironmentName(event.key.environment)},
               {"oauth_client", event.key.oauth_client},
               {"dc", event.dc},
               {"purpose", event.purpose},
               {"outcome", event.outcome},
               {"error", event.error},
               {"advice", refused ? ZohoErrorAdvice(event.error) : std::string_view()},
               {"version", event.version},
               {"sent", event.sent},
               {"latency_ms", event.latency}});
  };
  events.on_commit_pending = [&metrics](int change) {
    metrics.Add(Metric::kCommitsPending, {}, change);
  };
  events.on_grant_missing = [&log, &metrics](const GrantKey& key) {
    metrics.Add(Metric::kGrantsMissing, {});
    log.Event(LogLevel::kError, "grant_missing",
              {{"org_id", key.org_id},
               {"environment", EnvironmentName(key.environment)},
               {"oauth_client", key.oauth_client}});
  };
  events.on_breaker = [&log, &metrics](std::string_view dc, std::string_view state) {
    metrics.BreakerChanged(dc, state);
    log.Event(LogLevel::kWarning, "circuit_breaker", {{"dc", dc}, {"state", state}});
  };
  return events;
}

void ProvideTopology(const RedisTokenStore& redis, Metrics& metrics) {
  metrics.ProvideValue(Metric::kStoreQuarantine,
                       [&redis] { return absl::ToDoubleSeconds(redis.held_back()); });
  metrics.ProvideValue(Metric::kStorePrimaryChanges,
                       [&redis] { return redis.topology_counters().primary_changes; });
  metrics.ProvideValue(Metric::kStoreTopologyReads,
                       [&redis] { return redis.topology_counters().refreshes; });
  metrics.Provide(Metric::kStoreRedirections, [&redis] {
    const RedisTokenStore::TopologyCounters counters = redis.topology_counters();
    return Metrics::Samples{{{"moved"}, static_cast<double>(counters.moved)},
                            {{"asked"}, static_cast<double>(counters.asked)}};
  });
}

// --- The parts ---

TokenIssuer::Options IssuerOptions(const IssuingSettings& issuing) {
  TokenIssuer::Options options;
  options.refresh_ahead = issuing.refresh_ahead;
  options.refresh_ahead_jitter = issuing.refresh_ahead_jitter;
  options.forced_refresh = issuing.forced_refresh;
  options.unheard_recheck = issuing.unheard_recheck;
  options.cache_entries = issuing.cache_entries;
  return options;
}

GrpcServer::Options ListenerOptions(const GrpcSettings& grpc, grpc::Service* service) {
  GrpcServer::Options options;
  options.listen = grpc.listen;
  options.services = {service};
  if (grpc.tls) {
    options.tls = GrpcServer::Tls{grpc.tls->cert_chain_pem, grpc.tls->private_key_pem,
                                  grpc.tls->client_ca_pem};
  }
  options.max_request_bytes = grpc.max_request_bytes;
  options.max_concurrent_streams = grpc.max_concurrent_streams;
  options.max_connection_age = grpc.max_connection_age;
  options.max_connection_age_grace = grpc.max_connection_age_grace;
  options.keepalive_time = grpc.keepalive_time;
  options.keepalive_timeout = grpc.keepalive_timeout;
  options.memory_quota_mib = grpc.memory_quota_mib;
  return options;
}

// "127.0.0.1:0" and the port that it became.
std::string WithPort(const std::string& listen, int port) {
  return absl::StrCat(listen.substr(0, listen.rfind(':')), ":", port);
}

HttpPage CallbackOf(const ConsentCallback& callback) {
  return [&callback](const HttpRequest& request, HttpAnswer answer) {
    callback.Handle(request.parameters, [answer = std::move(answer)](const CallbackPage& page) {
      answer({page.http_status, "text/html; charset=utf-8", RenderHtml(page)});
    });
  };
}

// Waits for one of `signals`, at most `timeout`. 0: none came.
int WaitForSignal(const sigset_t& signals, absl::Duration timeout) {
  const timespec wait = absl::ToTimespec(timeout);
  const int signal = sigtimedwait(&signals, nullptr, &wait);
  return signal > 0 ? signal : 0;
}

// --- The service ---

int Fail(EventLog& log, std::string_view what, const absl::Status& status) {
  log.Event(LogLevel::kError, "cannot_start",
            {{"part", what}, {"error", std::string(status.message())}});
  return EXIT_FAILURE;
}

int Serve(const Settings& settings, const sigset_t& signals) {
  const Clock clock = Clock::System();
  EventLog::Options log_options;
  log_options.level = settings.log.level;
  EventLog log(std::move(log_options));
  const LibraryLog library_log([&log](std::string_view library, std::string_view text) {
    log.Event(LogLevel::kWarning, "library", {{"library", library}, {"text", text}});
  });
  Metrics metrics(ProgramVersion());
  IssuingEvents events = MakeEvents(log, metrics);

  const auto on_clock_jump = [&log, &metrics](const redis::ServerClock::Jump& jump) {
    metrics.Add(Metric::kStoreClockJumps, {});
    log.Event(LogLevel::kError, "store_clock",
              {{"by_ms", jump.by},
               {"at_first_sight", jump.at_first_sight},
               {"nothing_sent_for_ms", jump.quiet}});
  };
  absl::StatusOr<OpenedStore> opened = OpenStore(settings, clock, on_clock_jump);
  if (!opened.ok()) return Fail(log, "store", opened.status());
  DurabilityWatch::Check check;
  if (opened->redis != nullptr)
    check = [redis = opened->redis] { return redis->CheckDurability(); };
  DurabilityWatch durability(
      std::move(check),
      settings.store.redis ? settings.store.redis->accepted_risks : std::vector<RedisRisk>(), &log);
  if (const absl::Status safe = durability.Look(); !safe.ok()) return Fail(log, "store", safe);
  const auto observe = [&metrics](std::string_view operation, const absl::Status& status,
                                  absl::Duration latency) {
    metrics.StoreOperationEnded(operation, status, latency);
  };
  UnreadableWatch unreadable(&log, clock);
  ObservedTokenStore store(
      std::move(opened->store), observe,
      [&unreadable](const UnreadableRecord& record) { unreadable.Note(record); }, clock);
  CurlAccountsServer::Options accounts_options;
  accounts_options.allow_plaintext_loopback = settings.zoho.allow_plaintext_loopback;
  accounts_options.ca_file = settings.zoho.ca_file;
  accounts_options.user_agent = settings.zoho.user_agent;
  const auto accounts = CurlAccountsServer::Create(std::move(accounts_options));
  if (!accounts.ok()) return Fail(log, "zoho", accounts.status());

  // Issuing.
  const ZohoSetup setup{settings.data_centers, settings.oauth_clients};
  ThreadExecutor executor({settings.issuing.lane_threads, settings.issuing.lane_queue}, clock);
  Refresher refresher(settings.protocol,
                      {settings.issuing.breaker_failures, settings.issuing.breaker_open}, &setup,
                      &store, accounts->get(), &executor, clock, &events);
  TokenIssuer issuer(IssuerOptions(settings.issuing), &store, &refresher, &executor, clock);
  GrantRegistrar registrar(&store, &refresher, &executor, clock, &events);
  OrgDirectory directory(&store, &executor);
  // A start that fails below ends here, too, before what tasks refer to goes.
  const absl::Cleanup end_tasks = [&executor] { executor.Shutdown(); };

  // Consent.
  std::optional<Keyring> state_keys;
  std::optional<AuthorizationUrls> authorization_urls;
  std::optional<ConsentCallback> callback;
  if (settings.consent) {
    absl::StatusOr<Keyring> keys = Keyring::Create({{"state", settings.consent->state_key}});
    if (!keys.ok()) return Fail(log, "consent", keys.status());
    state_keys = *std::move(keys);
    authorization_urls.emplace(AuthorizationUrls::Options{settings.consent->callback_url,
                                                          settings.consent->state_lifetime},
                               &*state_keys, &setup, clock);
    ConsentCallback::Options callback_options;
    callback_options.callback_url = settings.consent->callback_url;
    callback.emplace(std::move(callback_options), &*state_keys, &setup, &registrar, clock);
  }

  // The gRPC edge.
  TokenServiceEdge::Options edge_options;
  edge_options.issuer = &issuer;
  edge_options.registrar = &registrar;
  edge_options.directory = &directory;
  edge_options.setup = &setup;
  edge_options.authorization_urls = authorization_urls ? &*authorization_urls : nullptr;
  edge_options.clock = clock;
  edge_options.default_deadline = settings.issuing.default_deadline;
  edge_options.default_min_lifetime = settings.issuing.min_lifetime;
  edge_options.refresh_ahead = settings.issuing.refresh_ahead;
  edge_options.limits = settings.protocol;
  edge_options.on_call = [&log, &metrics,
                          cached = settings.log.cached_calls](const CallEvent& call) {
    metrics.CallAnswered(call.rpc, call.code, call.reason, call.source, call.latency);
    LogCall(log, cached, call);
  };
  TokenServiceEdge edge(std::move(edge_options));
  const auto server = GrpcServer::Create(ListenerOptions(settings.grpc, edge.service()));
  if (!server.ok()) return Fail(log, "grpc", server.status());

  // The HTTP listeners.
  std::atomic<bool> draining{false};
  std::atomic<bool> store_well{false};
  // A replica with something in its cache is of use while the store is away.
  const auto serving = [&] { return !draining && (store_well || issuer.cached() > 0); };
  const auto readiness = [&] {
    return Readiness{serving(),
                     absl::StrCat("{\"store\":\"", store_well ? "ok" : "unavailable",
                                  "\",\"draining\":", draining ? "true" : "false", "}\n")};
  };
  metrics.ProvideValue(Metric::kCacheEntries, [&] { return issuer.cached(); });
  metrics.ProvideValue(Metric::kFlightsInProgress, [&] { return issuer.flights(); });
  metrics.ProvideValue(Metric::kStoreSubscribed,
                       [&] { return store.subscription_session() != 0 ? 1 : 0; });
  metrics.Provide(Metric::kStoreRisks, [&] { return durability.risks(); });
  metrics.ProvideValue(Metric::kRecordsUnreadable, [&] { return unreadable.count(); });
  if (opened->redis != nullptr) ProvideTopology(*opened->redis, metrics);
  metrics.ProvideValue(Metric::kLogLinesDropped, [&] { return log.dropped(); });
  metrics.Provide(Metric::kLaneQueueLength, [&] {
    Metrics::Samples samples;
    for (const auto& [lane, length] : executor.queue_lengths()) {
      samples.push_back({{lane}, static_cast<double>(length)});
    }
    return samples;
  });
  std::map<std::string, HttpPage> pages = {{"/livez", LivePage()},
                                           {"/readyz", ReadyPage(readiness, &metrics)},
                                           {"/metrics", MetricsPage(&metrics)}};
  std::map<std::string, HttpPage> callback_pages;
  if (callback) callback_pages[settings.consent->callback_path] = CallbackOf(*callback);
  const bool own_callback_listener = callback && !settings.ops.callback_listen.empty();
  if (!own_callback_listener) pages.insert(callback_pages.begin(), callback_pages.end());
  HttpListener::Options ops_options;
  ops_options.listen = settings.ops.listen;
  ops_options.metrics = &metrics;
  const auto ops = HttpListener::Create(ops_options, std::move(pages));
  if (!ops.ok()) return Fail(log, "ops", ops.status());
  std::unique_ptr<HttpListener> callback_listener;
  if (own_callback_listener) {
    ops_options.listen = settings.ops.callback_listen;
    auto listener = HttpListener::Create(ops_options, std::move(callback_pages));
    if (!listener.ok()) return Fail(log, "callback", listener.status());
    callback_listener = *std::move(listener);
  }

  // Serve, with an eye on the store, until told to stop.
  issuer.StartKeepingWarm();
  bool announced = false;
  int signal = 0;
  absl::Status safe;
  absl::Status listening;
  while (signal == 0) {
    const absl::Status writable = store.CheckWritable();
    // A Redis that could not be reached when we started is judged now.
    if (writable.ok()) safe = durability.Look();
    if (!safe.ok()) break;
    if (writable.ok() != store_well || !announced) {
      log.Event(writable.ok() ? LogLevel::kInfo : LogLevel::kError, "store",
                {{"available", writable.ok()}, {"error", std::string(writable.message())}});
    }
    store_well = writable.ok();
    (*server)->SetServing(serving());
    if (!announced) {
      announced = true;
      const std::string grpc_address = WithPort(settings.grpc.listen, (*server)->port());
      const std::string ops_address = WithPort(settings.ops.listen, (*ops)->port());
      log.Event(LogLevel::kInfo, "serving",
                {{"grpc", grpc_address}, {"ops", ops_address}, {"version", ProgramVersion()}});
      // For whoever asked for port 0.
      std::cout << "{\"grpc\":\"" << grpc_address << "\",\"ops\":\"" << ops_address << "\"}"
                << std::endl;
    }
    signal = WaitForSignal(signals, store_well ? kStoreCheck : kStoreCheckWhileDown);
    listening = (*ops)->status();
    if (listening.ok() && callback_listener != nullptr) listening = callback_listener->status();
    if (!listening.ok()) break;
  }

  // Nothing that Zoho gave may be lost: calls first, then the work that they left behind.
  const MonotonicTime until = clock.monotonic() + settings.grpc.drain_timeout;
  const auto left = [&] { return std::max(until - clock.monotonic(), absl::ZeroDuration()); };
  draining = true;
  refresher.FinishBy(until);
  if (!safe.ok()) {
    Fail(log, "store", safe);
  } else if (!listening.ok()) {
    // Without probes, metrics or consent the next process is the better one.
    log.Event(LogLevel::kError, "listener_ended", {{"error", std::string(listening.message())}});
  } else {
    log.Event(LogLevel::kInfo, "draining", {{"signal", signal}});
  }
  // Streams that callers hold open may not eat the time that storing a result needs.
  const absl::Duration grace = std::max(left() - settings.protocol.commit_budget, left() / 2);
  // What gRPC cancels then is told nothing of use: whoever still waits is answered before.
  executor.RunAfter(grace - std::min(kAnsweringWaiters, grace / 4), [&issuer, &registrar] {
    issuer.StopWaiting();
    registrar.StopWaiting();
  });
  (*server)->Shutdown(grace);
  const bool issued = issuer.Drain(left());
  const bool registered = registrar.Drain(left());
  if (callback_listener != nullptr) callback_listener->Stop();
  (*ops)->Stop();
  executor.Shutdown();
  log.Event(issued && registered ? LogLevel::kInfo : LogLevel::kError, "stopped",
            {{"refreshes_finished", issued}, {"registrations_finished", registered}});
  return issued && registered && safe.ok() && listening.ok() ? EXIT_SUCCESS : EXIT_FAILURE;
}

int Main(const std::vector<std::string>& arguments) {
  // hiredis writes to sockets that the server may have closed.
  ::signal(SIGPIPE, SIG_IGN);
  // Before the first thread: all of them inherit it, and only the main one waits for the signals.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  const CommandLine line = ParseCommandLine(arguments, ProcessEnvironment());
  if (line.action == CommandLine::Action::kPrintHelp) {
    std::cout << HelpText();
    return EXIT_SUCCESS;
  }
  if (line.action == CommandLine::Action::kPrintVersion && line.problems.empty()) {
    std::cout << "token-broker " << ProgramVersion() << '\n';
    return EXIT_SUCCESS;
  }
  const absl::StatusOr<Settings> settings = LoadSettings(line, ReadFileFromDisk);
  if (!settings.ok()) {
    std::cerr << settings.status().message() << '\n';
    return 2;
  }
  switch (line.action) {
    case CommandLine::Action::kPrintConfig:
      std::cout << settings->effective_yaml;
      return EXIT_SUCCESS;
    case CommandLine::Action::kValidateConfig:
      std::cout << "the configuration is valid\n";
      return EXIT_SUCCESS;
    default:
      return Serve(*settings, signals);
  }
}

}  // namespace
}  // namespace tokenbroker

int main(int argc, char** argv) {
  return tokenbroker::Main(std::vector<std::string>(argv + 1, argv + argc));
}
