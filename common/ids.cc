#include "common/ids.h"

#include <random>

#include "absl/strings/escaping.h"

namespace tokenbroker {
namespace {

constexpr char kNul = '\0';
constexpr char kEscapedNul = '\xff';
constexpr char kEnd = '\x01';

void AppendEscaped(std::string_view id, std::string& out) {
  for (char c : id) {
    out.push_back(c);
    if (c == kNul) out.push_back(kEscapedNul);
  }
  out.push_back(kNul);
  out.push_back(kEnd);
}

// Takes one escaped id off the front of `in`.
std::optional<std::string> ConsumeEscaped(std::string_view& in) {
  std::string id;
  for (size_t i = 0; i + 1 < in.size(); ++i) {
    if (in[i] != kNul) {
      id.push_back(in[i]);
      continue;
    }
    if (in[i + 1] == kEnd) {
      in.remove_prefix(i + 2);
      return id;
    }
    if (in[i + 1] != kEscapedNul) return std::nullopt;
    id.push_back(kNul);
    ++i;
  }
  return std::nullopt;
}

// One generator per thread, seeded from the system's: ids need to be unique, not unguessable.
std::mt19937_64& IdGenerator() {
  thread_local std::mt19937_64 generator = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }();
  return generator;
}

}  // namespace

std::string_view EnvironmentName(Environment environment) {
  switch (environment) {
    case Environment::kProduction:
      return "PRODUCTION";
    case Environment::kSandbox:
      return "SANDBOX";
    case Environment::kDeveloper:
      return "DEVELOPER";
  }
  return "UNKNOWN";
}

std::optional<Environment> ParseEnvironment(std::string_view name) {
  for (Environment e : {Environment::kProduction, Environment::kSandbox, Environment::kDeveloper}) {
    if (name == EnvironmentName(e)) return e;
  }
  return std::nullopt;
}

std::string EncodeOrgPrefix(std::string_view org_id) {
  std::string out;
  out.reserve(org_id.size() + 2);
  AppendEscaped(org_id, out);
  return out;
}

std::string EncodeOrgEnvironmentPrefix(std::string_view org_id, Environment environment) {
  std::string out = EncodeOrgPrefix(org_id);
  out.push_back(static_cast<char>(environment));
  return out;
}

std::string EncodeGrantKey(const GrantKey& key) {
  std::string out = EncodeOrgEnvironmentPrefix(key.org_id, key.environment);
  AppendEscaped(key.oauth_client, out);
  return out;
}

std::optional<GrantKey> DecodeGrantKey(std::string_view encoded) {
  std::optional<std::string> org_id = ConsumeEscaped(encoded);
  if (!org_id || encoded.empty()) return std::nullopt;
  const auto environment = static_cast<Environment>(encoded.front());
  if (environment < Environment::kProduction || environment > Environment::kDeveloper) {
    return std::nullopt;
  }
  encoded.remove_prefix(1);
  std::optional<std::string> client = ConsumeEscaped(encoded);
  if (!client || !encoded.empty()) return std::nullopt;
  return GrantKey{*std::move(org_id), environment, *std::move(client)};
}

std::string NewAttemptId() {
  std::mt19937_64& generator = IdGenerator();
  const uint64_t words[2] = {generator(), generator()};
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(words), sizeof(words)));
}

void SeedAttemptIds(uint64_t seed) { IdGenerator().seed(seed); }

}  // namespace tokenbroker
