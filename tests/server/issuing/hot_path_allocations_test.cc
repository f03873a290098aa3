// The hot path allocates nothing. In a program of its own, because it counts every allocation.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "tests/server/issuing/world.h"

namespace {

thread_local int allocations = 0;

}  // namespace

#ifndef TB_SANITIZED
void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

namespace tokenbroker {
namespace {

// Long enough that no string of it hides in its own object.
const std::string kOrg = "an-org-id-that-is-longer-than-a-small-string";

TEST(HotPath, AllocatesNothing) {
#ifdef TB_SANITIZED
  GTEST_SKIP() << "the sanitizers bring their own allocator";
#endif
  World world;
  world.Add({.key = {kOrg, Environment::kProduction, "web"},
             .scopes = {"ZOHOPEOPLE.attendance.READ"},
             .lifetime = absl::Hours(1)});
  for (const char* client : {"web", ""}) {
    ASSERT_TRUE(world.Get({.org_id = kOrg, .oauth_client = client}).ok());
    const TokenQuery query{.org_id = kOrg, .oauth_client = client};
    allocations = 0;
    {
      const auto answer = world.replica().issuer().TryCached(query);
      ASSERT_TRUE(answer.has_value());
      ASSERT_TRUE(answer->ok());
      EXPECT_EQ((*answer)->source, TokenSource::kCache);
      EXPECT_EQ(allocations, 0) << "client '" << client << "'";
    }
  }
  // The count does count.
  allocations = 0;
  delete new int(1);
  std::string long_string(kOrg);
  EXPECT_GT(allocations, 0);
}

}  // namespace
}  // namespace tokenbroker
