// Whom the client believes to be Zoho: the system's authorities and those of `zoho.ca_file`
// together.
#include "clients/zoho/trust_anchors.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "clients/zoho/single_post.h"
#include "gtest/gtest.h"
#include "tests/clients/zoho/simulator_client_fixture.h"
#include "tests/zoho_simulator/certificate.h"

namespace tokenbroker {
namespace {

// The parameter: the system has a directory of authorities, or else a bundle alone.
class TrustAnchorsTest : public AgainstSimulatorTest, public ::testing::WithParamInterface<bool> {
 protected:
  TrustAnchorsTest() : AgainstSimulatorTest(/*https=*/true) {
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    zoho_ = simulator_->certificate_pem();
    other_ = zoho_simulator::MakeCertificate("another authority").value().certificate_pem;
  }
  ~TrustAnchorsTest() override { std::filesystem::remove_all(folder_); }

  SystemAuthorities SystemOf(const std::string& pem) const {
    const std::string name = GetParam() ? zoho_simulator::HashedName(pem) : "bundle.pem";
    std::ofstream(folder_ + "/" + name) << pem;
    return GetParam() ? SystemAuthorities{folder_, ""}
                      : SystemAuthorities{"", folder_ + "/" + name};
  }

  // Whether TLS to the simulated Zoho comes about. Nothing is sent.
  bool Trusts(const absl::StatusOr<TrustAnchors>& anchors) const {
    EXPECT_EQ(anchors.status(), absl::OkStatus());
    FormPost post;
    post.url = Dc("us").accounts_server + "/oauth/v2/token";
    post.max_reply_bytes = 1024;
    post.connect_timeout = absl::Seconds(10);
    post.response_timeout = absl::Seconds(10);
    bool stands = false;
    const PostResult result = PostOnce(post, *anchors, [&stands] {
      stands = true;
      return absl::CancelledError("seen enough");
    });
    EXPECT_EQ(result.error, stands ? "" : "certificate_refused");
    return stands;
  }

  std::string folder_ = ::testing::TempDir() + "/tb-authorities-XXXXXX";
  std::string zoho_, other_;
};

INSTANTIATE_TEST_SUITE_P(Systems, TrustAnchorsTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Directory" : "Bundle"; });

TEST_P(TrustAnchorsTest, AFurtherAuthorityLeavesTheSystems) {
  const CaFile further(other_);
  EXPECT_TRUE(Trusts(TrustAnchors::Load(further.path(), SystemOf(zoho_))));
}

TEST_P(TrustAnchorsTest, AFurtherAuthorityIsTrustedBesideTheSystems) {
  const CaFile further(zoho_);
  EXPECT_TRUE(Trusts(TrustAnchors::Load(further.path(), SystemOf(other_))));
}

TEST_P(TrustAnchorsTest, WithoutAFileTheSystemsAloneAreTrusted) {
  EXPECT_TRUE(Trusts(TrustAnchors::Load("", SystemOf(zoho_))));
}

TEST_P(TrustAnchorsTest, NobodyElseIsTrusted) {
  const CaFile further(other_);
  EXPECT_FALSE(Trusts(TrustAnchors::Load(further.path(), SystemOf(other_))));
  EXPECT_FALSE(Trusts(TrustAnchors::Load("", SystemOf(other_))));
}

}  // namespace
}  // namespace tokenbroker
