#include "chat/time_zone.h"

#include <algorithm>
#include <fstream>
#include <iterator>

namespace pagemill::chat {
namespace {

int64_t big_endian(const std::string& bytes, size_t at, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return size == 4 ? static_cast<int32_t>(value) : static_cast<int64_t>(value);
}

}  // namespace

std::optional<int64_t> zone_offset_s(const std::string& name, int64_t unix_s) {
  if (name == "UTC") return 0;
  const bool plain = !name.empty() && name.size() <= 64 && name.front() != '/' && name.find("..") == std::string::npos && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '/' || c == '_' || c == '-' || c == '+';
  });
  if (!plain) return std::nullopt;
  std::ifstream file("/usr/share/zoneinfo/" + name, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  if (bytes.size() < 44 || !bytes.starts_with("TZif")) return std::nullopt;
  // Six counts stand behind the magic: isutcnt, isstdcnt, leapcnt, timecnt, typecnt, charcnt. Version 2 repeats all with 64-bit times.
  size_t header = 0, time_size = 4;
  const auto number = [&](size_t index) { return static_cast<size_t>(std::max<int64_t>(0, big_endian(bytes, header + 20 + 4 * index, 4))); };
  if (bytes[4] >= '2') {
    header = 44 + number(3) * 5 + number(4) * 6 + number(5) + number(2) * 8 + number(1) + number(0);
    time_size = 8;
  }
  if (bytes.size() < header + 44) return std::nullopt;
  const size_t times = number(3), types = number(4), first = header + 44;
  if (types == 0 || bytes.size() < first + times * (time_size + 1) + types * 6) return std::nullopt;
  size_t type = 0;
  for (size_t i = 0; i < times && big_endian(bytes, first + i * time_size, time_size) <= unix_s; ++i) type = static_cast<unsigned char>(bytes[first + times * time_size + i]);
  if (type >= types) return std::nullopt;
  return big_endian(bytes, first + times * (time_size + 1) + type * 6, 4);
}

}  // namespace pagemill::chat
