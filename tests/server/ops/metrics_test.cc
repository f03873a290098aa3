#include "server/ops/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "common/errors.h"

namespace tokenbroker {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(MetricsTest, CountsCallsByAllTheirLabels) {
  Metrics metrics("1.2.3");
  metrics.CallAnswered("GetAccessToken", "OK", "", "cache", absl::Microseconds(60));
  metrics.CallAnswered("GetAccessToken", "OK", "", "cache", absl::Milliseconds(7));
  metrics.CallAnswered("GetOrg", "NOT_FOUND", "ORG_NOT_FOUND", "", absl::Seconds(20));
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("tokenbroker_calls_total{rpc=\"GetAccessToken\",code=\"OK\","
                              "reason=\"\",source=\"cache\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("tokenbroker_calls_total{rpc=\"GetOrg\",code=\"NOT_FOUND\","
                              "reason=\"ORG_NOT_FOUND\",source=\"\"} 1\n"));
  // Cumulative, and everything is in the last bucket.
  const std::string bucket = "tokenbroker_call_duration_seconds_bucket{rpc=\"GetAccessToken\",le=";
  EXPECT_THAT(text, HasSubstr(bucket + "\"5e-05\"} 0\n"));
  EXPECT_THAT(text, HasSubstr(bucket + "\"0.0001\"} 1\n"));
  EXPECT_THAT(text, HasSubstr(bucket + "\"0.005\"} 1\n"));
  EXPECT_THAT(text, HasSubstr(bucket + "\"0.01\"} 2\n"));
  EXPECT_THAT(text, HasSubstr(bucket + "\"+Inf\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("tokenbroker_call_duration_seconds_count{rpc=\"GetAccessToken\"} 2"));
  EXPECT_THAT(text, HasSubstr("tokenbroker_call_duration_seconds_sum{rpc=\"GetOrg\"} 20\n"));
  EXPECT_THAT(text, HasSubstr("tokenbroker_build_info{version=\"1.2.3\"} 1\n"));
}

TEST(MetricsTest, ADurationAtABucketsEndIsInIt) {
  Metrics metrics("1");
  metrics.Observe(Metric::kZohoRequestDuration, {"eu"}, absl::Milliseconds(100));
  EXPECT_THAT(
      metrics.Text(),
      HasSubstr("tokenbroker_zoho_request_duration_seconds_bucket{dc=\"eu\",le=\"0.1\"} 1"));
  EXPECT_THAT(
      metrics.Text(),
      HasSubstr("tokenbroker_zoho_request_duration_seconds_bucket{dc=\"eu\",le=\"0.05\"} 0"));
}

TEST(MetricsTest, RefreshesFeedTheirOwnAlerts) {
  Metrics metrics("1");
  metrics.RefreshEnded("eu", "caller", "refreshed", true, absl::Milliseconds(30));
  metrics.RefreshEnded("eu", "background", "needs_consent", true, absl::Milliseconds(30));
  metrics.RefreshEnded("us", "caller", "budget", false, absl::ZeroDuration());
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("tokenbroker_refreshes_total{dc=\"eu\",purpose=\"background\","
                              "outcome=\"needs_consent\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("tokenbroker_consents_required_total{dc=\"eu\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("tokenbroker_budget_refusals_total{dc=\"us\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("tokenbroker_zoho_request_duration_seconds_count{dc=\"eu\"} 2\n"));
  EXPECT_THAT(text, Not(HasSubstr("tokenbroker_zoho_request_duration_seconds_count{dc=\"us\"}")));
}

TEST(MetricsTest, StoreOutcomesAreReasons) {
  Metrics metrics("1");
  metrics.StoreOperationEnded("load", absl::OkStatus(), absl::Milliseconds(1));
  metrics.StoreOperationEnded("load", OrgNotFoundError(), absl::Milliseconds(1));
  metrics.StoreOperationEnded("load", absl::UnavailableError("x"), absl::Milliseconds(1));
  const std::string text = metrics.Text();
  for (const char* outcome : {"OK", "ORG_NOT_FOUND", "UNAVAILABLE"}) {
    EXPECT_THAT(text, HasSubstr(std::string("tokenbroker_store_operations_total{operation=\"load\","
                                            "outcome=\"") +
                                outcome + "\"} 1\n"));
  }
}

TEST(MetricsTest, Gauges) {
  Metrics metrics("1");
  EXPECT_THAT(metrics.Text(), HasSubstr("tokenbroker_commits_pending 0\n"));
  metrics.Add(Metric::kCommitsPending, {}, 1);
  std::thread([&] { metrics.Add(Metric::kCommitsPending, {}, 1); }).join();
  std::thread([&] { metrics.Add(Metric::kCommitsPending, {}, -1); }).join();
  EXPECT_THAT(metrics.Text(), HasSubstr("tokenbroker_commits_pending 1\n"));
  metrics.BreakerChanged("eu", "open");
  EXPECT_THAT(metrics.Text(), HasSubstr("tokenbroker_breaker_state{dc=\"eu\"} 2\n"));
  metrics.BreakerChanged("eu", "half_open");
  EXPECT_THAT(metrics.Text(), HasSubstr("tokenbroker_breaker_state{dc=\"eu\"} 1\n"));
  metrics.BreakerChanged("eu", "closed");
  EXPECT_THAT(metrics.Text(), HasSubstr("tokenbroker_breaker_state{dc=\"eu\"} 0\n"));
}

TEST(MetricsTest, ProvidedValuesAreReadAtEveryScrape) {
  Metrics metrics("1");
  double entries = 3;
  metrics.ProvideValue(Metric::kCacheEntries, [&] { return entries; });
  const Metrics::Samples lengths = {{{"eu"}, 5}, {{"store"}, 0}};
  metrics.Provide(Metric::kLaneQueueLength, [&] { return lengths; });
  EXPECT_THAT(metrics.Text(), HasSubstr("tokenbroker_cache_entries 3\n"));
  entries = 4;
  EXPECT_THAT(metrics.Text(), HasSubstr("tokenbroker_cache_entries 4\n"));
  EXPECT_THAT(metrics.Text(), HasSubstr("tokenbroker_lane_queue_length{lane=\"eu\"} 5\n"));
  EXPECT_THAT(metrics.Text(), HasSubstr("tokenbroker_lane_queue_length{lane=\"store\"} 0\n"));
}

TEST(MetricsTest, LargeCountersKeepAllTheirDigits) {
  Metrics metrics("1");
  metrics.Add(Metric::kBudgetRefusals, {"eu"}, 123456789012);
  EXPECT_THAT(metrics.Text(),
              HasSubstr("tokenbroker_budget_refusals_total{dc=\"eu\"} 123456789012\n"));
}

TEST(MetricsTest, EscapesLabelValues) {
  Metrics metrics("a\"b\\c\nd");
  EXPECT_THAT(metrics.Text(), HasSubstr("tokenbroker_build_info{version=\"a\\\"b\\\\c\\nd\"} 1\n"));
}

TEST(MetricsTest, ProcessStatisticsAreThere) {
  Metrics metrics("1");
  std::istringstream lines(metrics.Text());
  std::string name;
  double value = 0;
  std::set<std::string> seen;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream parts(line);
    if (line.starts_with("process_") && parts >> name >> value) {
      EXPECT_GE(value, 0) << name;
      if (name == "process_resident_memory_bytes") {
        EXPECT_GT(value, 100'000);
      }
      if (name == "process_open_fds") {
        EXPECT_GE(value, 3);
      }
      if (name == "process_start_time_seconds") {
        EXPECT_NEAR(value, absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()), 3600);
      }
      seen.insert(name);
    }
  }
  EXPECT_EQ(seen.size(), 4u);
}

TEST(MetricsTest, NothingIsLostAmongThreads) {
  Metrics metrics("1");
  std::vector<std::thread> threads;
  for (int t = 0; t < 20; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        metrics.CallAnswered("GetAccessToken", "OK", "", "cache", absl::Microseconds(10));
        if (i % 100 == 0) metrics.Text();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("source=\"cache\"} 10000\n"));
  EXPECT_THAT(text,
              HasSubstr("tokenbroker_call_duration_seconds_count{rpc=\"GetAccessToken\"} 10000\n"));
}

std::string DocumentedRow(const MetricDefinition& definition) {
  std::string labels;
  std::istringstream names{std::string(definition.labels)};
  for (std::string name; std::getline(names, name, ',');) {
    labels += (labels.empty() ? "`" : ", `") + name + "`";
  }
  const char* type = definition.type == MetricType::kCounter ? "counter"
                     : definition.type == MetricType::kGauge ? "gauge"
                                                             : "histogram";
  return "| `" + std::string(definition.name) + "` | " + type + " | " + labels + " | " +
         std::string(definition.help) + " |";
}

TEST(MetricsDocTest, ListsExactlyTheMetricsThatThereAre) {
  const char* path = std::getenv("METRICS_DOC");
  std::ifstream file(path == nullptr ? "" : path);
  ASSERT_TRUE(file.good()) << "METRICS_DOC must name docs/metrics.md";
  std::vector<std::string> rows;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("| `tokenbroker_") || line.starts_with("| `process_")) {
      if (line.find(" | counter | ") != std::string::npos ||
          line.find(" | gauge | ") != std::string::npos ||
          line.find(" | histogram | ") != std::string::npos) {
        rows.push_back(line);
      }
    }
  }
  std::vector<std::string> expected;
  for (const MetricDefinition& definition : kMetricDefinitions) {
    expected.push_back(DocumentedRow(definition));
  }
  EXPECT_EQ(rows, expected);
}

TEST(MetricsDocTest, EnumAndListHaveTheSameOrder) {
  EXPECT_EQ(Definition(Metric::kCalls).name, "tokenbroker_calls_total");
  EXPECT_EQ(Definition(Metric::kStoreOperations).name, "tokenbroker_store_operations_total");
  EXPECT_EQ(Definition(Metric::kHttpRequests).name, "tokenbroker_http_requests_total");
  EXPECT_EQ(Definition(Metric::kProcessStartTime).name, "process_start_time_seconds");
  EXPECT_EQ(static_cast<size_t>(Metric::kProcessStartTime) + 1, kMetricDefinitions.size());
}

}  // namespace
}  // namespace tokenbroker
