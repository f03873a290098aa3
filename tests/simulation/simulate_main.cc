// Runs schedules; scripts/simulate says how it is called.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "tests/simulation/schedule.h"

namespace tokenbroker::simulation {
namespace {

struct Arguments {
  bool one = false;  // --seed: one schedule
  uint64_t first = 1;
  uint64_t seeds = 10'000;
  int jobs = 1;
  bool trace = false;
  Defect defect = Defect::kNone;
};

// What a job has done so far; goes over a pipe as it is.
struct Sums {
  uint64_t seeds = 0;
  int64_t steps = 0;
  int64_t sends = 0;
  int64_t excused = 0;
  int64_t calls = 0;
  int64_t failures = 0;
  FaultCounts faults = {};
};

void Add(Sums& sums, const Outcome& outcome) {
  ++sums.seeds;
  sums.steps += outcome.steps;
  sums.sends += outcome.sends;
  sums.excused += outcome.excused;
  sums.calls += outcome.calls;
  if (!outcome.broken.empty()) ++sums.failures;
  for (int i = 0; i < kFaults; ++i) sums.faults[i] += outcome.faults[i];
}

void Add(Sums& sums, const Sums& other) {
  sums.seeds += other.seeds;
  sums.steps += other.steps;
  sums.sends += other.sends;
  sums.excused += other.excused;
  sums.calls += other.calls;
  sums.failures += other.failures;
  for (int i = 0; i < kFaults; ++i) sums.faults[i] += other.faults[i];
}

[[noreturn]] void Die(const std::string& why) {
  std::fprintf(stderr, "simulate: %s (see scripts/simulate --help)\n", why.c_str());
  std::exit(2);
}

uint64_t Number(const char* text) {
  char* end = nullptr;
  const uint64_t number = std::strtoull(text, &end, 10);
  if (*text == '\0' || *end != '\0') Die(std::string("'") + text + "' is not a number");
  return number;
}

Arguments Parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--trace") {
      arguments.trace = true;
      continue;
    }
    if (i + 1 >= argc) Die("'" + std::string(name) + "' needs a value");
    const char* value = argv[++i];
    if (name == "--seed") {
      arguments.one = true;
      arguments.first = Number(value);
    } else if (name == "--seeds") {
      arguments.seeds = Number(value);
    } else if (name == "--first") {
      arguments.first = Number(value);
    } else if (name == "--jobs") {
      arguments.jobs = static_cast<int>(Number(value));
    } else if (name == "--defect") {
      int defect = 0;
      while (defect < kDefects && DefectName(static_cast<Defect>(defect)) != value) ++defect;
      if (defect == kDefects) Die(std::string("no defect is called '") + value + "'");
      arguments.defect = static_cast<Defect>(defect);
    } else {
      Die("unknown argument '" + std::string(name) + "'");
    }
  }
  if (arguments.jobs < 1 || arguments.jobs > 256) Die("--jobs takes 1 to 256");
  return arguments;
}

// In one write, so that the lines of several jobs do not mix.
void Report(const Outcome& outcome) {
  std::string text = "seed " + std::to_string(outcome.seed) + ": " + outcome.broken +
                     " is broken: " + outcome.how + "\n";
  for (const std::string& line : outcome.tail) text += "    " + line + "\n";
  text += "  again: scripts/simulate --seed " + std::to_string(outcome.seed) + " --trace\n";
  std::fflush(stdout);
  for (size_t done = 0; done < text.size();) {
    const ssize_t written = write(STDOUT_FILENO, text.data() + done, text.size() - done);
    if (written <= 0) return;
    done += static_cast<size_t>(written);
  }
}

void PrintSummary(const Sums& sums, double seconds, double cpu_seconds, const std::string& hash) {
  std::printf("{\"seeds\":%" PRIu64 ",\"steps\":%" PRId64 ",\"calls\":%" PRId64
              ",\"upstream_sends\":%" PRId64 ",\"excused_overlaps\":%" PRId64 ",\"faults\":{",
              sums.seeds, sums.steps, sums.calls, sums.sends, sums.excused);
  int64_t all = 0;
  for (int i = 0; i < kFaults; ++i) {
    const std::string_view name = FaultName(static_cast<Fault>(i));
    std::printf("%s\"%.*s\":%" PRId64, i == 0 ? "" : ",", static_cast<int>(name.size()),
                name.data(), sums.faults[i]);
    all += sums.faults[i];
  }
  std::printf("},\"faults_injected\":%" PRId64 ",\"failures\":%" PRId64
              ",%s\"seconds\":%.1f,"
              "\"cpu_seconds\":%.1f}\n",
              all, sums.failures, hash.c_str(), seconds, cpu_seconds);
}

double Since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Every `jobs`-th seed from first + `job` on. Tells about every 500th, and in the end.
Sums RunJob(const Arguments& arguments, int job, int pipe_end) {
  Sums all;
  Sums news;
  const uint64_t end = arguments.first + arguments.seeds;
  for (uint64_t seed = arguments.first + static_cast<uint64_t>(job); seed < end;
       seed += static_cast<uint64_t>(arguments.jobs)) {
    const Outcome outcome =
        RunSchedule(seed, {.defect = arguments.defect, .print = arguments.trace});
    if (!outcome.broken.empty()) Report(outcome);
    Add(news, outcome);
    if (news.seeds < 500 || pipe_end < 0) continue;
    Add(all, news);
    if (write(pipe_end, &news, sizeof(news)) != sizeof(news)) std::_Exit(3);
    news = {};
  }
  Add(all, news);
  if (pipe_end >= 0 && write(pipe_end, &news, sizeof(news)) != sizeof(news)) std::_Exit(3);
  return all;
}

int RunMany(const Arguments& arguments) {
  const auto begin = std::chrono::steady_clock::now();
  int ends[2];
  if (pipe(ends) != 0) Die("no pipe");
  std::vector<pid_t> children;
  for (int job = 0; job < arguments.jobs; ++job) {
    const pid_t child = fork();
    if (child < 0) Die("no process");
    if (child == 0) {
      close(ends[0]);
      RunJob(arguments, job, ends[1]);
      std::_Exit(0);
    }
    children.push_back(child);
  }
  close(ends[1]);
  Sums all;
  Sums news;
  double told = 0;
  const bool terminal = isatty(STDERR_FILENO) != 0;
  // Shorter than PIPE_BUF, so each arrives in one piece.
  static_assert(sizeof(Sums) < 4096);
  while (read(ends[0], &news, sizeof(news)) == sizeof(news)) {
    Add(all, news);
    const double seconds = Since(begin);
    if (seconds - told < (terminal ? 1 : 30)) continue;
    told = seconds;
    std::fprintf(stderr, "%s%" PRIu64 " of %" PRIu64 " seeds, %" PRId64 " failures, %.0f s%s",
                 terminal ? "\r" : "", all.seeds, arguments.seeds, all.failures, seconds,
                 terminal ? "" : "\n");
  }
  if (terminal) std::fprintf(stderr, "\n");
  bool well = all.seeds == arguments.seeds;
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    well = well && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  rusage usage{};
  getrusage(RUSAGE_CHILDREN, &usage);
  const double cpu = static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                     static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
  PrintSummary(all, Since(begin), cpu, "");
  if (!well) std::fprintf(stderr, "simulate: a job ended before its last seed\n");
  return well && all.failures == 0 ? 0 : 1;
}

int RunOne(const Arguments& arguments) {
  const auto begin = std::chrono::steady_clock::now();
  const Outcome outcome =
      RunSchedule(arguments.first, {.defect = arguments.defect, .print = arguments.trace});
  if (!outcome.broken.empty()) Report(outcome);
  Sums sums;
  Add(sums, outcome);
  char hash[64];
  std::snprintf(hash, sizeof(hash), "\"trace_hash\":\"%016" PRIx64 "\",", outcome.hash);
  PrintSummary(sums, Since(begin), static_cast<double>(std::clock()) / CLOCKS_PER_SEC, hash);
  return outcome.broken.empty() ? 0 : 1;
}

}  // namespace
}  // namespace tokenbroker::simulation

int main(int argc, char** argv) {
  using namespace tokenbroker::simulation;  // NOLINT
  const Arguments arguments = Parse(argc, argv);
  return arguments.one ? RunOne(arguments) : RunMany(arguments);
}
