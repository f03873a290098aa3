#include "server/config/config_file.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "server/config/config_reader.h"
#include "server/config/field_rules.h"
#include "server/config/yaml_tree.h"

namespace tokenbroker {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::Message;
using ::google::protobuf::Reflection;

// Messages that exist even when they are not written. The presence of the others means something.
constexpr std::array<std::string_view, 6> kImpliedMessages = {"grpc",    "ops", "zoho",
                                                              "issuing", "log", "protocol"};

// One step of a path: "oauth_clients[0]".
struct Step {
  std::string name;
  std::optional<int> index;
};

std::optional<Step> ParseStep(std::string_view text) {
  Step step;
  const size_t bracket = text.find('[');
  step.name = std::string(text.substr(0, bracket));
  if (step.name.empty()) return std::nullopt;
  if (bracket == std::string_view::npos) return step;
  const std::string_view rest = text.substr(bracket + 1);
  int index = 0;
  if (rest.size() < 2 || rest.back() != ']' || !absl::ascii_isdigit(rest.front()) ||
      !absl::SimpleAtoi(absl::string_view(rest.data(), rest.size() - 1), &index)) {
    return std::nullopt;
  }
  step.index = index;
  return step;
}

// Forgets where `path` and everything beneath it came from.
void EraseSources(const std::string& path, std::map<std::string, ValueSource>* sources) {
  for (auto it = sources->lower_bound(path); it != sources->end();) {
    if (!it->first.starts_with(path)) break;
    const char next = it->first.size() == path.size() ? '.' : it->first[path.size()];
    if (next == '.' || next == '[') {
      it = sources->erase(it);
    } else {
      ++it;
    }
  }
}

// Walks an override's path and sets the value at its end.
class OverrideWriter {
 public:
  OverrideWriter(const ConfigOverride& override, ConfigDocument* document, Problems* problems)
      : override_(override),
        source_{override.origin, 0},
        document_(document),
        problems_(problems) {}

  void Write() {
    Message* message = &document_->config;
    std::string path;
    const std::vector<std::string> texts = absl::StrSplit(override_.path, '.');
    for (size_t i = 0; i < texts.size(); ++i) {
      const std::optional<Step> step = ParseStep(texts[i]);
      if (!step) return Refuse("is not the path of a key");
      const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(step->name);
      if (field == nullptr) {
        return Refuse(UnknownKeyText(step->name, *message->GetDescriptor()));
      }
      path = JoinPath(path, step->name);
      if (step->index && !field->is_repeated()) return Refuse("has an index but is not a list");
      const bool last = i + 1 == texts.size();
      if (!last && field->is_repeated() && !step->index)
        return Refuse("needs an index: it is a list");
      if (!last && !IsMapping(*field)) return Refuse("has no keys of its own");
      if (last && !step->index) return SetField(path, message, field);
      document_->sources.try_emplace(path, source_);
      ConfigSlot slot{message, field, -1};
      if (step->index) {
        path = IndexPath(path, *step->index);
        if (!Extend(message, field, *step->index)) return;
        slot.index = *step->index;
      }
      if (last) return SetElement(path, slot);
      document_->sources.try_emplace(path, source_);
      const Reflection* reflection = message->GetReflection();
      message = slot.index < 0 ? reflection->MutableMessage(message, field)
                               : reflection->MutableRepeatedMessage(message, field, slot.index);
    }
  }

 private:
  void Refuse(std::string_view text) { problems_->Add(source_, override_.path, text); }

  // Makes the element if the index is the list's length.
  bool Extend(Message* message, const FieldDescriptor* field, int index) {
    const Reflection* reflection = message->GetReflection();
    const int size = reflection->FieldSize(*message, field);
    if (index > size) {
      Refuse(absl::StrCat("the list has ", size, " elements"));
      return false;
    }
    if (index < size) return true;
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      reflection->AddMessage(message, field);
    } else {
      reflection->AddString(message, field, "");  // the schema's other lists are of strings
    }
    return true;
  }

  // The value as a YAML node: maps and lists are parsed, everything else is taken as it is.
  bool ParseValue(const FieldDescriptor& field, bool element, YamlNode* node) {
    if (IsMapping(field) || (field.is_repeated() && !element)) {
      return ParseYaml(override_.value, override_.origin, false, node, problems_);
    }
    node->kind = YamlNode::Kind::kScalar;
    node->scalar = override_.value;
    return true;
  }

  void SetField(const std::string& path, Message* message, const FieldDescriptor* field) {
    YamlNode node;
    if (!ParseValue(*field, false, &node)) return;
    message->GetReflection()->ClearField(message, field);
    EraseSources(path, &document_->sources);
    document_->sources[path] = source_;
    Reader().ReadField(node, path, message, field);
  }

  void SetElement(const std::string& path, const ConfigSlot& slot) {
    YamlNode node;
    if (!ParseValue(*slot.field, true, &node)) return;
    if (IsMapping(*slot.field)) {
      slot.message->GetReflection()
          ->MutableRepeatedMessage(slot.message, slot.field, slot.index)
          ->Clear();
    }
    EraseSources(path, &document_->sources);
    document_->sources[path] = source_;
    Reader().ReadValue(node, path, slot);
  }

  ConfigReader Reader() {
    return ConfigReader(override_.origin, false, &document_->sources, problems_);
  }

  const ConfigOverride& override_;
  const ValueSource source_;
  ConfigDocument* const document_;
  Problems* const problems_;
};

void FillMessage(const std::string& path, const std::map<std::string, ValueSource>& written,
                 Message* message) {
  const Reflection* reflection = message->GetReflection();
  const Descriptor* type = message->GetDescriptor();
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    const std::string field_path = JoinPath(path, field->name());
    if (IsMapping(*field) && field->is_repeated() && reflection->FieldSize(*message, field) > 0) {
      for (int k = 0; k < reflection->FieldSize(*message, field); ++k) {
        FillMessage(IndexPath(field_path, k), written,
                    reflection->MutableRepeatedMessage(message, field, k));
      }
      continue;
    }
    if (IsMapping(*field) && !field->is_repeated()) {
      const bool implied = std::find(kImpliedMessages.begin(), kImpliedMessages.end(),
                                     field_path) != kImpliedMessages.end();
      if (implied || reflection->HasField(*message, field)) {
        FillMessage(field_path, written, reflection->MutableMessage(message, field));
      }
      continue;
    }
    const FieldRule* rule = FindFieldRule(absl::StrCat(type->name(), ".", field->name()));
    if (rule == nullptr || rule->default_value.empty() || written.contains(field_path)) continue;
    YamlNode node;
    Problems none;
    if (field->is_repeated()) {
      ParseYaml(rule->default_value, "default", false, &node, &none);
    } else {
      node.kind = YamlNode::Kind::kScalar;
      node.scalar = absl::StrReplaceAll(
          absl::string_view(rule->default_value.data(), rule->default_value.size()),
          {{"<version>", absl::string_view(ProgramVersion().data(), ProgramVersion().size())}});
    }
    ConfigReader("default", false, nullptr, &none).ReadField(node, field_path, message, field);
  }
}

void AddEnvironmentKeys(const std::string& path, const Descriptor& type,
                        std::vector<EnvironmentKey>* keys) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor* field = type.field(i);
    const std::string field_path = JoinPath(path, field->name());
    if (IsMapping(*field) && !field->is_repeated()) {
      AddEnvironmentKeys(field_path, *field->message_type(), keys);
      continue;
    }
    keys->push_back({absl::StrCat("TOKENBROKER_", absl::AsciiStrToUpper(absl::StrReplaceAll(
                                                      field_path, {{".", "_"}}))),
                     field_path});
  }
}

}  // namespace

ValueSource ConfigDocument::SourceOf(std::string_view path) const {
  while (!path.empty()) {
    if (const auto it = sources.find(std::string(path)); it != sources.end()) return it->second;
    const size_t end = path.find_last_of(".[");
    path = path.substr(0, end == std::string_view::npos ? 0 : end);
  }
  return {file, 1};
}

ConfigDocument ReadConfig(const std::string& file, std::string_view text, Problems* problems) {
  ConfigDocument document;
  document.file = file;
  if (text.size() > kMaxConfigBytes) {
    problems->Add({file, 1}, "", absl::StrCat("is larger than ", kMaxConfigBytes, " bytes"));
    return document;
  }
  YamlNode root;
  if (!ParseYaml(text, file, true, &root, problems)) return document;
  if (root.kind == YamlNode::Kind::kNull) {
    problems->Add({file, 1}, "", "is empty");
    return document;
  }
  ConfigReader(file, true, &document.sources, problems).ReadMessage(root, "", &document.config);
  return document;
}

void ApplyOverride(const ConfigOverride& override, ConfigDocument* document, Problems* problems) {
  OverrideWriter(override, document, problems).Write();
}

void FillDefaults(ConfigDocument* document) {
  FillMessage("", document->sources, &document->config);
}

std::vector<EnvironmentKey> EnvironmentKeys() {
  std::vector<EnvironmentKey> keys;
  AddEnvironmentKeys("", *config::v1::Config::descriptor(), &keys);
  return keys;
}

}  // namespace tokenbroker
