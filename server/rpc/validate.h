#ifndef TOKEN_BROKER_SERVER_RPC_VALIDATE_H_
#define TOKEN_BROKER_SERVER_RPC_VALIDATE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "server/consent/authorization_url.h"
#include "server/issuing/grant_registrar.h"
#include "server/issuing/issued_token.h"
#include "server/issuing/org_directory.h"
#include "server/issuing/refresher.h"
#include "tokenbroker/v1/token_service.pb.h"

// From the API's requests to the broker's structs, before anything is looked up. The limits are
// those that the protos' comments state. All functions are pure and return INVALID_ARGUMENT
// INVALID_REQUEST naming every field and rule at fault at once; further errors are named below.
namespace tokenbroker {

// The query's views point into `request`.
absl::StatusOr<TokenQuery> ValidateGetAccessToken(const v1::GetAccessTokenRequest& request,
                                                  const ZohoSetup& setup,
                                                  absl::Duration default_min_lifetime);

// FAILED_PRECONDITION CLIENT_SECRET_MISSING: the client has no secret for the DC.
absl::StatusOr<Registration> ValidateRegisterGrant(const v1::RegisterGrantRequest& request,
                                                   const ZohoSetup& setup);

// One page of the list of orgs.
struct OrgListing {
  GrantFilter filter;
  std::string after;  // "": from the first
  int page_size = 100;
};
// A filter may name DCs and OAuth clients that the configuration no longer has: their grants are
// still stored.
absl::StatusOr<OrgListing> ValidateListOrgs(const v1::ListOrgsRequest& request);

// The org id.
absl::StatusOr<std::string> ValidateGetOrg(const v1::GetOrgRequest& request);

// The OAuth client may be one that the configuration no longer has.
absl::StatusOr<GrantKey> ValidateRevokeGrant(const v1::RevokeGrantRequest& request);

// FAILED_PRECONDITION CLIENT_SECRET_MISSING, as above.
absl::StatusOr<AuthorizationRequest> ValidateCreateAuthorizationUrl(
    const v1::CreateAuthorizationUrlRequest& request, const ZohoSetup& setup);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_RPC_VALIDATE_H_
