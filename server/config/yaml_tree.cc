#include "server/config/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <exception>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/utf8.h"

namespace tokenbroker {
namespace {

// Builds YamlNodes from the parser's events.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(std::string source, bool with_lines, Problems* problems)
      : source_(std::move(source)), with_lines_(with_lines), problems_(problems) {}

  YamlNode TakeRoot() { return std::move(root_); }

  void Refuse(int line, std::string_view text) {
    problems_->Add({source_, with_lines_ ? line : 0}, "", text);
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    ++documents_;
    if (documents_ == 2) Refuse(mark.line + 1, "there is more than one YAML document");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    CheckAnchor(mark, anchor);
    Place(Make(YamlNode::Kind::kNull, mark));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Refuse(mark.line + 1, "aliases (*name) are not supported; write the value out");
    Place(Make(YamlNode::Kind::kRefused, mark));
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    CheckAnchor(mark, anchor);
    // The parser's own marks: "?" for plain scalars, "!" for quoted and block scalars.
    if (!tag.empty() && tag != "?" && tag != "!") RefuseTag(mark);
    YamlNode node = Make(YamlNode::Kind::kScalar, mark);
    node.scalar = value;
    node.quoted = tag == "!";
    Place(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(YamlNode::Kind::kSequence, mark, tag, anchor);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(YamlNode::Kind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { Close(); }

 private:
  static YamlNode Make(YamlNode::Kind kind, const YAML::Mark& mark) {
    YamlNode node;
    node.kind = kind;
    node.line = mark.line + 1;
    return node;
  }

  void RefuseTag(const YAML::Mark& mark) {
    Refuse(mark.line + 1, "tags (!name) are not supported");
  }
  void CheckAnchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) {
      Refuse(mark.line + 1, "anchors (&name) are not supported; write the value out");
    }
  }

  void Open(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
            YAML::anchor_t anchor) {
    CheckAnchor(mark, anchor);
    if (!tag.empty() && tag != "?" && tag != "!") RefuseTag(mark);
    open_.push_back(Make(kind, mark));
  }
  void Close() {
    YamlNode node = std::move(open_.back());
    open_.pop_back();
    if (node.kind == YamlNode::Kind::kMap) {
      std::vector<YamlNode> values;
      for (size_t i = 0; i + 1 < node.items.size(); i += 2) {
        YamlNode& key = node.items[i];
        if (key.kind != YamlNode::Kind::kScalar) {
          Refuse(key.line, "a key must be a name");
          continue;
        }
        YamlNode& value = node.items[i + 1];
        // The parser places nothing at the next thing that it finds.
        if (value.kind == YamlNode::Kind::kNull) value.line = key.line;
        node.keys.push_back(std::move(key));
        values.push_back(std::move(value));
      }
      node.items = std::move(values);
    }
    Place(std::move(node));
  }
  void Place(YamlNode node) {
    if (!open_.empty()) {
      // Of a map: keys and values in turn, paired when it closes.
      open_.back().items.push_back(std::move(node));
    } else if (documents_ <= 1) {
      root_ = std::move(node);
    }
  }

  const std::string source_;
  const bool with_lines_;
  Problems* const problems_;
  int documents_ = 0;
  YamlNode root_;
  std::vector<YamlNode> open_;
};

// The line of the first byte that is not UTF-8, or 0.
int FirstBadLine(std::string_view text) {
  int line = 1;
  while (!text.empty()) {
    const auto first = static_cast<unsigned char>(text.front());
    if (first == '\n') ++line;
    // C0 control characters other than tab, line feed and carriage return are no YAML either.
    if (first < 0x20 && first != '\t' && first != '\n' && first != '\r') return line;
    const size_t length = Utf8CharacterLength(text);
    if (length == 0) return line;
    text.remove_prefix(length);
  }
  return 0;
}

}  // namespace

bool ParseYaml(std::string_view text, const std::string& source, bool with_lines, YamlNode* root,
               Problems* problems) {
  TreeBuilder builder(source, with_lines, problems);
  if (const int line = FirstBadLine(text); line > 0) {
    builder.Refuse(line, "is not UTF-8 text");
    return false;
  }
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& e) {
    builder.Refuse(e.mark.is_null() ? 1 : e.mark.line + 1, absl::StrCat("is not YAML: ", e.msg));
    return false;
  } catch (const std::exception& e) {
    builder.Refuse(1, absl::StrCat("cannot be parsed as YAML: ", e.what()));
    return false;
  }
  *root = builder.TakeRoot();
  return true;
}

}  // namespace tokenbroker
