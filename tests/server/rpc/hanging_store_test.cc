// What waits for a store that does not answer, over the wire.
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "common/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/rpc/broker_fixture.h"
#include "tests/server/rpc/error_details.h"
#include "tests/testing/fake_token_store.h"

namespace tokenbroker {
namespace {

using ::testing::SizeIs;

constexpr absl::Duration kLong = absl::Seconds(20);

// Something that happens once.
class Event {
 public:
  void Happen() {
    MutexLock lock(mutex_);
    happened_ = true;
    changed_.NotifyAll();
  }
  // False: not within a time that no healthy test comes near.
  bool Await() {
    const absl::Time give_up = absl::Now() + kLong;
    MutexLock lock(mutex_);
    while (!happened_ && absl::Now() < give_up) changed_.WaitFor(mutex_, give_up - absl::Now());
    return happened_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool happened_ ABSL_GUARDED_BY(mutex_) = false;
};

class HangingStoreTest : public ::testing::Test {
 protected:
  using Op = testing::FakeTokenStore::Op;

  explicit HangingStoreTest(absl::Duration default_deadline = absl::Seconds(10))
      : broker_(&store_, {.default_deadline = default_deadline}) {
    RegisterRequest request;
    request.key = kKey;
    request.attempt_id = NewAttemptId();
    request.info.dc = "eu";
    request.info.scopes = {"A.b.READ"};
    request.refresh_token = Secret("refresh");
    EXPECT_TRUE(store_.Register(request).ok());
  }
  ~HangingStoreTest() override { go_on_.Happen(); }

  // The next operation of this kind hangs until it may go on, or for twice as long as anything else
  // waits: then the test has failed.
  void Hang(Op op) {
    store_.Before(op, [this] {
      reached_.Happen();
      (void)(go_on_.Await() || go_on_.Await());
    });
  }
  // What the caller hears of a call during which the broker's listener shuts down, while the store
  // still hangs. The shutdown ends, or the test fails.
  grpc::Status ShutDownDuring(Op op, const std::function<grpc::Status()>& make_call) {
    Hang(op);
    grpc::Status status;
    std::thread caller([&] { status = make_call(); });
    EXPECT_TRUE(reached_.Await());
    Event ended;
    std::thread shutdown([&] {
      broker_.server().Shutdown(absl::Milliseconds(100));
      ended.Happen();
    });
    const bool in_time = ended.Await();
    EXPECT_TRUE(in_time) << "the call holds it up";
    if (!in_time) go_on_.Happen();
    shutdown.join();
    caller.join();
    return status;
  }

  const GrantKey kKey{"acme", Environment::kProduction, "web"};
  testing::FakeTokenStore store_;
  Event reached_;
  Event go_on_;
  Broker broker_;
};

TEST_F(HangingStoreTest, HoldsUpNoShutdown) {
  const grpc::Status status = ShutDownDuring(Op::kListPage, [this] {
    v1::GetOrgRequest request;
    request.set_org_id("acme");
    v1::GetOrgResponse response;
    TestContext context;
    return broker_.stub().GetOrg(&context, request, &response);
  });
  EXPECT_FALSE(status.ok());
  const std::vector<SeenCall> calls = broker_.WaitForCalls(1);
  ASSERT_THAT(calls, SizeIs(1));
  EXPECT_EQ(calls[0].code, "CANCELLED");
}

TEST_F(HangingStoreTest, HoldsUpNoShutdownByTheLookUpForAUrl) {
  ASSERT_TRUE(store_.Revoke({kKey}).ok());
  const grpc::Status status = ShutDownDuring(Op::kListPage, [this] {
    v1::GetAccessTokenRequest request;
    request.set_org_id("acme");
    request.set_oauth_client("web");
    v1::GetAccessTokenResponse response;
    TestContext context;
    return broker_.stub().GetAccessToken(&context, request, &response);
  });
  EXPECT_FALSE(status.ok());
}

TEST_F(HangingStoreTest, StillStoresWhatWasSentForACallThatIsGone) {
  const grpc::Status status = ShutDownDuring(Op::kRegister, [this] {
    v1::RegisterGrantRequest request;
    request.set_org_id("bolt");
    request.set_oauth_client("web");
    request.set_dc("eu");
    request.set_refresh_token("1000.r.t");
    v1::RegisterGrantResponse response;
    TestContext context;
    return broker_.stub().RegisterGrant(&context, request, &response);
  });
  EXPECT_FALSE(status.ok());
  go_on_.Happen();
  EXPECT_TRUE(broker_.registrar().Drain(kLong));
  EXPECT_EQ(store_.record({"bolt", Environment::kProduction, "web"}).refresh_token,
            Secret("1000.r.t"));
  EXPECT_THAT(broker_.WaitForCalls(1), SizeIs(1));
}

class HurriedCallTest : public HangingStoreTest {
 protected:
  HurriedCallTest() : HangingStoreTest(absl::Seconds(1)) {}
};

TEST_F(HurriedCallTest, LeavesAtItsDeadline) {
  Hang(Op::kListPage);
  v1::GetOrgRequest request;
  request.set_org_id("acme");
  v1::GetOrgResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(ReasonOf(broker_.stub().GetOrg(&context, request, &response)), "DEADLINE_EXCEEDED");
  EXPECT_TRUE(reached_.Await());
}

TEST_F(HurriedCallTest, DoesWithoutAnAuthorizationUrl) {
  ASSERT_TRUE(store_.Revoke({kKey}).ok());
  Hang(Op::kListPage);
  v1::GetAccessTokenRequest request;
  request.set_org_id("acme");
  request.set_oauth_client("web");
  v1::GetAccessTokenResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(ReasonOf(broker_.stub().GetAccessToken(&context, request, &response)),
            "CONSENT_REQUIRED");
}

}  // namespace
}  // namespace tokenbroker
