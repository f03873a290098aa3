#include "server/config/print_config.h"

#include <google/protobuf/duration.pb.h>
#include <yaml-cpp/emitter.h>
#include <yaml-cpp/emittermanip.h>

#include <string>

#include "server/config/config_reader.h"
#include "server/config/field_rules.h"

namespace tokenbroker {
namespace {

using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::Message;
using ::google::protobuf::Reflection;

void EmitMessage(const Message& message, YAML::Emitter* out);

absl::Duration ToDuration(const Message& message) {
  google::protobuf::Duration duration;
  duration.CopyFrom(message);
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

// The value of a field, or of one element if `index` is not -1.
void EmitValue(const Message& message, const FieldDescriptor* field, int index,
               YAML::Emitter* out) {
  const Reflection* reflection = message.GetReflection();
  const bool one = index < 0;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      *out << (one ? reflection->GetInt32(message, field)
                   : reflection->GetRepeatedInt32(message, field, index));
      return;
    case FieldDescriptor::CPPTYPE_BOOL:
      *out << YAML::TrueFalseBool
           << (one ? reflection->GetBool(message, field)
                   : reflection->GetRepeatedBool(message, field, index));
      return;
    case FieldDescriptor::CPPTYPE_ENUM: {
      const std::string& zero = field->enum_type()->value(0)->name();
      const size_t prefix = zero.rfind("UNSPECIFIED");
      const auto* value = one ? reflection->GetEnum(message, field)
                              : reflection->GetRepeatedEnum(message, field, index);
      *out << value->name().substr(prefix);
      return;
    }
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      const Message& inner = one ? reflection->GetMessage(message, field)
                                 : reflection->GetRepeatedMessage(message, field, index);
      if (IsDuration(*field)) {
        *out << FormatConfigDuration(ToDuration(inner));
      } else {
        EmitMessage(inner, out);
      }
      return;
    }
    default:
      *out << YAML::DoubleQuoted
           << (one ? reflection->GetString(message, field)
                   : reflection->GetRepeatedString(message, field, index));
      return;
  }
}

// Fields that hold their type's zero value are left out unless zero was said: "" and absent maps
// mean that there is none.
bool IsPresent(const Message& message, const FieldDescriptor* field) {
  const Reflection* reflection = message.GetReflection();
  if (field->is_repeated()) return reflection->FieldSize(message, field) > 0;
  if (field->has_presence()) return reflection->HasField(message, field);
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return !reflection->GetString(message, field).empty();
    case FieldDescriptor::CPPTYPE_ENUM:
      return reflection->GetEnumValue(message, field) != 0;
    default:
      return true;
  }
}

void EmitMessage(const Message& message, YAML::Emitter* out) {
  const Reflection* reflection = message.GetReflection();
  const auto* type = message.GetDescriptor();
  *out << YAML::BeginMap;
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    if (!IsPresent(message, field)) continue;
    *out << YAML::Key << field->name() << YAML::Value;
    if (!field->is_repeated()) {
      EmitValue(message, field, -1, out);
      continue;
    }
    *out << YAML::BeginSeq;
    for (int k = 0; k < reflection->FieldSize(message, field); ++k) {
      EmitValue(message, field, k, out);
    }
    *out << YAML::EndSeq;
  }
  *out << YAML::EndMap;
}

}  // namespace

std::string PrintConfig(const config::v1::Config& config) {
  YAML::Emitter out;
  EmitMessage(config, &out);
  return std::string(out.c_str(), out.size()) + "\n";
}

}  // namespace tokenbroker
