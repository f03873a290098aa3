#include "tests/simulation/trace.h"

#include <cinttypes>
#include <cstdio>

namespace tokenbroker::simulation {

void Trace::Add(std::string_view what, int who, int64_t a, int64_t b, int64_t c) {
  const Line line{scheduler_->now(), what, who, a, b, c};
  lines_[count_++ % lines_.size()] = line;
  // FNV-1a.
  const auto mix = [this](uint64_t value) { hash_ = (hash_ ^ value) * 1099511628211u; };
  for (const char ch : what) mix(static_cast<unsigned char>(ch));
  mix(static_cast<uint64_t>(line.at));
  mix(static_cast<uint64_t>(who));
  mix(static_cast<uint64_t>(a));
  mix(static_cast<uint64_t>(b));
  mix(static_cast<uint64_t>(c));
  hash_ ^= hash_ >> 29;
  if (print_) std::printf("%s\n", Text(line).c_str());
}

std::vector<std::string> Trace::Tail() const {
  std::vector<std::string> tail;
  const uint64_t begin = count_ > lines_.size() ? count_ - lines_.size() : 0;
  for (uint64_t i = begin; i < count_; ++i) tail.push_back(Text(lines_[i % lines_.size()]));
  return tail;
}

std::string Trace::Text(const Line& line) {
  char text[200];
  std::snprintf(text, sizeof(text), "%12.6f  %s%-3d %-26.*s %6" PRId64 " %6" PRId64 " %6" PRId64,
                static_cast<double>(line.at) / 1e9, line.who < 0 ? " " : "p", line.who,
                static_cast<int>(line.what.size()), line.what.data(), line.a, line.b, line.c);
  return text;
}

}  // namespace tokenbroker::simulation
