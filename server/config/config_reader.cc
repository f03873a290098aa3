#include "server/config/config_reader.h"

#include <google/protobuf/duration.pb.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "server/config/field_rules.h"

namespace tokenbroker {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::EnumDescriptor;
using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::Message;

absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }

// How values of a field are written, for messages.
constexpr std::string_view kDurationForm = "a duration such as 250ms, 5s, 10m or 1h";

// Slips (a letter too many, too few, another one, two swapped) between two short names.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> slips(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) slips[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) slips[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = slips[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      slips[i][j] = std::min({replaced, slips[i - 1][j] + 1, slips[i][j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        slips[i][j] = std::min(slips[i][j], slips[i - 2][j - 2] + 1);
      }
    }
  }
  return slips[a.size()][b.size()];
}

// "LOG_LEVEL_" of LOG_LEVEL_UNSPECIFIED, the value 0 that every enum of the schema begins with.
std::string EnumPrefix(const EnumDescriptor& type) {
  constexpr std::string_view kUnspecified = "UNSPECIFIED";
  const std::string& zero = type.value(0)->name();
  return zero.substr(0, zero.size() - kUnspecified.size());
}

const FieldRule* RuleOf(const FieldDescriptor& field) {
  return FindFieldRule(absl::StrCat(field.containing_type()->name(), ".", field.name()));
}

// What people see of a value: one line, without control characters.
std::string Shown(std::string_view value) {
  constexpr size_t kMost = 60;
  const bool cut = value.size() > kMost;
  return absl::StrCat("'", absl::Utf8SafeCHexEscape(ToAbsl(value.substr(0, kMost))),
                      cut ? "…'" : "'");
}

// "1000000", and "1e+06", which is what Helm makes of it. nullopt: no number, or not a whole one.
std::optional<double> ParseWholeNumber(std::string_view text) {
  double value = 0;
  if (text.empty() || text.find_first_not_of("0123456789.eE+-") != std::string_view::npos ||
      text.front() == '+' || !absl::SimpleAtod(ToAbsl(text), &value) ||
      value != std::floor(value)) {
    return std::nullopt;
  }
  return value;
}

void SetString(const ConfigSlot& slot, std::string value) {
  const auto* reflection = slot.message->GetReflection();
  if (slot.index < 0) {
    reflection->SetString(slot.message, slot.field, std::move(value));
  } else {
    reflection->SetRepeatedString(slot.message, slot.field, slot.index, std::move(value));
  }
}

void SetInt(const ConfigSlot& slot, int32_t value) {
  const auto* reflection = slot.message->GetReflection();
  if (slot.index < 0) {
    reflection->SetInt32(slot.message, slot.field, value);
  } else {
    reflection->SetRepeatedInt32(slot.message, slot.field, slot.index, value);
  }
}

void SetBool(const ConfigSlot& slot, bool value) {
  const auto* reflection = slot.message->GetReflection();
  if (slot.index < 0) {
    reflection->SetBool(slot.message, slot.field, value);
  } else {
    reflection->SetRepeatedBool(slot.message, slot.field, slot.index, value);
  }
}

void SetEnum(const ConfigSlot& slot, int number) {
  const auto* reflection = slot.message->GetReflection();
  if (slot.index < 0) {
    reflection->SetEnumValue(slot.message, slot.field, number);
  } else {
    reflection->SetRepeatedEnumValue(slot.message, slot.field, slot.index, number);
  }
}

Message* MutableMessage(const ConfigSlot& slot) {
  const auto* reflection = slot.message->GetReflection();
  return slot.index < 0 ? reflection->MutableMessage(slot.message, slot.field)
                        : reflection->MutableRepeatedMessage(slot.message, slot.field, slot.index);
}

// Appends an element with its type's zero value; returns its slot.
ConfigSlot Append(Message* message, const FieldDescriptor* field) {
  const auto* reflection = message->GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      reflection->AddString(message, field, "");
      break;
    case FieldDescriptor::CPPTYPE_INT32:
      reflection->AddInt32(message, field, 0);
      break;
    case FieldDescriptor::CPPTYPE_BOOL:
      reflection->AddBool(message, field, false);
      break;
    case FieldDescriptor::CPPTYPE_ENUM:
      reflection->AddEnumValue(message, field, 0);
      break;
    default:
      reflection->AddMessage(message, field);
      break;
  }
  return {message, field, reflection->FieldSize(*message, field) - 1};
}

}  // namespace

bool IsDuration(const FieldDescriptor& field) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
         field.message_type() == google::protobuf::Duration::descriptor();
}

bool IsMapping(const FieldDescriptor& field) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !IsDuration(field);
}

std::string JoinPath(std::string_view parent, std::string_view name) {
  return parent.empty() ? std::string(name) : absl::StrCat(ToAbsl(parent), ".", ToAbsl(name));
}

std::string IndexPath(std::string_view list, int index) {
  return absl::StrCat(ToAbsl(list), "[", index, "]");
}

std::string UnknownKeyText(std::string_view key, const Descriptor& message) {
  std::vector<std::string> known;
  for (int i = 0; i < message.field_count(); ++i) known.push_back(message.field(i)->name());
  // Slips of the pen, but not another word altogether.
  const size_t near = key.size() >= 5 ? 2 : 1;
  for (const std::string& name : known) {
    if (key.size() < 100 && EditDistance(key, name) <= near) {
      return absl::StrCat("unknown key; did you mean '", name, "'?");
    }
  }
  return absl::StrCat("unknown key; known: ", absl::StrJoin(known, ", "));
}

ConfigReader::ConfigReader(std::string source, bool with_lines,
                           std::map<std::string, ValueSource>* sources, Problems* problems)
    : source_(std::move(source)), with_lines_(with_lines), sources_(sources), problems_(problems) {}

ValueSource ConfigReader::At(const YamlNode& node) const {
  return {source_, with_lines_ ? node.line : 0};
}

void ConfigReader::Refuse(const YamlNode& node, const std::string& path, std::string_view text) {
  problems_->Add(At(node), path, text);
}

void ConfigReader::ReadMessage(const YamlNode& node, const std::string& path, Message* message) {
  if (node.kind == YamlNode::Kind::kRefused) return;
  if (node.kind != YamlNode::Kind::kMap) {
    Refuse(node, path,
           path.empty() ? "must consist of keys with values" : "must be a map of keys with values");
    return;
  }
  std::map<std::string, int> seen;  // key to line
  for (size_t i = 0; i < node.keys.size(); ++i) {
    const YamlNode& key = node.keys[i];
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(key.scalar);
    if (field == nullptr) {
      const std::string shown = absl::Utf8SafeCHexEscape(key.scalar.substr(0, 100));
      Refuse(key, JoinPath(path, shown), UnknownKeyText(key.scalar, *message->GetDescriptor()));
      continue;
    }
    const std::string field_path = JoinPath(path, key.scalar);
    if (const auto [it, first] = seen.emplace(key.scalar, key.line); !first) {
      Refuse(key, field_path,
             with_lines_ ? absl::StrCat("is there twice; first in line ", it->second)
                         : std::string("is there twice"));
      continue;
    }
    if (sources_ != nullptr) (*sources_)[field_path] = At(key);
    ReadField(node.items[i], field_path, message, field);
  }
}

void ConfigReader::ReadField(const YamlNode& node, const std::string& path, Message* message,
                             const FieldDescriptor* field) {
  if (!field->is_repeated()) {
    ReadValue(node, path, {message, field, -1});
    return;
  }
  if (node.kind == YamlNode::Kind::kRefused) return;
  if (node.kind == YamlNode::Kind::kNull) {
    Refuse(node, path, "has no value; give it one or remove the key");
    return;
  }
  if (node.kind != YamlNode::Kind::kSequence) {
    Refuse(node, path, "must be a list");
    return;
  }
  for (const YamlNode& item : node.items) {
    const ConfigSlot slot = Append(message, field);
    ReadValue(item, IndexPath(path, slot.index), slot);
  }
}

void ConfigReader::ReadValue(const YamlNode& node, const std::string& path,
                             const ConfigSlot& slot) {
  if (sources_ != nullptr) {
    // A key's own line is closer than the line its value begins in.
    sources_->try_emplace(path, At(node));
  }
  if (node.kind == YamlNode::Kind::kRefused) return;
  if (node.kind == YamlNode::Kind::kNull) {
    Refuse(node, path, "has no value; give it one or remove the key");
    return;
  }
  if (IsMapping(*slot.field)) {
    ReadMessage(node, path, MutableMessage(slot));
    return;
  }
  switch (slot.field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      if (node.kind != YamlNode::Kind::kScalar) {
        Refuse(node, path, "must be a text");
      } else if (node.scalar.empty()) {
        Refuse(node, path, "is empty; give it a value or remove the key");
      } else {
        SetString(slot, node.scalar);
      }
      return;
    case FieldDescriptor::CPPTYPE_INT32:
      return ReadInt(node, path, slot);
    case FieldDescriptor::CPPTYPE_BOOL:
      return ReadBool(node, path, slot);
    case FieldDescriptor::CPPTYPE_ENUM:
      return ReadEnum(node, path, slot);
    default:
      return ReadDuration(node, path, slot);
  }
}

void ConfigReader::ReadInt(const YamlNode& node, const std::string& path, const ConfigSlot& slot) {
  const std::optional<double> number = node.kind == YamlNode::Kind::kScalar && !node.quoted
                                           ? ParseWholeNumber(node.scalar)
                                           : std::nullopt;
  if (!number) {
    Refuse(node, path, "must be a whole number");
    return;
  }
  const FieldRule* rule = RuleOf(*slot.field);
  int32_t min = INT32_MIN;
  int32_t max = INT32_MAX;
  if (rule != nullptr) {
    (void)absl::SimpleAtoi(ToAbsl(rule->min), &min);
    (void)absl::SimpleAtoi(ToAbsl(rule->max), &max);
  }
  if (*number < min || *number > max) {
    Refuse(node, path, absl::StrCat("must be between ", min, " and ", max));
    return;
  }
  SetInt(slot, static_cast<int32_t>(*number));
}

void ConfigReader::ReadBool(const YamlNode& node, const std::string& path, const ConfigSlot& slot) {
  const bool is_true = node.scalar == "true";
  if (node.kind != YamlNode::Kind::kScalar || node.quoted || (!is_true && node.scalar != "false")) {
    Refuse(node, path, "must be true or false");
    return;
  }
  SetBool(slot, is_true);
}

void ConfigReader::ReadEnum(const YamlNode& node, const std::string& path, const ConfigSlot& slot) {
  const EnumDescriptor& type = *slot.field->enum_type();
  const std::string prefix = EnumPrefix(type);
  std::vector<std::string> known;
  for (int i = 1; i < type.value_count(); ++i) {
    known.push_back(type.value(i)->name().substr(prefix.size()));
  }
  if (node.kind == YamlNode::Kind::kScalar) {
    std::string name = absl::AsciiStrToUpper(node.scalar);
    if (name.starts_with(prefix)) name.erase(0, prefix.size());
    for (int i = 1; i < type.value_count(); ++i) {
      if (known[i - 1] == name) return SetEnum(slot, type.value(i)->number());
    }
  }
  const std::string got =
      node.kind == YamlNode::Kind::kScalar ? absl::StrCat(", not ", Shown(node.scalar)) : "";
  Refuse(node, path, absl::StrCat("must be one of ", absl::StrJoin(known, ", "), got));
}

void ConfigReader::ReadDuration(const YamlNode& node, const std::string& path,
                                const ConfigSlot& slot) {
  std::optional<absl::Duration> duration;
  if (node.kind == YamlNode::Kind::kScalar) duration = ParseConfigDuration(node.scalar);
  if (!duration) {
    const std::string got =
        node.kind == YamlNode::Kind::kScalar ? absl::StrCat(", not ", Shown(node.scalar)) : "";
    Refuse(node, path, absl::StrCat("must be ", ToAbsl(kDurationForm), got));
    return;
  }
  if (const FieldRule* rule = RuleOf(*slot.field); rule != nullptr) {
    const std::optional<absl::Duration> min = ParseConfigDuration(rule->min);
    const std::optional<absl::Duration> max = ParseConfigDuration(rule->max);
    if ((min && *duration < *min) || (max && *duration > *max)) {
      Refuse(node, path,
             absl::StrCat("must be between ", ToAbsl(rule->min), " and ", ToAbsl(rule->max)));
      return;
    }
  }
  Message* message = MutableMessage(slot);
  const Descriptor* type = message->GetDescriptor();
  const auto* reflection = message->GetReflection();
  absl::Duration rest;
  const int64_t seconds = absl::IDivDuration(*duration, absl::Seconds(1), &rest);
  reflection->SetInt64(message, type->FindFieldByName("seconds"), seconds);
  reflection->SetInt32(message, type->FindFieldByName("nanos"),
                       static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
}

}  // namespace tokenbroker
