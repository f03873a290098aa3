// GetAccessToken for records that are in Redis but not in the replica's cache: one load each. The
// limit is the same call answered from the cache, right afterwards. Also: what memory the cached
// tokens take.
#include <sys/types.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "bench/closed_loop.h"
#include "tests/e2e/world.h"

namespace tokenbroker::bench {
namespace {

// What the process has in memory now; 0 where /proc does not say.
int64_t ResidentBytes(pid_t pid) {
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  for (std::string word; status >> word;) {
    int64_t kib = 0;
    if (word == "VmRSS:" && status >> kib) return kib * 1024;
  }
  return 0;
}

int Main(int argc, char** argv) {
  const int grants = argc > 1 ? std::atoi(argv[1]) : 5000;
  e2e::World::Options options;
  options.redis = true;
  e2e::World world(options);
  e2e::Broker& writer = world.StartBroker();
  const auto seeded = world.zoho().SeedGrants("us", e2e::World::kWebClientId, grants);
  if (!seeded.ok()) return 1;
  std::cout << "registering " << grants << " grants ..." << std::endl;
  for (int i = 0; i < grants; ++i) {
    const auto registered = writer.RegisterGrant(
        world.ImportRegistration(absl::StrCat("org-", i), "us", (*seeded)[i].refresh_token));
    if (!registered.status.ok()) {
      std::cerr << registered.status.error_message() << '\n';
      return 1;
    }
  }
  const int64_t refreshes = world.Refreshes();
  const auto make = [](int64_t i) {
    v1::GetAccessTokenRequest request;
    request.set_org_id(absl::StrCat("org-", i));
    request.set_oauth_client(e2e::World::kWebClient);
    return request;
  };
  // A replica that has seen none of them.
  e2e::Broker& reader = world.StartBroker();
  ClosedLoop loop(
      {.target = reader.grpc_address(), .server = reader.process().pid(), .keep_latencies = true});
  // Connections and threads are there before the first measurement.
  if (loop.RunCalls(1000, [&](int64_t) { return make(0); }).failed > 0) return 1;
  const int64_t resident_before = ResidentBytes(reader.process().pid());
  const Measured cold = loop.RunCalls(grants, make);
  const int64_t resident = ResidentBytes(reader.process().pid());
  const Measured cached = loop.RunCalls(grants, make);
  if (cold.failed + cached.failed > 0 || world.Refreshes() != refreshes) {
    std::cerr << "calls failed, or something was refreshed\n";
    return 1;
  }
  std::cout << nlohmann::json{{"benchmark", "cold_path"},
                              {"grants", grants},
                              {"calls_per_second", static_cast<int>(cold.PerSecond())},
                              {"p50_ms", absl::ToDoubleMilliseconds(cold.Percentile(0.5))},
                              {"p99_ms", absl::ToDoubleMilliseconds(cold.Percentile(0.99))},
                              {"ratio_to_cached", cold.PerSecond() / cached.PerSecond()},
                              {"cpu_ratio_to_cached",
                               absl::FDivDuration(cold.CpuPerCall(), cached.CpuPerCall())},
                              {"resident_mib", resident >> 20},
                              {"resident_bytes_per_cached_token",
                               (resident - resident_before) / grants}}
                   .dump()
            << std::endl;
  return 0;
}

}  // namespace
}  // namespace tokenbroker::bench

int main(int argc, char** argv) { return tokenbroker::bench::Main(argc, argv); }
