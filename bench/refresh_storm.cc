// Many grants whose tokens have expired, all asked for at once, at an accounts server that takes
// 200 ms. The limit: as many refreshes at a time as the lane has threads. Then the same for another
// DC while this one hangs: its p99 must not move.
#include <cstdlib>
#include <iostream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "bench/closed_loop.h"
#include "tests/e2e/world.h"

namespace tokenbroker::bench {
namespace {

constexpr int kLaneThreads = 32;  // the default
constexpr absl::Duration kLatency = absl::Milliseconds(200);
constexpr int kProbes = 400;  // grants of the other DC, per measurement

class Storm {
 public:
  explicit Storm(int grants) : grants_(grants), world_(MakeOptions()) {}

  int Run() {
    e2e::Broker& broker = world_.StartBroker();
    if (!Register(broker, "storm", "us", grants_) || !Register(broker, "calm", "eu", kProbes) ||
        !Register(broker, "beside", "eu", kProbes) || !Register(broker, "hung", "us", 200)) {
      return 1;
    }
    if (!world_.zoho().accounts().SetBehaviour("", {}).ok()) return 1;
    zoho_simulator::FaultRule slow;
    slow.path = "/oauth/v2/token";
    slow.fault.delay = kLatency;
    world_.zoho().AddFault(slow);
    world_.log().Clear();

    ClosedLoop all({.target = broker.grpc_address(),
                    .server = broker.process().pid(),
                    .connections = 16,
                    .calls_at_once = grants_,
                    .keep_latencies = true});
    const Measured storm = all.RunCalls(grants_, Asking("storm"));
    const int64_t refreshes = world_.Refreshes("minted");
    const absl::Duration limit = kLatency * grants_ / kLaneThreads;

    ClosedLoop few({.target = broker.grpc_address(),
                    .server = broker.process().pid(),
                    .calls_at_once = 16,
                    .keep_latencies = true});
    const Measured calm = few.RunCalls(kProbes, Asking("calm"));
    zoho_simulator::FaultRule hang;
    hang.dc = "us";
    hang.path = "/oauth/v2/token";
    hang.fault.kind = zoho_simulator::FaultKind::kHang;
    world_.zoho().AddFault(hang);
    ClosedLoop stuck({.target = broker.grpc_address(), .calls_at_once = 200});
    Measured hung;
    std::thread hanging([&] { hung = stuck.RunCalls(200, Asking("hung")); });
    const Measured beside = few.RunCalls(kProbes, Asking("beside"));
    const int hung_requests = world_.zoho().hung();
    world_.zoho().ClearFaults();
    hanging.join();

    if (storm.failed + calm.failed + beside.failed > 0 || refreshes != grants_) {
      std::cerr << "calls failed: " << storm.failed << ", " << calm.failed << ", " << beside.failed
                << "; refreshes: " << refreshes << '\n';
      return 1;
    }
    std::cout
        << nlohmann::json{{"benchmark", "refresh_storm"},
                          {"grants", grants_},
                          {"refreshes", refreshes},
                          {"max_in_flight_per_grant", world_.log().MaxInFlightPerGrant()},
                          {"seconds", absl::ToDoubleSeconds(storm.wall)},
                          {"ratio_to_limit", absl::FDivDuration(limit, storm.wall)},
                          {"p99_ms", absl::ToDoubleMilliseconds(storm.Percentile(0.99))},
                          {"other_dc_p99_ms", absl::ToDoubleMilliseconds(calm.Percentile(0.99))},
                          {"other_dc_p99_ms_while_one_hangs",
                           absl::ToDoubleMilliseconds(beside.Percentile(0.99))},
                          {"hung_requests", hung_requests},
                          {"p99_ratio_while_one_hangs",
                           absl::FDivDuration(beside.Percentile(0.99), calm.Percentile(0.99))}}
               .dump()
        << std::endl;
    return 0;
  }

 private:
  static e2e::World::Options MakeOptions() {
    e2e::World::Options options;
    options.redis = true;
    options.behaviour.access_token_life = absl::Seconds(1);
    return options;
  }

  static std::function<v1::GetAccessTokenRequest(int64_t)> Asking(const std::string& name) {
    return [name](int64_t i) {
      v1::GetAccessTokenRequest request;
      request.set_org_id(absl::StrCat(name, "-", i));
      request.set_oauth_client(e2e::World::kWebClient);
      return request;
    };
  }

  bool Register(e2e::Broker& broker, const std::string& name, const std::string& dc, int count) {
    std::cout << "registering " << count << " grants of " << dc << " ..." << std::endl;
    const auto seeded = world_.zoho().SeedGrants(dc, e2e::World::kWebClientId, count);
    if (!seeded.ok()) return false;
    for (int i = 0; i < count; ++i) {
      const auto registered = broker.RegisterGrant(
          world_.ImportRegistration(absl::StrCat(name, "-", i), dc, (*seeded)[i].refresh_token));
      if (!registered.status.ok()) {
        std::cerr << registered.status.error_message() << '\n';
        return false;
      }
    }
    return true;
  }

  const int grants_;
  e2e::World world_;
};

}  // namespace
}  // namespace tokenbroker::bench

int main(int argc, char** argv) {
  return tokenbroker::bench::Storm(argc > 1 ? std::atoi(argv[1]) : 10'000).Run();
}
