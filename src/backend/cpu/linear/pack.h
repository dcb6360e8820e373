// From the file's blocks to packed groups (formats.h) and back to f32. Four codes are handled as one 32-bit word, four words at
// once, and four lanes are stored together, transposed: a load is bound by this.
#pragma once

#include <cstring>

#include "backend/cpu/linear/formats.h"

namespace pagemill::linear_detail {

using Words = uint32_t __attribute__((vector_size(16)));

/// A block of 32 bytes, a byte per element: words 0 … 3 and 4 … 7.
struct TwoWords {
  Words low, high;
};

PM_INLINE static inline Words load_words(const std::byte* from) {
  Words v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
PM_INLINE static inline TwoWords load_block(const std::byte* from) { return {load_words(from), load_words(from + 16)}; }
PM_INLINE static inline uint32_t or_lanes(Words v) { return v[0] | v[1] | v[2] | v[3]; }

/// Bit `from` of each byte of word j → bit j of the same byte of one word.
PM_INLINE static inline uint32_t gather_bits(TwoWords v, int from) {
  constexpr Words kLow = {0, 1, 2, 3}, kHigh = {4, 5, 6, 7};
  return or_lanes((((v.low >> from) & 0x01010101u) << kLow) | (((v.high >> from) & 0x01010101u) << kHigh));
}
/// Bits `from`, from + 1 of each byte of word f → bits 2f, 2f + 1 of the same byte of one word; 4 words.
PM_INLINE static inline uint32_t gather_pairs(Words v, int from) {
  constexpr Words kShift = {0, 2, 4, 6};
  return or_lanes(((v >> from) & 0x03030303u) << kShift);
}
PM_INLINE static inline Words nibbles(Words low, Words high) { return (low & 0x0f0f0f0fu) | ((high & 0x0f0f0f0fu) << 4); }

/// Q5_0 and Q5_1 hold element e's fifth bit in bit e; this gives what gather_bits would.
struct FifthBits {
  uint32_t of_byte[256];
};
constexpr FifthBits fifth_bits_table() {
  FifthBits table{};
  for (uint32_t byte = 0; byte < 256; ++byte)
    for (uint32_t i = 0; i < 4; ++i) table.of_byte[byte] |= ((byte >> i & 1) | (byte >> (4 + i) & 1) << 1) << (8 * i);
  return table;
}
inline constexpr FifthBits kFifthBits = fifth_bits_table();
PM_INLINE static inline uint32_t fifth_bits(uint32_t bits) {
  return kFifthBits.of_byte[bits & 255] | kFifthBits.of_byte[bits >> 8 & 255] << 2 | kFifthBits.of_byte[bits >> 16 & 255] << 4 |
         kFifthBits.of_byte[bits >> 24] << 6;
}

/// The codes of block `sub` (0 for the types of 32) of a file's block as the words of one lane: word v goes to vector v of the packed block.
template <class Fmt>
PM_INLINE inline void block_words(const std::byte* from, int sub, uint32_t bias, uint32_t (&words)[8]) {
  using namespace blocks;
  const auto put = [&](Words v, int at) PM_INLINE { std::memcpy(words + at, &v, sizeof v); };
  constexpr DType type = Fmt::dtype;
  if constexpr (type == DType::q4_0 || type == DType::iq4_nl) put(load_words(from + 2), 0);
  if constexpr (type == DType::q4_1) put(load_words(from + 4), 0);
  if constexpr (type == DType::q5_0 || type == DType::q5_1) {
    constexpr int at = type == DType::q5_0 ? 2 : 4;
    put(load_words(from + at + 4), 0);
    uint32_t bits;
    std::memcpy(&bits, from + at, sizeof bits);
    words[4] = fifth_bits(bits);
  }
  if constexpr (type == DType::q8_0) {
    put(load_words(from + 2) ^ bias, 0);
    put(load_words(from + 18) ^ bias, 4);
  }
  if constexpr (type == DType::q4_k || type == DType::q5_k) {
    const TwoWords codes = load_block(from + (type == DType::q4_k ? Q4K::qs : Q5K::qs) + 32 * (sub / 2));
    const int shift = 4 * (sub % 2);
    put(nibbles(codes.low >> shift, codes.high >> shift), 0);
    if constexpr (type == DType::q5_k) words[4] = gather_bits(load_block(from + Q5K::qh), sub);
  }
  if constexpr (type == DType::q6_k) {
    const TwoWords low = load_block(from + Q6K::ql + 64 * (sub / 4) + 32 * (sub % 2));
    const int shift = 4 * (sub % 4 / 2);
    put(nibbles(low.low >> shift, low.high >> shift), 0);
    const TwoWords high = load_block(from + Q6K::qh + 32 * (sub / 4));
    words[4] = gather_pairs(high.low, 2 * (sub % 4));
    words[5] = gather_pairs(high.high, 2 * (sub % 4));
  }
  if constexpr (type == DType::q2_k || type == DType::q3_k) {
    const TwoWords codes = load_block(from + (type == DType::q2_k ? Q2K::qs : Q3K::qs) + 32 * (sub / 4));
    words[0] = gather_pairs(codes.low, 2 * (sub % 4));
    words[1] = gather_pairs(codes.high, 2 * (sub % 4));
    if constexpr (type == DType::q3_k) words[2] = gather_bits(load_block(from + Q3K::hmask), sub);
  }
}

/// The header's entry of one lane.
template <int R, class Fmt>
inline void pack_entry(const std::byte* from, int lane, std::byte* entry) {
  using namespace blocks;
  const auto half = [&](int to, const std::byte* source) { std::memcpy(entry + to * R + 2 * lane, source, 2); };
  const auto byte = [&](int to, int value) { entry[to * R + lane] = static_cast<std::byte>(value); };
  constexpr DType type = Fmt::dtype;
  if constexpr (!Fmt::super) {
    half(0, from);
    if constexpr (Fmt::scales == Scales::dm32) half(2, from + 2);
  }
  if constexpr (type == DType::q4_k || type == DType::q5_k) {
    half(0, from + Q4K::d);
    half(2, from + Q4K::dmin);
    for (int j = 0; j < 8; ++j) {
      const ScaleMin packed = packed_scale_min(from + Q4K::scales, j);
      byte(4 + 2 * j, packed.scale);
      byte(5 + 2 * j, packed.min);
    }
  }
  if constexpr (type == DType::q6_k) {
    half(0, from + Q6K::d);
    for (int k = 0; k < 16; ++k) byte(2 + k, u8(from + Q6K::scales + k));
  }
  if constexpr (type == DType::q3_k) {
    half(0, from + Q3K::d);
    const std::byte* packed = from + Q3K::scales;
    for (int k = 0; k < 16; ++k) {
      const int low = k < 8 ? u8(packed + k) & 15 : u8(packed + k - 8) >> 4;
      byte(2 + k, (low | ((u8(packed + 8 + k % 4) >> (2 * (k / 4))) & 3) << 4) - 32);
    }
  }
  if constexpr (type == DType::q2_k) {
    half(0, from + Q2K::d);
    half(2, from + Q2K::dmin);
    for (int k = 0; k < 16; ++k) byte(4 + k, u8(from + Q2K::scales + k));
  }
}

/// Word v of four lanes' blocks → bytes 16 … of vector v, for all v of a block. `to` is the first lane's place in vector 0.
template <int kLanes, int kVectors>
PM_INLINE inline void store_four_lanes(const uint32_t (&words)[4][8], std::byte* to) {
  const auto store = [&](Words v, int vector) PM_INLINE { std::memcpy(to + vector * 4 * kLanes, &v, sizeof v); };
  constexpr int kSquares = kVectors / 4;
  for (int square = 0; square < kSquares; ++square) {
    Words v[4];
    for (int lane = 0; lane < 4; ++lane) std::memcpy(&v[lane], words[lane] + 4 * square, sizeof v[lane]);
    const Words low01 = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5), low23 = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5);
    const Words high01 = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7), high23 = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
    store(__builtin_shufflevector(low01, low23, 0, 1, 4, 5), 4 * square);
    store(__builtin_shufflevector(low01, low23, 2, 3, 6, 7), 4 * square + 1);
    store(__builtin_shufflevector(high01, high23, 0, 1, 4, 5), 4 * square + 2);
    store(__builtin_shufflevector(high01, high23, 2, 3, 6, 7), 4 * square + 3);
  }
  for (int v = 4 * kSquares; v < kVectors; ++v) store(Words{words[0][v], words[1][v], words[2][v], words[3][v]}, v);
}

/// Lanes first … first + 3 of a block of the file; a row that is not there leaves its place as it is.
template <class V, class Fmt>
PM_INLINE inline void pack_four_lanes(const std::byte* const (&from)[4], int first, int subs, uint32_t bias, std::byte* entry, std::byte* q) {
  for (int i = 0; i < 4; ++i)
    if (from[i] != nullptr) pack_entry<V::kLanes, Fmt>(from[i], first + i, entry);
  const bool all = from[0] && from[1] && from[2] && from[3];
  for (int sub = 0; sub < subs; ++sub) {
    uint32_t words[4][8];
    std::byte* to = q + static_cast<size_t>(sub) * Layout<V, Fmt>::kBlockBytes + 4 * first;
    for (int i = 0; i < 4; ++i)
      if (all || from[i] != nullptr) block_words<Fmt>(from[i], sub, bias, words[i]);
    if (all) {
      store_four_lanes<V::kLanes, Fmt::vectors>(words, to);
      continue;
    }
    for (int i = 0; i < 4; ++i)
      for (int v = 0; from[i] != nullptr && v < Fmt::vectors; ++v) std::memcpy(to + v * 4 * V::kLanes + 4 * i, words[i] + v, 4);
  }
}

template <class V, class Fmt>
void pack(const std::byte* const* rows, int64_t in, std::byte* group) {
  using L = Layout<V, Fmt>;
  constexpr int kSubs = Fmt::super ? 8 : 1;
  const DTypeTraits& type = traits(Fmt::dtype);
  const auto bias = static_cast<uint32_t>(signed_bias<V>()) * 0x01010101u;
  std::byte* q = group + L::header_bytes(in);
  for (int64_t block = 0; block < in / (32 * kSubs); ++block, q += kSubs * L::kBlockBytes) {
    std::byte* entry = group + static_cast<size_t>(block) * L::kEntryBytes;
    const auto block_of = [&](int lane) { return rows[lane] == nullptr ? nullptr : rows[lane] + block * type.block_bytes; };
    for (int lane = 0; lane < V::kLanes; lane += 4)
      pack_four_lanes<V, Fmt>({block_of(lane), block_of(lane + 1), block_of(lane + 2), block_of(lane + 3)}, lane, kSubs, bias, entry, q);
  }
}

/// Code of element e of a lane; signed types without their bias.
template <class V, class Fmt>
int code_of(const std::byte* q, int lane, int e) {
  const int quad = e / 4;
  const auto byte = [&](int vector) { return std::to_integer<int>(q[vector * 4 * V::kLanes + 4 * lane + e % 4]); };
  const auto pair = [&](int vector) { return byte(vector + quad / 4) >> (2 * (quad % 4)) & 3; };
  if constexpr (Fmt::bits == Bits::s8) return static_cast<int8_t>(byte(quad) ^ signed_bias<V>());
  if constexpr (Fmt::bits == Bits::u2) return pair(0);
  if constexpr (Fmt::bits == Bits::u3) return pair(0) | (byte(2) >> quad & 1) << 2;
  const int nibble = byte(quad % 4) >> (quad < 4 ? 0 : 4) & 15;
  if constexpr (Fmt::bits == Bits::iq4) return blocks::kIq4NlValues[static_cast<size_t>(nibble)];
  if constexpr (Fmt::bits == Bits::u5) return nibble | (byte(4) >> quad & 1) << 4;
  if constexpr (Fmt::bits == Bits::u6) return nibble | pair(4) << 4;
  return nibble;
}

template <class V, class Fmt>
void dequantize(const std::byte* group, int lane, int64_t in, float* row) {
  using namespace blocks;
  using L = Layout<V, Fmt>;
  constexpr int R = V::kLanes;
  const std::byte* q = group + L::header_bytes(in);
  for (int64_t block = 0; block < in / 32; ++block, q += L::kBlockBytes, row += 32) {
    const std::byte* entry = group + static_cast<size_t>(Fmt::super ? block / 8 : block) * L::kEntryBytes;
    const int sub = static_cast<int>(block % 8);
    const auto half = [&](int at) { return f16(entry + at * R + 2 * lane); };
    const auto byte = [&](int at) { return entry + at * R + lane; };
    const float d = half(0);
    for (int h = 0; h < 2; ++h) {
      float scale = d, add = 0;
      if constexpr (Fmt::scales == Scales::dm32) add = half(2);
      if constexpr (Fmt::scales == Scales::k32) {
        scale = d * static_cast<float>(u8(byte(4 + 2 * sub)));
        add = -(half(2) * static_cast<float>(u8(byte(5 + 2 * sub))));
      }
      if constexpr (Fmt::scales == Scales::k16) scale = d * static_cast<float>(i8(byte(2 + 2 * sub + h)));
      if constexpr (Fmt::scales == Scales::k16m) {
        const int packed = u8(byte(4 + 2 * sub + h));
        scale = d * static_cast<float>(packed & 15);
        add = -(half(2) * static_cast<float>(packed >> 4));
      }
      for (int e = 16 * h; e < 16 * (h + 1); ++e) {
        const float value = scale * static_cast<float>(code_of<V, Fmt>(q, lane, e) - Fmt::zero);
        constexpr bool kAdds = Fmt::scales != Scales::d32 && Fmt::scales != Scales::k16;
        row[e] = kAdds ? value + add : value;
      }
    }
  }
}

}  // namespace pagemill::linear_detail
