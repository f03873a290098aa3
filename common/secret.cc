#include "common/secret.h"

#include <utility>

namespace tokenbroker {

Secret::Secret(Secret&& other) noexcept : value_(std::move(other.value_)) { other.Wipe(); }

Secret& Secret::operator=(const Secret& other) {
  if (this != &other) {
    Wipe();
    value_ = other.value_;
  }
  return *this;
}

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this != &other) {
    Wipe();
    value_ = std::move(other.value_);
    other.Wipe();
  }
  return *this;
}

Secret::~Secret() { Wipe(); }

void Secret::Wipe() {
  // Through a volatile pointer, or the optimiser drops stores to memory that is about to go.
  value_.resize(value_.capacity());
  volatile char* bytes = value_.data();
  for (size_t i = 0; i < value_.size(); ++i) bytes[i] = 0;
  value_.clear();
}

bool operator==(const Secret& a, const Secret& b) {
  if (a.value_.size() != b.value_.size()) return false;
  unsigned char difference = 0;
  for (size_t i = 0; i < a.value_.size(); ++i) {
    difference |= static_cast<unsigned char>(a.value_[i] ^ b.value_[i]);
  }
  return difference == 0;
}

}  // namespace tokenbroker
