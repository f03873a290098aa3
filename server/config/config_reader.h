#ifndef TOKEN_BROKER_SERVER_CONFIG_CONFIG_READER_H_
#define TOKEN_BROKER_SERVER_CONFIG_CONFIG_READER_H_

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <map>
#include <string>
#include <string_view>

#include "server/config/problems.h"
#include "server/config/yaml_tree.h"

namespace tokenbroker {

// One place of a message that holds a value: a field, or one element of a repeated field.
struct ConfigSlot {
  google::protobuf::Message* message = nullptr;
  const google::protobuf::FieldDescriptor* field = nullptr;
  int index = -1;  // -1: the field is not repeated
};

bool IsDuration(const google::protobuf::FieldDescriptor& field);
// Whether the field's value is a map in YAML.
bool IsMapping(const google::protobuf::FieldDescriptor& field);

// "grpc" and "listen" make "grpc.listen".
std::string JoinPath(std::string_view parent, std::string_view name);
std::string IndexPath(std::string_view list, int index);
// The text about a key that `message` does not have: what was meant, or what there is.
std::string UnknownKeyText(std::string_view key, const google::protobuf::Descriptor& message);

// Copies YAML into a message of the configuration's schema by reflection. The schema uses strings,
// int32, bool, enums, Durations, messages, and lists of these.
class ConfigReader {
 public:
  // `source` names what is read. `sources`: filled in for every key; may be null. Both pointers
  // must outlive the reader.
  ConfigReader(std::string source, bool with_lines, std::map<std::string, ValueSource>* sources,
               Problems* problems);

  void ReadMessage(const YamlNode& node, const std::string& path,
                   google::protobuf::Message* message);
  // Of a repeated field: the whole list, appended.
  void ReadField(const YamlNode& node, const std::string& path, google::protobuf::Message* message,
                 const google::protobuf::FieldDescriptor* field);
  void ReadValue(const YamlNode& node, const std::string& path, const ConfigSlot& slot);

 private:
  ValueSource At(const YamlNode& node) const;
  void Refuse(const YamlNode& node, const std::string& path, std::string_view text);
  void ReadInt(const YamlNode& node, const std::string& path, const ConfigSlot& slot);
  void ReadBool(const YamlNode& node, const std::string& path, const ConfigSlot& slot);
  void ReadEnum(const YamlNode& node, const std::string& path, const ConfigSlot& slot);
  void ReadDuration(const YamlNode& node, const std::string& path, const ConfigSlot& slot);

  const std::string source_;
  const bool with_lines_;
  std::map<std::string, ValueSource>* const sources_;
  Problems* const problems_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_CONFIG_CONFIG_READER_H_
