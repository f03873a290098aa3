#include "storage/redis/hash_slot.h"

#include <array>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"

namespace tokenbroker::redis {
namespace {

// CRC-16/XMODEM: polynomial 0x1021, initial value 0, nothing reflected.
constexpr std::array<uint16_t, 256> kCrcTable = [] {
  std::array<uint16_t, 256> table = {};
  for (int byte = 0; byte < 256; ++byte) {
    uint32_t crc = static_cast<uint32_t>(byte) << 8;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc & 0x8000) != 0 ? (crc << 1) ^ 0x1021 : crc << 1;
    }
    table[byte] = static_cast<uint16_t>(crc);
  }
  return table;
}();

uint16_t Crc16(std::string_view bytes) {
  uint16_t crc = 0;
  for (char c : bytes) {
    crc = static_cast<uint16_t>((crc << 8) ^ kCrcTable[(crc >> 8) ^ static_cast<uint8_t>(c)]);
  }
  return crc;
}

}  // namespace

uint16_t HashSlot(std::string_view key) {
  if (const size_t open = key.find('{'); open != key.npos) {
    const size_t close = key.find('}', open + 1);
    if (close != key.npos && close > open + 1) key = key.substr(open + 1, close - open - 1);
  }
  return Crc16(key) % kSlotCount;
}

std::string TagOfSlot(uint16_t slot) {
  // The smallest number for each slot. Every slot has one below 250,000.
  static const std::vector<uint32_t>* const kNumbers = [] {
    auto* numbers = new std::vector<uint32_t>(kSlotCount);
    int missing = kSlotCount;
    for (uint32_t number = 1; missing > 0; ++number) {
      uint32_t& known = (*numbers)[Crc16(absl::StrCat(number)) % kSlotCount];
      if (known != 0) continue;
      known = number;
      --missing;
    }
    return numbers;
  }();
  return absl::StrCat((*kNumbers)[slot % kSlotCount]);
}

}  // namespace tokenbroker::redis
