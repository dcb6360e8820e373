#include "chat/zip_reader.h"

#include <zlib.h>

#include <algorithm>

namespace pagemill::chat {
namespace {

constexpr size_t kEndBytes = 22, kCentralBytes = 46, kLocalBytes = 30, kCommentMax = 65'535;
constexpr uint64_t kFreeBytes = 1 << 20;
constexpr uint16_t kStored = 0, kDeflated = 8, kEncryptedFlag = 1;

tl::unexpected<Problem> damaged() { return refuse(400, "damaged", "This document is damaged: it could not be read."); }
tl::unexpected<Problem> bomb() { return refuse(400, "bomb", "This document unpacks to far more than it should: it is not read."); }

/// Little-endian; `at` has been checked.
uint64_t number(std::string_view bytes, uint64_t at, size_t size) {
  uint64_t value = 0;
  for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

}  // namespace

Outcome<ZipReader> ZipReader::open(std::string_view bytes, const ZipLimits& limits) {
  ZipReader reader;
  reader.bytes_ = bytes;
  reader.limits_ = limits;
  PM_TRY(reader.read_directory());
  return reader;
}

Outcome<void> ZipReader::read_directory() {
  if (bytes_.size() < kEndBytes) return damaged();
  const size_t from = bytes_.size() > kEndBytes + kCommentMax ? bytes_.size() - kEndBytes - kCommentMax : 0;
  const size_t found = bytes_.substr(from).rfind("PK\x05\x06");
  if (found == std::string_view::npos || from + found + kEndBytes > bytes_.size()) return damaged();
  const uint64_t end = from + found, count = number(bytes_, end + 10, 2), start = number(bytes_, end + 16, 4);
  if (count > limits_.entries_max) return bomb();
  uint64_t at = start, packed_total = 0;
  for (uint64_t i = 0; i < count; ++i) {
    if (at > end || end - at < kCentralBytes || bytes_.substr(at, 4) != "PK\x01\x02") return damaged();
    const uint64_t flags = number(bytes_, at + 8, 2), name_bytes = number(bytes_, at + 28, 2), extra = number(bytes_, at + 30, 2), comment = number(bytes_, at + 32, 2);
    Entry entry{number(bytes_, at + 42, 4), number(bytes_, at + 20, 4), static_cast<uint16_t>(number(bytes_, at + 10, 2))};
    if (end - at < kCentralBytes + name_bytes + extra + comment) return damaged();
    if (flags & kEncryptedFlag) return refuse(400, "encrypted", "This document is protected by a password: save it without one.");
    std::string name(bytes_.substr(at + kCentralBytes, name_bytes));
    packed_total += entry.packed;
    if (packed_total > bytes_.size()) return bomb();  // entries that overlap add up to more than the file
    if (!entries_.emplace(std::move(name), entry).second) return damaged();
    at += kCentralBytes + name_bytes + extra + comment;
  }
  return {};
}

Outcome<std::string> ZipReader::read(const std::string& name) {
  const auto found = entries_.find(name);
  if (found == entries_.end()) return std::string();
  const Entry& entry = found->second;
  if (entry.offset > bytes_.size() || bytes_.size() - entry.offset < kLocalBytes || bytes_.substr(entry.offset, 4) != "PK\x03\x04") return damaged();
  const uint64_t data = entry.offset + kLocalBytes + number(bytes_, entry.offset + 26, 2) + number(bytes_, entry.offset + 28, 2);
  if (data > bytes_.size() || bytes_.size() - data < entry.packed) return damaged();
  const std::string_view packed = bytes_.substr(data, entry.packed);
  const uint64_t most = std::min({limits_.part_bytes_max, std::max(entry.packed * limits_.ratio_max, kFreeBytes), limits_.total_bytes_max - total_});
  if (entry.method == kStored) {
    if (packed.size() > most) return bomb();
    total_ += packed.size();
    return std::string(packed);
  }
  if (entry.method != kDeflated) return damaged();
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) return refuse(400, "too_large", "This document needs too much memory.");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  std::string out;
  char buffer[65'536];
  int code = Z_OK;
  while (code == Z_OK && out.size() <= most) {
    stream.next_out = reinterpret_cast<Bytef*>(buffer);
    stream.avail_out = sizeof buffer;
    code = inflate(&stream, Z_NO_FLUSH);
    out.append(buffer, sizeof buffer - stream.avail_out);
  }
  inflateEnd(&stream);
  if (out.size() > most) return bomb();
  if (code != Z_STREAM_END) return damaged();
  total_ += out.size();
  return out;
}

}  // namespace pagemill::chat
