#ifndef TOKEN_BROKER_SERVER_CONFIG_PRINT_CONFIG_H_
#define TOKEN_BROKER_SERVER_CONFIG_PRINT_CONFIG_H_

#include <string>

#include "tokenbroker/config/v1/config.pb.h"

namespace tokenbroker {

// The configuration as YAML that can be loaded again, in the schema's order. Enum values without
// their prefix, durations as "250ms". Holds no secret, because the schema does not: secrets are the
// contents of the files it names.
std::string PrintConfig(const config::v1::Config& config);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_CONFIG_PRINT_CONFIG_H_
