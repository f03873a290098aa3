// GetAccessToken from the cache against an empty RPC of the same request and reply size, in
// alternation, on the same server settings. The aim: at least 0.95 of its throughput, at most 1.10
// of its CPU time.
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "bench/closed_loop.h"
#include "tests/e2e/world.h"

namespace tokenbroker::bench {
namespace {

constexpr int kOrgs = 100;
constexpr absl::Duration kSlice = absl::Seconds(1);

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int Main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 10;
  e2e::World world;
  e2e::Broker& broker = world.StartBroker();
  for (int i = 0; i < kOrgs; ++i) world.RegisterImported(broker, absl::StrCat("org-", i), "us");
  size_t reply_bytes = 0;
  for (int i = 0; i < kOrgs; ++i) {
    const e2e::Broker::Token token = broker.GetAccessToken(absl::StrCat("org-", i));
    if (!token.status.ok()) {
      std::cerr << token.status.error_message() << '\n';
      return 1;
    }
    reply_bytes = token.token.ByteSizeLong();
  }
  // The padding's own tag and length take three bytes.
  auto empty = testing::ChildProcess::Start(
      {.argv = {TB_EMPTY_RPC_SERVER, absl::StrCat(reply_bytes - 3)}, .keep_input_open = true});
  const auto ready = empty->WaitForLine([](const std::string&) { return true; }, absl::Seconds(20));
  if (!ready) {
    std::cerr << empty->err();
    return 1;
  }
  const std::string empty_address = nlohmann::json::parse(*ready)["grpc"];
  ClosedLoop empty_loop({.target = empty_address, .server = empty->pid()});
  ClosedLoop broker_loop({.target = broker.grpc_address(), .server = broker.process().pid()});
  const auto make = [](int64_t i) {
    v1::GetAccessTokenRequest request;
    request.set_org_id(absl::StrCat("org-", i % kOrgs));
    request.set_oauth_client(e2e::World::kWebClient);
    return request;
  };
  // The first slices warm both up and do not count.
  empty_loop.RunFor(kSlice, make);
  broker_loop.RunFor(kSlice, make);
  std::vector<double> throughput, cpu, per_second;
  for (int round = 0; round < rounds; ++round) {
    const Measured limit = empty_loop.RunFor(kSlice, make);
    const Measured cached = broker_loop.RunFor(kSlice, make);
    if (cached.failed > 0 || limit.failed > 0) {
      std::cerr << "calls failed\n";
      return 1;
    }
    throughput.push_back(cached.PerSecond() / limit.PerSecond());
    cpu.push_back(absl::FDivDuration(cached.CpuPerCall(), limit.CpuPerCall()));
    per_second.push_back(cached.PerSecond());
    std::cout << "round " << round + 1 << ": empty " << static_cast<int>(limit.PerSecond())
              << "/s, " << limit.CpuPerCall() << " of CPU per call; cached "
              << static_cast<int>(cached.PerSecond()) << "/s, " << cached.CpuPerCall() << "\n";
  }
  std::cout << nlohmann::json{{"benchmark", "hot_path"},
                              {"rounds", rounds},
                              {"reply_bytes", reply_bytes},
                              {"calls_per_second", static_cast<int>(Median(per_second))},
                              {"ratio_to_empty_rpc", Median(throughput)},
                              {"cpu_ratio_to_empty_rpc", Median(cpu)}}
                   .dump()
            << std::endl;
  return 0;
}

}  // namespace
}  // namespace tokenbroker::bench

int main(int argc, char** argv) { return tokenbroker::bench::Main(argc, argv); }
