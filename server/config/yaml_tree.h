#ifndef TOKEN_BROKER_SERVER_CONFIG_YAML_TREE_H_
#define TOKEN_BROKER_SERVER_CONFIG_YAML_TREE_H_

#include <string>
#include <string_view>
#include <vector>

#include "server/config/problems.h"

namespace tokenbroker {

// A YAML document as it was written: order, duplicate keys and lines are kept, which a map would
// lose.
struct YamlNode {
  enum class Kind {
    kNull,
    kScalar,
    kSequence,
    kMap,
    kRefused,  // an alias; a problem says so
  };
  Kind kind = Kind::kNull;
  int line = 1;
  std::string scalar;
  bool quoted = false;          // kScalar
  std::vector<YamlNode> items;  // kSequence, kMap: the values
  std::vector<YamlNode> keys;   // kMap: scalars; the n-th is the key of the n-th item
};

// Parses `text`, which must be UTF-8 and hold exactly one document. False: it is not YAML; a
// problem says so. What can be parsed but is refused adds problems too, because a configuration
// needs none of it and each can hide what a value is: aliases, anchors, tags, keys that are no
// scalars, a second document. `source`: for the problems; their line is 0 if `with_lines` is false.
// Takes any bytes; nesting is limited to 500 levels.
bool ParseYaml(std::string_view text, const std::string& source, bool with_lines, YamlNode* root,
               Problems* problems);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_CONFIG_YAML_TREE_H_
