#include "server/ops/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <sstream>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "common/errors.h"
#include "common/mutex.h"
#include "server/ops/process_stats.h"

namespace tokenbroker {
namespace {

// Separates label values in keys; occurs in none of them.
constexpr char kSeparator = '\x1F';
constexpr size_t kMetricCount = kMetricDefinitions.size();

struct HistogramCell {
  std::array<uint64_t, kDurationBuckets.size() + 1> counts{};
  double sum = 0;

  void Observe(double seconds) {
    const auto bucket = std::lower_bound(kDurationBuckets.begin(), kDurationBuckets.end(), seconds);
    ++counts[static_cast<size_t>(bucket - kDurationBuckets.begin())];
    sum += seconds;
  }
  void Merge(const HistogramCell& other) {
    for (size_t i = 0; i < counts.size(); ++i) counts[i] += other.counts[i];
    sum += other.sum;
  }
};

prometheus::MetricType ToPrometheus(MetricType type) {
  switch (type) {
    case MetricType::kCounter:
      return prometheus::MetricType::Counter;
    case MetricType::kGauge:
      return prometheus::MetricType::Gauge;
    case MetricType::kHistogram:
      return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

std::vector<std::string> SplitList(std::string_view text, char separator) {
  if (text.empty()) return {};
  return absl::StrSplit(absl::string_view(text.data(), text.size()), separator);
}

prometheus::ClientMetric MakeSample(const MetricDefinition& definition,
                                    const std::vector<std::string>& values) {
  prometheus::ClientMetric sample;
  const std::vector<std::string> names = SplitList(definition.labels, ',');
  for (size_t i = 0; i < names.size() && i < values.size(); ++i) {
    sample.label.push_back({names[i], values[i]});
  }
  return sample;
}

prometheus::ClientMetric MakeScalar(const MetricDefinition& definition,
                                    const std::vector<std::string>& labels, double value) {
  prometheus::ClientMetric sample = MakeSample(definition, labels);
  sample.counter.value = value;
  sample.gauge.value = value;
  return sample;
}

prometheus::ClientMetric MakeHistogram(const MetricDefinition& definition,
                                       const std::vector<std::string>& labels,
                                       const HistogramCell& cell) {
  prometheus::ClientMetric sample = MakeSample(definition, labels);
  uint64_t count = 0;
  for (size_t i = 0; i < cell.counts.size(); ++i) {
    count += cell.counts[i];
    prometheus::ClientMetric::Bucket bucket;
    bucket.cumulative_count = count;
    bucket.upper_bound =
        i < kDurationBuckets.size() ? kDurationBuckets[i] : std::numeric_limits<double>::infinity();
    sample.histogram.bucket.push_back(bucket);
  }
  sample.histogram.sample_count = count;
  sample.histogram.sample_sum = cell.sum;
  return sample;
}

}  // namespace

class Metrics::Impl {
 public:
  void Add(Metric metric, Labels labels, double amount) {
    Shard& shard = ShardOfThread();
    const std::string& key = MakeKey(labels);
    MutexLock lock(shard.mutex);
    shard.scalars[static_cast<size_t>(metric)][key] += amount;
  }

  void Observe(Metric metric, Labels labels, absl::Duration duration) {
    Shard& shard = ShardOfThread();
    const std::string& key = MakeKey(labels);
    MutexLock lock(shard.mutex);
    shard.histograms[static_cast<size_t>(metric)][key].Observe(absl::ToDoubleSeconds(duration));
  }

  void Set(Metric metric, Labels labels, double value) {
    // Rare, and the last one wins: in one place.
    const std::string& key = MakeKey(labels);
    MutexLock lock(mutex_);
    set_[static_cast<size_t>(metric)][key] = value;
  }

  void Provide(Metric metric, std::function<Samples()> read) {
    MutexLock lock(mutex_);
    readers_[static_cast<size_t>(metric)] =
        std::make_shared<std::function<Samples()>>(std::move(read));
  }

  std::string Text() const {
    std::vector<prometheus::MetricFamily> families;
    for (size_t i = 0; i < kMetricCount; ++i) {
      const MetricDefinition& definition = kMetricDefinitions[i];
      prometheus::MetricFamily family;
      family.name = std::string(definition.name);
      family.help = std::string(definition.help);
      family.type = ToPrometheus(definition.type);
      family.metric =
          definition.type == MetricType::kHistogram ? ReadHistograms(i) : ReadScalars(i);
      if (!family.metric.empty()) families.push_back(std::move(family));
    }
    std::ostringstream out;
    prometheus::TextSerializer().Serialize(out, families);
    return out.str();
  }

 private:
  static constexpr size_t kShards = 16;

  template <typename Cell>
  using Cells = absl::flat_hash_map<std::string, Cell>;

  struct alignas(64) Shard {
    mutable Mutex mutex;
    std::array<Cells<double>, kMetricCount> scalars ABSL_GUARDED_BY(mutex);
    std::array<Cells<HistogramCell>, kMetricCount> histograms ABSL_GUARDED_BY(mutex);
  };

  Shard& ShardOfThread() {
    static std::atomic<size_t> threads{0};
    static thread_local const size_t index = threads.fetch_add(1) % kShards;
    return shards_[index];
  }

  // In a buffer of the thread: no allocation once it has grown.
  static const std::string& MakeKey(Labels labels) {
    static thread_local std::string key;
    key.clear();
    for (const std::string_view label : labels) key.append(label).push_back(kSeparator);
    if (!key.empty()) key.pop_back();
    return key;
  }

  std::vector<prometheus::ClientMetric> ReadScalars(size_t metric) const {
    const MetricDefinition& definition = kMetricDefinitions[metric];
    std::vector<prometheus::ClientMetric> samples;
    std::shared_ptr<std::function<Samples()>> read;
    std::map<std::string, double> values;
    {
      MutexLock lock(mutex_);
      read = readers_[metric];
      values.insert(set_[metric].begin(), set_[metric].end());
    }
    if (read != nullptr) {
      for (const auto& [labels, value] : (*read)()) {
        samples.push_back(MakeScalar(definition, labels, value));
      }
      return samples;
    }
    for (const Shard& shard : shards_) {
      MutexLock lock(shard.mutex);
      for (const auto& [key, value] : shard.scalars[metric]) values[key] += value;
    }
    // What can only be one number is 0 before it is first counted.
    if (definition.labels.empty()) values.try_emplace("", 0);
    for (const auto& [key, value] : values) {
      samples.push_back(MakeScalar(definition, SplitLabels(definition, key), value));
    }
    return samples;
  }

  std::vector<prometheus::ClientMetric> ReadHistograms(size_t metric) const {
    const MetricDefinition& definition = kMetricDefinitions[metric];
    std::map<std::string, HistogramCell> cells;
    for (const Shard& shard : shards_) {
      MutexLock lock(shard.mutex);
      for (const auto& [key, cell] : shard.histograms[metric]) cells[key].Merge(cell);
    }
    std::vector<prometheus::ClientMetric> samples;
    for (const auto& [key, cell] : cells) {
      samples.push_back(MakeHistogram(definition, SplitLabels(definition, key), cell));
    }
    return samples;
  }

  static std::vector<std::string> SplitLabels(const MetricDefinition& definition,
                                              const std::string& key) {
    if (definition.labels.empty()) return {};
    return absl::StrSplit(key, kSeparator);
  }

  std::array<Shard, kShards> shards_;
  mutable Mutex mutex_;
  std::array<std::map<std::string, double>, kMetricCount> set_ ABSL_GUARDED_BY(mutex_);
  std::array<std::shared_ptr<std::function<Samples()>>, kMetricCount> readers_
      ABSL_GUARDED_BY(mutex_);
};

Metrics::Metrics(std::string_view version) : impl_(std::make_unique<Impl>()) {
  Set(Metric::kBuildInfo, {version}, 1);
  ProvideValue(Metric::kProcessCpu, [] { return ReadProcessStats().cpu_seconds; });
  ProvideValue(Metric::kProcessMemory, [] { return ReadProcessStats().resident_bytes; });
  ProvideValue(Metric::kProcessOpenFiles, [] { return ReadProcessStats().open_files; });
  ProvideValue(Metric::kProcessStartTime, [] { return ReadProcessStats().start_time; });
}

Metrics::~Metrics() = default;

void Metrics::CallAnswered(std::string_view rpc, std::string_view code, std::string_view reason,
                           std::string_view source, absl::Duration latency) {
  impl_->Add(Metric::kCalls, {rpc, code, reason, source}, 1);
  impl_->Observe(Metric::kCallDuration, {rpc}, latency);
}

void Metrics::RefreshEnded(std::string_view dc, std::string_view purpose, std::string_view outcome,
                           bool sent, absl::Duration latency) {
  impl_->Add(Metric::kRefreshes, {dc, purpose, outcome}, 1);
  if (sent) impl_->Observe(Metric::kZohoRequestDuration, {dc}, latency);
  if (outcome == "needs_consent") impl_->Add(Metric::kConsentsRequired, {dc}, 1);
  if (outcome == "budget") impl_->Add(Metric::kBudgetRefusals, {dc}, 1);
}

void Metrics::BreakerChanged(std::string_view dc, std::string_view state) {
  impl_->Set(Metric::kBreakerState, {dc}, state == "open" ? 2 : state == "half_open" ? 1 : 0);
}

void Metrics::StoreOperationEnded(std::string_view operation, const absl::Status& status,
                                  absl::Duration latency) {
  std::string outcome = "OK";
  if (!status.ok()) outcome = ErrorReason(status);
  if (outcome.empty()) outcome = absl::StatusCodeToString(status.code());
  impl_->Add(Metric::kStoreOperations, {operation, outcome}, 1);
  impl_->Observe(Metric::kStoreOperationDuration, {operation}, latency);
}

void Metrics::Add(Metric metric, Labels labels, double amount) {
  impl_->Add(metric, labels, amount);
}
void Metrics::Set(Metric metric, Labels labels, double value) { impl_->Set(metric, labels, value); }
void Metrics::Observe(Metric metric, Labels labels, absl::Duration duration) {
  impl_->Observe(metric, labels, duration);
}

void Metrics::Provide(Metric metric, std::function<Samples()> read) {
  impl_->Provide(metric, std::move(read));
}

void Metrics::ProvideValue(Metric metric, std::function<double()> read) {
  impl_->Provide(metric, [read = std::move(read)] { return Samples{{{}, read()}}; });
}

std::string Metrics::Text() const { return impl_->Text(); }

}  // namespace tokenbroker
