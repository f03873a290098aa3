#include "clients/zoho/reply_fields.h"

#include <cstddef>
#include <string>
#include <utility>

#include "nlohmann/json.hpp"

namespace tokenbroker {
namespace {

// Honest replies have no inner objects at all.
constexpr int kMaxDepth = 32;

// Reads the top-level members as they pass by. There is no document in memory, so no second copy of
// the tokens, and nothing that a deeply nested reply could exhaust.
class TopLevelReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit TopLevelReader(ReplyFields& fields) : fields_(fields) {}

  bool ambiguous() const { return ambiguous_; }
  bool object() const { return object_; }

  bool null() override {
    if (depth_ == 1) field_ = nullptr;
    return true;
  }
  bool boolean(bool) override { return Other(); }
  bool number_integer(number_integer_t value) override {
    return Number(static_cast<double>(value));
  }
  bool number_unsigned(number_unsigned_t value) override {
    return Number(static_cast<double>(value));
  }
  bool number_float(number_float_t value, const string_t&) override { return Number(value); }
  bool string(string_t& value) override {
    if (ReplyField* field = TakeField()) {
      field->type = ReplyField::Type::kString;
      field->text = Secret(std::move(value));
    }
    return true;
  }
  bool binary(binary_t&) override { return false; }  // does not happen in text
  bool start_object(std::size_t) override {
    if (depth_ == 0) object_ = true;
    return Enter();
  }
  bool end_object() override { return Leave(); }
  bool start_array(std::size_t) override { return Enter(); }
  bool end_array() override { return Leave(); }
  bool key(string_t& name) override {
    if (depth_ == 1) field_ = Claim(name);
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override {
    return false;
  }

 private:
  using Field = ReplyField ReplyFields::*;
  struct Known {
    std::string_view name;
    Field field;
  };
  static constexpr Known kKnown[] = {
      {"access_token", &ReplyFields::access_token},
      {"refresh_token", &ReplyFields::refresh_token},
      {"expires_in", &ReplyFields::expires_in},
      {"expires_in_sec", &ReplyFields::expires_in_sec},
      {"api_domain", &ReplyFields::api_domain},
      {"scope", &ReplyFields::scope},
      {"error", &ReplyFields::error},
      {"status", &ReplyFields::status},
  };

  ReplyField* Claim(std::string_view name) {
    for (size_t i = 0; i < std::size(kKnown); ++i) {
      if (kKnown[i].name != name) continue;
      ambiguous_ = ambiguous_ || claimed_[i];
      claimed_[i] = true;
      return &(fields_.*kKnown[i].field);
    }
    return nullptr;
  }

  // The member whose value begins now; nullptr: not one of ours.
  ReplyField* TakeField() {
    if (depth_ != 1) return nullptr;
    return std::exchange(field_, nullptr);
  }
  bool Other() {
    if (ReplyField* field = TakeField()) field->type = ReplyField::Type::kOther;
    return true;
  }
  bool Number(double value) {
    if (ReplyField* field = TakeField()) {
      field->type = ReplyField::Type::kNumber;
      field->number = value;
    }
    return true;
  }
  bool Enter() {
    Other();
    return ++depth_ <= kMaxDepth;
  }
  bool Leave() {
    --depth_;
    return true;
  }

  ReplyFields& fields_;
  ReplyField* field_ = nullptr;
  bool claimed_[std::size(kKnown)] = {};
  bool ambiguous_ = false;
  bool object_ = false;
  int depth_ = 0;
};

}  // namespace

ReplyFields ParseReplyFields(std::string_view body) {
  ReplyFields fields;
  const size_t start = body.find_first_not_of(" \t\r\n");
  if (start == std::string_view::npos) return fields;
  if (body[start] == '<') {
    fields.shape = ReplyFields::Shape::kHtml;
    return fields;
  }
  TopLevelReader reader(fields);
  // The library takes a NUL for the end of the text and would not look at what follows.
  const bool json = body.find('\0') == std::string_view::npos &&
                    nlohmann::json::sax_parse(body.begin(), body.end(), &reader);
  if (json && reader.object() && !reader.ambiguous()) {
    fields.shape = ReplyFields::Shape::kObject;
    return fields;
  }
  ReplyFields nothing;
  nothing.shape = !json             ? ReplyFields::Shape::kNotJson
                  : reader.object() ? ReplyFields::Shape::kAmbiguous
                                    : ReplyFields::Shape::kNotObject;
  return nothing;
}

}  // namespace tokenbroker
