#ifndef TOKEN_BROKER_SERVER_ISSUING_BELIEVED_API_DOMAIN_H_
#define TOKEN_BROKER_SERVER_ISSUING_BELIEVED_API_DOMAIN_H_

#include <string>

#include "clients/zoho/data_center.h"
#include "common/ids.h"

namespace tokenbroker {

// The reply's API domain if it is the DC's own, or its environment's ("https://sandbox." for
// "https://www.": facts, section 1); otherwise "". Callers send tokens wherever it points, so
// nothing else is believed (facts, section 8).
std::string BelievedApiDomain(const DataCenter& dc, Environment environment,
                              const std::string& replied);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_ISSUING_BELIEVED_API_DOMAIN_H_
