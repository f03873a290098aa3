// GetAccessToken for records that are in Redis but not in the replica's cache: one load each. The
// limit is the same call answered from the cache, right afterwards.
#include <cstdlib>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "bench/closed_loop.h"
#include "tests/e2e/world.h"

namespace tokenbroker::bench {
namespace {

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
  const Measured cold = loop.RunCalls(grants, make);
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
                               absl::FDivDuration(cold.CpuPerCall(), cached.CpuPerCall())}}
                   .dump()
            << std::endl;
  return 0;
}

}  // namespace
}  // namespace tokenbroker::bench

int main(int argc, char** argv) { return tokenbroker::bench::Main(argc, argv); }
