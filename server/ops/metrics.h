#ifndef TOKEN_BROKER_SERVER_OPS_METRICS_H_
#define TOKEN_BROKER_SERVER_OPS_METRICS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace tokenbroker {

enum class MetricType : uint8_t { kCounter, kGauge, kHistogram };

struct MetricDefinition {
  std::string_view name;
  MetricType type;
  std::string_view labels;  // comma separated; "": none
  std::string_view help;
};

// All metrics of the service. docs/metrics.md has the same table, and a test compares the two.
// Labels never hold an org, a client id or anything else whose number grows with the tenants.
enum class Metric : uint8_t {
  kCalls,
  kCallDuration,
  kRefreshes,
  kZohoRequestDuration,
  kConsentsRequired,
  kGrantsMissing,
  kBudgetRefusals,
  kBreakerState,
  kCommitsPending,
  kCacheEntries,
  kFlightsInProgress,
  kLaneQueueLength,
  kStoreOperations,
  kStoreOperationDuration,
  kStoreSubscribed,
  kStoreRisks,
  kStoreClockJumps,
  kRecordsUnreadable,
  kStoreQuarantine,
  kStorePrimaryChanges,
  kStoreRedirections,
  kStoreTopologyReads,
  kHttpRequests,
  kReady,
  kLogLinesDropped,
  kBuildInfo,
  kProcessCpu,
  kProcessMemory,
  kProcessOpenFiles,
  kProcessStartTime,
};

inline constexpr std::array<MetricDefinition, 30> kMetricDefinitions = {{
    {"tokenbroker_calls_total", MetricType::kCounter, "rpc,code,reason,source",
     "Answered calls. source is where GetAccessToken had the token from."},
    {"tokenbroker_call_duration_seconds", MetricType::kHistogram, "rpc",
     "From a call's arrival to its answer."},
    {"tokenbroker_refreshes_total", MetricType::kCounter, "dc,purpose,outcome",
     "Tries to refresh, register or revoke a grant at Zoho."},
    {"tokenbroker_zoho_request_duration_seconds", MetricType::kHistogram, "dc",
     "Requests to Zoho that may have left, until their answer or its absence."},
    {"tokenbroker_consents_required_total", MetricType::kCounter, "dc",
     "Grants that Zoho declared dead: somebody must consent again."},
    {"tokenbroker_grants_missing_total", MetricType::kCounter, "",
     "Grants that this replica knew and the store no longer has: it has lost data."},
    {"tokenbroker_budget_refusals_total", MetricType::kCounter, "dc",
     "Refreshes that the grant's own budget did not allow."},
    {"tokenbroker_breaker_state", MetricType::kGauge, "dc",
     "The data centre's circuit breaker: 0 closed, 1 half open, 2 open."},
    {"tokenbroker_commits_pending", MetricType::kGauge, "",
     "Tokens from Zoho that the store has not taken yet. Above 0 for long: do not stop this "
     "process."},
    {"tokenbroker_cache_entries", MetricType::kGauge, "", "Grants in this replica's cache."},
    {"tokenbroker_flights_in_progress", MetricType::kGauge, "",
     "Grants that are being loaded or refreshed in this replica."},
    {"tokenbroker_lane_queue_length", MetricType::kGauge, "lane",
     "Work that waits for a thread, by lane: a data centre or the store."},
    {"tokenbroker_store_operations_total", MetricType::kCounter, "operation,outcome",
     "Operations of the store; outcome is the error's reason, else its code, else OK."},
    {"tokenbroker_store_operation_duration_seconds", MetricType::kHistogram, "operation",
     "Operations of the store, with their repetitions."},
    {"tokenbroker_store_subscribed", MetricType::kGauge, "",
     "1 while changes by other replicas are heard, else 0."},
    {"tokenbroker_store_risks", MetricType::kGauge, "risk",
     "1 while the Redis primary could lose grants in this way, and the configuration does not "
     "accept it, else 0."},
    {"tokenbroker_store_clock_jumps_total", MetricType::kCounter, "",
     "Times that a Redis primary's clock was found set, or off at first sight: nothing was sent "
     "for protocol.sent_lease."},
    {"tokenbroker_records_unreadable", MetricType::kGauge, "",
     "Records that this replica met in the last 10 minutes and could not read; the log names "
     "them."},
    {"tokenbroker_store_quarantine_seconds", MetricType::kGauge, "",
     "Until refreshes may begin again after a change of a Redis primary or of its clock, else 0."},
    {"tokenbroker_store_primary_changes_total", MetricType::kCounter, "",
     "Other Redis primaries, or restarted ones, that this replica has found."},
    {"tokenbroker_store_redirections_total", MetricType::kCounter, "kind",
     "Answers of a Redis Cluster that pointed to another node and were followed."},
    {"tokenbroker_store_topology_reads_total", MetricType::kCounter, "",
     "Maps of the Redis Cluster that were read."},
    {"tokenbroker_http_requests_total", MetricType::kCounter, "path,status",
     "Requests to the HTTP listeners. path is one of those served, or other."},
    {"tokenbroker_ready", MetricType::kGauge, "", "1 while /readyz says yes, else 0."},
    {"tokenbroker_log_lines_dropped_total", MetricType::kCounter, "",
     "Log lines dropped because standard error was too slow."},
    {"tokenbroker_build_info", MetricType::kGauge, "version", "Always 1."},
    {"process_cpu_seconds_total", MetricType::kCounter, "", "CPU time, user and system."},
    {"process_resident_memory_bytes", MetricType::kGauge, "", "Resident memory."},
    {"process_open_fds", MetricType::kGauge, "", "Open file descriptors."},
    {"process_start_time_seconds", MetricType::kGauge, "",
     "When the process started, in seconds since 1970."},
}};

constexpr const MetricDefinition& Definition(Metric metric) {
  return kMetricDefinitions[static_cast<size_t>(metric)];
}

// Upper ends of the histograms' buckets, in seconds: from an answer out of the cache to the longest
// deadline.
inline constexpr std::array<double, 17> kDurationBuckets = {
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
    0.05,    0.1,    0.25,    0.5,    1,     2.5,    5,     10};

// Counts what happens, for Prometheus. Counting takes about a tenth of a microsecond and no lock
// that all threads share; reading adds the threads' shares up. Thread-safe.
class Metrics {
 public:
  // Labels in the order of the metric's definition; exactly as many.
  using Labels = std::initializer_list<std::string_view>;
  // Label values and the value of a metric that is read, not counted.
  using Samples = std::vector<std::pair<std::vector<std::string>, double>>;

  explicit Metrics(std::string_view version);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // --- What happened -----------------------------------------------------------------------------
  // A call was answered: `code` as in gRPC, `reason` of the error or "", `source` or "".
  void CallAnswered(std::string_view rpc, std::string_view code, std::string_view reason,
                    std::string_view source, absl::Duration latency);
  // A try at Zoho ended; outcomes as in RefreshEvent. `latency` counts if `sent`.
  void RefreshEnded(std::string_view dc, std::string_view purpose, std::string_view outcome,
                    bool sent, absl::Duration latency);
  // "closed", "half_open" or "open".
  void BreakerChanged(std::string_view dc, std::string_view state);
  // The outcome is the error's reason, else its code, else "OK".
  void StoreOperationEnded(std::string_view operation, const absl::Status& status,
                           absl::Duration latency);

  // --- The same by metric ------------------------------------------------------------------------
  // Counters and gauges.
  void Add(Metric metric, Labels labels, double amount = 1);
  // Gauges.
  void Set(Metric metric, Labels labels, double value);
  // Histograms.
  void Observe(Metric metric, Labels labels, absl::Duration duration);

  // `read` gives all samples of the metric whenever it is scraped; it replaces what was counted.
  // Must be thread-safe, quick, and good until the next Provide of the metric or the end of this
  // object.
  void Provide(Metric metric, std::function<Samples()> read);
  // For a metric without labels.
  void ProvideValue(Metric metric, std::function<double()> read);

  // Everything in Prometheus' text format (version 0.0.4). Metrics with labels are left out until
  // they have a sample.
  std::string Text() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_OPS_METRICS_H_
