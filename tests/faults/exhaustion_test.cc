#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/faults/fault_world.h"
#include "tests/testing/child_process.h"

// What a process runs on runs out.
namespace tokenbroker::faults {
namespace {

rlimit SetLimit(Broker& broker, __rlimit_resource resource, rlim_t soft) {
  rlimit old = {};
  EXPECT_EQ(prlimit(broker.process().pid(), resource, nullptr, &old), 0);
  rlimit next = old;
  next.rlim_cur = soft;
  EXPECT_EQ(prlimit(broker.process().pid(), resource, &next, nullptr), 0);
  return old;
}

// Promise: errors, then recovery, and nothing is lost. Fault: the process may open no further file
// descriptor, so that no connection to Zoho can be made. Asserted: living tokens are served, a
// caller who cannot use them gets UNAVAILABLE, 0 requests; with descriptors again, 1 refresh.
TEST(Exhaustion, FileDescriptors) {
  Scale scale;
  scale.failure_backoff = "[100ms]";
  World::Options options = RedisWorld(scale);
  options.behaviour.access_token_life = absl::Seconds(110);  // due, and good
  World world(options);
  Broker& broker = world.StartBroker();
  world.RegisterImported(broker, "acme", "us");
  world.log().Clear();

  const rlimit old = SetLimit(broker, RLIMIT_NOFILE, 3);
  for (int i = 0; i < 20; ++i) {
    const Broker::Token answer = broker.GetAccessToken("acme");
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.token.source(), v1::TOKEN_SOURCE_STALE);
  }
  const Broker::Token picky = broker.GetAccessToken(
      "acme", [](auto& request) { request.mutable_min_lifetime()->set_seconds(3000); });
  EXPECT_EQ(picky.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(world.Refreshes(), 0);

  SetLimit(broker, RLIMIT_NOFILE, old.rlim_cur);
  LetTokensLive(world);
  EXPECT_TRUE(WaitUntil(
      [&] { return broker.GetAccessToken("acme").token.source() == v1::TOKEN_SOURCE_REFRESHED; }));
  EXPECT_EQ(world.Refreshes(), 1);
}

// Promise: errors, then recovery, and G4. Fault: the database file may not grow any more (a limit
// of the process' file size; the writes fail as on a full disk) while refreshes come back from
// Zoho. Asserted: every token that Zoho minted is in the file when it may grow again.
TEST(Exhaustion, DiskOfTheEmbeddedStore) {
  World::Options options = RedisWorld();
  options.redis = false;
  World world(options);
  // Ignored dispositions are inherited: writes then fail instead of ending the process.
  signal(SIGXFSZ, SIG_IGN);
  Broker& broker = world.StartBroker();
  world.RegisterImported(broker, "acme", "us");
  LetTokensLive(world);

  HoldReplies(world);
  std::future<Broker::Token> call = Ask(broker, "acme");
  ASSERT_TRUE(WaitUntil([&] { return world.zoho().hung() == 1; }));
  const rlimit old = SetLimit(broker, RLIMIT_FSIZE, 1);
  EXPECT_EQ(world.zoho().ReleaseHung(), 1);
  EXPECT_EQ(Explain(call.get().status).reason, "STORE_UNAVAILABLE");
  EXPECT_EQ(Metric(broker, "tokenbroker_commits_pending"), 1);

  SetLimit(broker, RLIMIT_FSIZE, old.rlim_cur);
  EXPECT_TRUE(WaitUntil([&] { return Metric(broker, "tokenbroker_commits_pending") == 0; }));
  EXPECT_EQ(broker.Stop(), 0);
  Broker& next = world.StartBroker();
  const Broker::Token stored = next.GetAccessToken("acme");
  ASSERT_TRUE(stored.status.ok()) << stored.status.error_message();
  EXPECT_EQ(stored.token.source(), v1::TOKEN_SOURCE_STORE);
  EXPECT_EQ(world.Refreshes(), 1);
}

// A disk of its own: a file system in memory that a child process has mounted over a folder in a
// mount namespace of its own. Brokers that are started while it is there see it in that folder, and
// the test sees it from outside. Only root or a kernel that lets users have namespaces can do so.
class SmallDisk {
 public:
  SmallDisk(const std::string& folder, const std::string& size) : folder_(folder) {
    std::filesystem::create_directory(folder);
    holder_ = testing::ChildProcess::Start(
        {.argv = {"unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
                  "mount -t tmpfs -o size=\"$2\" tmpfs \"$1\" && echo mounted && cat", "sh", folder,
                  size},
         .keep_input_open = true});
    mounted_ = holder_
                   ->WaitForLine([](const std::string& line) { return line == "mounted"; },
                                 absl::Seconds(10))
                   .has_value();
    const std::string command =
        absl::StrCat("nsenter --user --mount --preserve-credentials --target ", holder_->pid(), " ",
                     TB_BROKER_BINARY);
    if (mounted_) setenv("TB_BROKER_COMMAND", command.c_str(), 1);
  }
  ~SmallDisk() {
    if (mounted_) unsetenv("TB_BROKER_COMMAND");
  }

  bool mounted() const { return mounted_; }

  // Until not one more byte fits: errno of the write that failed.
  int Fill() const {
    const int fd = open(filler().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    EXPECT_GE(fd, 0);
    const std::string chunk(4096, 'x');
    size_t size = chunk.size();
    int error = 0;
    while (size > 0) {
      if (write(fd, chunk.data(), size) < 0) {
        error = errno;
        size /= 2;
      }
    }
    close(fd);
    return error;
  }
  void MakeRoom() const { std::filesystem::remove(filler()); }

 private:
  std::string filler() const {
    return absl::StrCat("/proc/", holder_->pid(), "/root", folder_, "/filler");
  }

  const std::string folder_;
  std::unique_ptr<testing::ChildProcess> holder_;
  bool mounted_ = false;
};

// Promise: errors, then recovery, and G4. Fault: the disk with the database is full (ENOSPC) while
// a refresh comes back from Zoho. Asserted: the caller is told, living tokens are served, 0 further
// requests; when there is room again, the token that Zoho minted is in the file.
TEST(Exhaustion, FullDiskOfTheEmbeddedStore) {
  World::Options options = RedisWorld();
  options.redis = false;
  World world(options);
  const std::string folder = world.directory() + "/disk";
  const SmallDisk disk(folder, "2m");
  if (!disk.mounted()) GTEST_SKIP() << "no mount namespace may be made here";
  const std::vector<std::string> flags = {"--set",
                                          absl::StrCat("store.sqlite.path=", folder, "/grants.db")};
  Broker& broker = world.StartBroker(flags);
  world.RegisterImported(broker, "acme", "us");
  LetTokensLive(world);
  world.RegisterImported(broker, "other", "us");
  const Broker::Token other = broker.GetAccessToken("other");
  ASSERT_TRUE(other.status.ok()) << other.status.error_message();
  const int64_t before = world.Refreshes();

  HoldReplies(world);
  std::future<Broker::Token> call = Ask(broker, "acme");
  ASSERT_TRUE(WaitUntil([&] { return world.zoho().hung() == 1; }));
  ASSERT_EQ(disk.Fill(), ENOSPC);
  EXPECT_EQ(world.zoho().ReleaseHung(), 1);
  EXPECT_EQ(Explain(call.get().status).reason, "STORE_UNAVAILABLE");
  EXPECT_EQ(Metric(broker, "tokenbroker_commits_pending"), 1);
  EXPECT_EQ(broker.GetAccessToken("other").token.access_token(), other.token.access_token());
  EXPECT_FALSE(broker.GetAccessToken("acme").status.ok());
  EXPECT_EQ(world.Refreshes(), before + 1);

  disk.MakeRoom();
  EXPECT_TRUE(WaitUntil([&] { return Metric(broker, "tokenbroker_commits_pending") == 0; }));
  EXPECT_EQ(broker.Stop(), 0);
  Broker& next = world.StartBroker(flags);
  const Broker::Token stored = next.GetAccessToken("acme");
  ASSERT_TRUE(stored.status.ok()) << stored.status.error_message();
  EXPECT_EQ(stored.token.source(), v1::TOKEN_SOURCE_STORE);
  EXPECT_EQ(world.Refreshes(), before + 1);
}

// Promise: a Redis that forgets its scripts costs nobody anything. Fault: SCRIPT FLUSH again and
// again under callers who reject one token after the other. Asserted: 0 failed calls, every call a
// new version, as many requests as new versions.
TEST(Exhaustion, ScriptsFlushedUnderLoad) {
  constexpr int kGrants = 8;
  constexpr int kRefreshesOfEach = 60;
  World::Options options = RedisWorld();
  options.behaviour.access_token_life = absl::Hours(1);
  options.behaviour.limits.active_access_tokens = 0;
  World world(options);
  Broker& broker = world.StartBroker();
  for (int i = 0; i < kGrants; ++i) {
    world.RegisterImported(broker, absl::StrCat("org-", i), "us");
  }
  world.log().Clear();
  std::atomic<bool> done{false};
  int flushes = 0;
  std::vector<std::thread> callers;
  std::atomic<int> failed{0};
  std::atomic<int> running{kGrants};
  for (int i = 0; i < kGrants; ++i) {
    callers.emplace_back([&, org = absl::StrCat("org-", i)] {
      int64_t version = 1;
      for (int n = 0; n < kRefreshesOfEach; ++n) {
        const Broker::Token answer = broker.GetAccessToken(org, Rejecting(version));
        failed += !answer.status.ok() || answer.token.version() != version + 1;
        version = answer.token.version();
      }
      if (--running == 0) done = true;
    });
  }
  while (!done) {
    EXPECT_TRUE(world.redis().Command({"SCRIPT", "FLUSH"}).ok());
    ++flushes;
    absl::SleepFor(absl::Milliseconds(5));  // else there is nothing but flushes
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_GT(flushes, 10);
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(world.Refreshes("minted"), kGrants * kRefreshesOfEach);
  EXPECT_EQ(world.log().MaxInFlightPerGrant(), 1);
}

}  // namespace
}  // namespace tokenbroker::faults
