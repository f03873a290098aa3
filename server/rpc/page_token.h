#ifndef TOKEN_BROKER_SERVER_RPC_PAGE_TOKEN_H_
#define TOKEN_BROKER_SERVER_RPC_PAGE_TOKEN_H_

#include <optional>
#include <string>
#include <string_view>

#include "server/issuing/org_directory.h"

namespace tokenbroker {

// The opaque `page_token` of ListOrgs: where to go on, bound to the filter that the list began
// with. Any replica reads what another one wrote. It protects from mistakes, not from forgery: a
// caller who makes one up can only start a list somewhere else.
std::string EncodePageToken(std::string_view next, const GrantFilter& filter);

// nullopt: not made by EncodePageToken, altered, or made for another filter.
std::optional<std::string> DecodePageToken(std::string_view page_token, const GrantFilter& filter);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_RPC_PAGE_TOKEN_H_
