// Every weight type on every ISA of this CPU, and on the plain instances shaped like the others, against sums in double precision.
#include "backend/cpu/linear/linear.h"

#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "backend/cpu/reference_weight.h"
#include "base/dequantize.h"
#include "base/quant_blocks.h"
#include "base/rng.h"

namespace pagemill {
namespace {

constexpr DType kTypes[] = {DType::f32,  DType::f16,  DType::bf16, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,
                            DType::q8_0, DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl};

using Floats = std::vector<float>;
using Bytes = std::vector<std::byte>;

/// Where rows' forms lie.
template <class T>
struct LineAllocator {
  using value_type = T;
  LineAllocator() = default;
  template <class U>
  explicit LineAllocator(const LineAllocator<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{64})); }
  void deallocate(T* at, size_t) { ::operator delete(at, std::align_val_t{64}); }
  bool operator==(const LineAllocator&) const { return true; }
};
using Lines = std::vector<std::byte, LineAllocator<std::byte>>;

struct Field {
  int at;
  float smallest, largest;
};
/// The f16 fields of a block: random bits there would be infinities.
std::vector<Field> scale_fields(DType type) {
  switch (type) {
    case DType::q4_1:
    case DType::q5_1: return {{0, 0.001f, 0.01f}, {2, -0.1f, 0.1f}};
    case DType::q2_k: return {{80, 0.001f, 0.01f}, {82, 0.001f, 0.01f}};
    case DType::q3_k: return {{108, -0.01f, 0.01f}};
    case DType::q4_k:
    case DType::q5_k: return {{0, 0.0001f, 0.001f}, {2, 0.0001f, 0.001f}};
    case DType::q6_k: return {{208, -0.001f, 0.001f}};
    default: return {{0, -0.01f, 0.01f}};
  }
}

/// A matrix [out, in] as a file holds it, every bit random but for the scales' size.
Bytes random_matrix(DType type, int64_t out, int64_t in, uint64_t seed) {
  SplitMix64 random(seed);
  Bytes bytes(static_cast<size_t>(row_bytes(type, in) * out));
  const DTypeTraits& t = traits(type);
  if (!t.quantized) {
    for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(t.block_bytes)) {
      const auto value = static_cast<float>(random.normal() * 0.05);
      const uint16_t bits = type == DType::f16 ? f32_to_f16(value) : f32_to_bf16(value);
      std::memcpy(bytes.data() + at, type == DType::f32 ? static_cast<const void*>(&value) : &bits, static_cast<size_t>(t.block_bytes));
    }
    return bytes;
  }
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(t.block_bytes))
    for (const Field& field : scale_fields(type))
      blocks::put_f16(bytes.data() + at + field.at, field.smallest + static_cast<float>(random.uniform()) * (field.largest - field.smallest));
  return bytes;
}

Floats random_rows(int64_t rows, int64_t cols, uint64_t seed) {
  SplitMix64 random(seed);
  Floats values(static_cast<size_t>(rows * cols));
  for (float& value : values) value = static_cast<float>(random.normal());
  return values;
}

Floats dequantized(DType type, const Bytes& bytes, int64_t out, int64_t in) {
  Floats values(static_cast<size_t>(out * in));
  const auto row = static_cast<size_t>(row_bytes(type, in));
  for (int64_t n = 0; n < out; ++n)
    dequantize_row(type, {bytes.data() + static_cast<size_t>(n) * row, row}, {values.data() + n * in, static_cast<size_t>(in)});
  return values;
}

/// Whether weights of a type are multiplied with rows of bf16, however many there are.
bool rounds(const LinearKernels& kernels, DType type) {
  const FloatKernels& floats = kernels.floats[static_cast<int>(type)];
  return floats.multiply_rounded != nullptr && floats.unpack_bf16 == nullptr;
}
bool has_tiles(const LinearKernels& kernels) { return kernels.quantized[static_cast<int>(DType::q8_0)].unpack_bf16 != nullptr; }

/// f32 rows, their int8 form and, where the kernels have a use for it, the bf16 one, with their memory.
struct Input {
  Input(const Floats& values, int64_t rows, int64_t cols, const LinearKernels& kernels) : floats(values) {
    x.floats = floats.data();
    x.floats_stride = cols;
    x.rows = rows;
    if (const FloatKernels& bf16 = kernels.floats[static_cast<int>(DType::bf16)]; bf16.round != nullptr) {
      rounded_memory.assign(RoundedRows::bytes(rows, cols), std::byte{0xff});  // what is not written is not a number
      x.rounded = RoundedRows(rounded_memory.data(), rows, cols);
      for (int64_t row = 0; row < rows; row += 16)
        for (int64_t tile = 0; tile < RoundedRows::col_tiles(cols); ++tile)
          bf16.round(floats.data() + row * cols + tile * 32, cols, std::min<int64_t>(16, rows - row), std::min<int64_t>(16, rows),
                     std::min<int64_t>(32, cols - tile * 32), x.rounded.tile(row / 16, tile), x.rounded.stride(row / 16), false);
    }
    if (cols % 32 != 0) return;
    memory.resize(QuantizedRows::bytes(rows, cols));
    x.quantized = QuantizedRows(memory.data(), rows, cols);
    for (int64_t row = 0; row < rows; ++row)
      quantize_row(kernels, floats.data() + row * cols, x.quantized, row, 0, cols / 32);
  }
  Floats floats;
  Lines memory, rounded_memory;
  LinearInput x;
};

std::vector<const LinearKernels*> tables() {
  std::vector<const LinearKernels*> list;
  for (const Isa isa : available_isas()) list.push_back(&linear_kernels(isa));
  for (const int lanes : {8, 16})
    for (const bool vnni : {false, true}) list.push_back(&plain_linear_kernels(lanes, vnni));
  for (const bool deterministic : {false, true}) list.push_back(&plain_tile_linear_kernels(deterministic));
  if (isa_available(Isa::amx)) list.push_back(&linear_kernels(Isa::amx, true));
  return list;
}
std::string name_of(const LinearKernels& kernels) {
  return fmt::format("{} {} lanes{}", to_string(kernels.isa), kernels.lanes, has_tiles(kernels) ? (kernels.bf16_panels ? " tiles" : " tiles, deterministic") : kernels.vnni ? " vnni" : "");
}

class Linear : public testing::Test {
 protected:
  std::unique_ptr<PackedWeight> pack(DType type, const Bytes& bytes, int64_t out, int64_t in, const LinearKernels& kernels,
                                     int64_t unpermute = 0) {
    return std::move(PackedWeight::make({"w", type, out, in, bytes, unpermute}, kernels, pool_, arena_).value());
  }
  Floats multiply(const Input& input, const PackedWeight& weight, const float* bias = nullptr) {
    Floats out(static_cast<size_t>(input.x.rows * weight.out), NAN);
    const LinearPart part{&weight, bias, out.data(), weight.out};
    linear(pool_, scratch_, input.x, {&part, 1});
    return out;
  }

  ComputePool pool_{3};
  LinearScratch scratch_{3};
  WeightArena arena_;
};

/// What an output is made of, and how large its terms are.
struct Expected {
  double value = 0;      // with x and the weight rounded as they are for the product
  double unrounded = 0;  // with the f32 rows and the weight as it is
  double terms = 0;      // Σ |x| · the weight's largest magnitude
  double rounding = 0;   // how far value may be from unrounded: half a step of x for every weight
};
enum class Form { quantized, rounded, unpacked, exact };  // int8 rows; bf16 rows; those and the weight as bf16 too; f32 rows
Form form_of(const PackedWeight& weight, int64_t rows) {
  if (weight.wants_quantized(rows)) return Form::quantized;
  return !weight.wants_rounded(rows) ? Form::exact : weight.is_quantized() ? Form::unpacked : Form::rounded;
}
double to_bf16(double value) { return double{bf16_to_f32(f32_to_bf16(static_cast<float>(value)))}; }

Expected expect(const Input& input, int64_t row, const float* w, int64_t in, Form form) {
  Expected e;
  double largest = 0;
  for (int64_t k = 0; k < in; ++k) largest = std::max(largest, std::fabs(double{w[k]}));
  for (int64_t k = 0; k < in; ++k) {
    const double exact = input.floats[static_cast<size_t>(row * in + k)];
    const QuantBlock* block = form == Form::quantized ? input.x.quantized.block(row, k / 32) : nullptr;
    const bool rounded = form == Form::rounded || form == Form::unpacked;
    const double x = block != nullptr ? double{block->scale} * block->q[k % 32] : rounded ? to_bf16(exact) : exact;
    e.value += x * (form == Form::unpacked ? to_bf16(w[k]) : double{w[k]});
    e.unrounded += exact * w[k];
    e.terms += std::fabs(x) * largest;
    if (block != nullptr) e.rounding += 0.5000001 * block->scale * std::fabs(double{w[k]});
    if (rounded) e.rounding += (form == Form::unpacked ? 2.01 : 1) * 0x1p-8 * std::fabs(exact * w[k]);  // half of the last of 8 bits, at most
  }
  return e;
}

TEST_F(Linear, ProofOfWhichBodyRuns) {
  for (const Isa isa : available_isas()) {
    const LinearKernels& kernels = linear_kernels(isa);
    EXPECT_EQ(kernels.isa, isa);
    EXPECT_EQ(kernels.bf16_panels, isa == Isa::amx);
    EXPECT_EQ(rounds(kernels, DType::bf16), isa == Isa::amx || isa == Isa::avx512_vnni);
    EXPECT_FALSE(linear_kernels(isa, true).bf16_panels);
    EXPECT_EQ(std::string(kernels.compiled_for), isa == Isa::plain ? "baseline" : to_string(isa));
    const Bytes bytes = random_matrix(DType::q4_k, 32, 256, 1);
    EXPECT_EQ(PackedWeight::make({"w", DType::q4_k, 32, 256, bytes}, isa, pool_, arena_).value()->isa(), isa);
  }
}

TEST_F(Linear, PackingLosesNoBit) {
  for (const LinearKernels* kernels : tables()) {
    for (const DType type : kTypes) {
      const int64_t out = 45, in = 768;
      const Bytes bytes = random_matrix(type, out, in, 7);
      const auto weight = pack(type, bytes, out, in, *kernels);
      EXPECT_EQ(weight->device_bytes, PackedWeight::bytes(*kernels, type, out, in));
      const Floats expected = dequantized(type, bytes, out, in);
      Floats row(static_cast<size_t>(in));
      for (int64_t n = 0; n < out; ++n) {
        weight->dequantize(n, row.data());
        ASSERT_EQ(std::memcmp(row.data(), expected.data() + n * in, row.size() * sizeof(float)), 0)
            << name_of(*kernels) << ' ' << to_string(type) << " row " << n;
      }
    }
  }
}

/// Numbers of bf16 as f16: normal and denormal ones, zeros of both signs, the largest that both have.
Bytes bf16_numbers_as_f16(int64_t count) {
  Bytes bytes(static_cast<size_t>(count * 2));
  SplitMix64 random(5);
  constexpr uint16_t kEnds[] = {0x0001, 0x80ff, 0x0000, 0x8000, 0x7bf8, 0x7c00};
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t bits = i < 6 ? kEnds[i] : f32_to_f16(bf16_to_f32(f32_to_bf16(static_cast<float>(random.normal() * (i % 7 == 0 ? 1e-5 : 0.02)))));
    std::memcpy(bytes.data() + 2 * i, &bits, 2);
  }
  return bytes;
}

TEST_F(Linear, F16OfNumbersThatBf16HasIsPackedAsBf16) {
  const int64_t out = 45, in = 768;
  const Bytes numbers = bf16_numbers_as_f16(out * in);
  const Floats w = dequantized(DType::f16, numbers, out, in);
  for (const LinearKernels* kernels : tables()) {
    const auto as_bf16 = [&] {
      Bytes bytes(numbers.size());
      for (size_t i = 0; i < w.size(); ++i) {
        const uint16_t bits = f32_to_bf16(w[i]);
        std::memcpy(bytes.data() + 2 * i, &bits, 2);
      }
      return pack(DType::bf16, bytes, out, in, *kernels);
    }();
    // Read from a file, and as it lies in memory.
    for (const bool readable : {true, false}) {
      const auto read = [&](const std::byte* from, std::span<std::byte> to) { return readable && std::copy_n(from, to.size(), to.data()) != nullptr; };
      const auto weight = PackedWeight::make({"w", DType::f16, out, in, numbers, 0, read}, *kernels, pool_, arena_).value();
      EXPECT_EQ(weight->packed_dtype(), rounds(*kernels, DType::bf16) ? DType::bf16 : DType::f16) << name_of(*kernels);
      EXPECT_EQ(weight->source_dtype, DType::f16);
      Floats row(static_cast<size_t>(in));
      for (int64_t n = 0; n < out; ++n) {
        weight->dequantize(n, row.data());
        ASSERT_EQ(std::memcmp(row.data(), w.data() + n * in, row.size() * sizeof(float)), 0) << name_of(*kernels) << " row " << n;
      }
      if (weight->packed_dtype() == DType::f16) continue;
      const Input input(random_rows(9, in, 11), 9, in, *kernels);
      EXPECT_EQ(std::memcmp(multiply(input, *weight).data(), multiply(input, *as_bf16).data(), 9 * out * sizeof(float)), 0) << name_of(*kernels);
    }
    // One number that bf16 lacks, wherever it is, and the weight stays as it is; with a length that bf16 pads, always.
    for (const auto& [at, columns] : {std::pair{int64_t{7}, in}, {out * in - 1, in}, {int64_t{-1}, int64_t{75}}}) {
      Bytes bytes(numbers.begin(), numbers.begin() + out * columns * 2);
      constexpr uint16_t kLacked = 0x3c01;
      if (at >= 0) std::memcpy(bytes.data() + 2 * at, &kLacked, 2);
      const auto weight = pack(DType::f16, bytes, out, columns, *kernels), fresh = pack(DType::f16, bytes, out, columns, plain_linear_kernels(8, false));
      EXPECT_EQ(weight->packed_dtype(), DType::f16) << name_of(*kernels);
      for (int64_t group = 0; group < weight->groups(); ++group)  // lanes past the end included
        ASSERT_EQ(std::memcmp(weight->group(group), fresh->group(group), static_cast<size_t>(columns) * kFloatLanes * 2), 0) << name_of(*kernels) << " group " << group;
    }
  }
}

TEST_F(Linear, PackingReadsTheFileWhereItCan) {
  const int64_t in = 768, out = 640;  // several tasks, and heads of 96 rows, which no vector's lanes divide evenly into tasks
  for (const int64_t head_dim : {0, 64, 96, 160}) {
    const int64_t rows = head_dim == 96 ? 576 : out;
    const Bytes bytes = random_matrix(DType::q8_0, rows, in, 7), nothing(bytes.size());
    const Floats expected = dequantized(DType::q8_0, bytes, rows, in);
    for (const bool readable : {true, false}) {
      // What is read lies elsewhere than what is mapped: only the right one of them holds the weight.
      const std::span<const std::byte> mapped = readable ? nothing : bytes;
      const auto read = [&](const std::byte* from, std::span<std::byte> to) {
        const auto at = static_cast<size_t>(from - mapped.data());
        EXPECT_LE(at + to.size(), mapped.size());
        std::copy_n((readable ? bytes : nothing).data() + at, to.size(), to.data());
        return readable;
      };
      const auto weight = PackedWeight::make({"w", DType::q8_0, rows, in, mapped, head_dim, read}, plain_linear_kernels(8, false), pool_, arena_).value();
      Floats row(static_cast<size_t>(in));
      for (int64_t n = 0; n < rows; ++n) {
        weight->dequantize(n, row.data());
        const int64_t in_file = head_dim == 0 ? n : interleaved_row(n, head_dim);
        ASSERT_EQ(std::memcmp(row.data(), expected.data() + in_file * in, row.size() * sizeof(float)), 0) << head_dim << (readable ? " read" : " mapped") << " row " << n;
      }
    }
  }
}

TEST_F(Linear, PackingGrowsNoMatrixByMoreThanItsScales) {
  for (const LinearKernels* kernels : tables()) {
    for (const DType type : kTypes) {
      const int64_t out = 4096, in = 3584;
      const auto file = static_cast<double>(row_bytes(type, in) * out);
      const double limit = type == DType::q3_k ? 1.04 : type == DType::q4_k || type == DType::q5_k ? 1.03 : 1.003;
      EXPECT_LE(static_cast<double>(PackedWeight::bytes(*kernels, type, out, in)) / file, limit) << name_of(*kernels) << ' ' << to_string(type);
    }
  }
}

TEST_F(Linear, EveryTypeAgainstDoublePrecision) {
  for (const LinearKernels* kernels : tables()) {
    for (const DType type : kTypes) {
      const bool super = traits(type).block_elems == 256;
      for (const auto& [out, in] : {std::pair<int64_t, int64_t>{7, super ? 256 : 32}, {45, super ? 768 : 544}, {64, 512}, {33, traits(type).quantized ? 0 : 75}}) {
        if (in == 0) continue;  // an end within a block is for 16 and 32 bits alone
        const Bytes bytes = random_matrix(type, out, in, 3);
        const auto weight = pack(type, bytes, out, in, *kernels);
        const Floats w = dequantized(type, bytes, out, in), bias = random_rows(1, out, 5);
        for (const int64_t rows : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{4}, int64_t{5}, int64_t{6}, int64_t{7}, int64_t{8}, int64_t{9}, int64_t{30}, kBf16PanelRows + 2}) {
          if (rows > kBf16PanelRows && !kernels->bf16_panels) continue;
          // Below such a panel's rows tables with tiles have the vector kernels of another table here.
          if (has_tiles(*kernels) && weight->has_bf16_panels() && rows > 1 && !weight->wants_rounded(rows)) continue;
          const Input input(random_rows(rows, in, 11), rows, in, *kernels);
          const Floats got = multiply(input, *weight, bias.data());
          for (int64_t row = 0; row < rows; ++row) {
            for (int64_t n = 0; n < out; ++n) {
              const Expected e = expect(input, row, w.data() + n * in, in, form_of(*weight, rows));
              const double value = double{got[static_cast<size_t>(row * out + n)]} - bias[static_cast<size_t>(n)];
              ASSERT_NEAR(value, e.value, 4e-6 * e.terms + 1e-6) << name_of(*kernels) << ' ' << to_string(type) << " [" << row << ", " << n << "] of [" << rows << ", " << out << "], in " << in;
              ASSERT_NEAR(value, e.unrounded, e.rounding + 4e-6 * e.terms + 1e-6) << name_of(*kernels) << ' ' << to_string(type);
            }
          }
        }
      }
    }
  }
}

TEST_F(Linear, ExtremeValuesSaturateNowhere) {
  // Scales of 1 and x of whole numbers: every product is a whole number, so a single saturated sum shows.
  for (const LinearKernels* kernels : tables()) {
    for (const DType type : kTypes) {
      if (!traits(type).quantized) continue;
      const int64_t out = 32, in = 256;
      for (const int pattern : {0x00, 0xff, 0x80, 0x7f, 0x0f, 0xf0, 0x55, 0xaa}) {
        Bytes bytes(static_cast<size_t>(row_bytes(type, in) * out), static_cast<std::byte>(pattern));
        for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(traits(type).block_bytes))
          for (const Field& field : scale_fields(type)) blocks::put_f16(bytes.data() + at + field.at, 1);
        const auto weight = pack(type, bytes, out, in, *kernels);
        const Floats w = dequantized(type, bytes, out, in);
        for (const int64_t rows : {1, 8, 32}) {
          Floats values(static_cast<size_t>(rows * in));
          for (int64_t row = 0; row < rows; ++row)
            for (int64_t k = 0; k < in; ++k) {
              const int sign = row % 4 == 0 ? 1 : row % 4 == 1 ? -1 : row % 4 == 2 ? (k % 2 == 0 ? 1 : -1) : (k / 4 % 2 == 0 ? 1 : -1);
              values[static_cast<size_t>(row * in + k)] = static_cast<float>(127 * sign);
            }
          const Input input(values, rows, in, *kernels);
          const Floats got = multiply(input, *weight);
          for (int64_t row = 0; row < rows; ++row)
            for (int64_t n = 0; n < out; ++n) {
              const Expected e = expect(input, row, w.data() + n * in, in, form_of(*weight, rows));
              // Exact below 2^24, where whole numbers are; beyond (scales of the K types) to f32's rounding of a few sums.
              ASSERT_NEAR(got[static_cast<size_t>(row * out + n)], e.value, e.terms < 1 << 23 ? 0 : 1e-6 * e.terms)
                  << name_of(*kernels) << ' ' << to_string(type) << " pattern " << pattern << " row " << row << " of " << rows;
            }
        }
      }
    }
  }
}

TEST_F(Linear, ARowsValueDoesNotDependOnItsCompany) {
  constexpr int64_t kMost = 513;
  for (const LinearKernels* kernels : tables()) {
    const bool plain = kernels->isa == Isa::plain;
    for (const DType type : kTypes) {
      const bool super = traits(type).block_elems == 256;
      const int64_t out = 41, in = super ? 768 : 544;
      const Bytes bytes = random_matrix(type, out, in, 23);
      const auto weight = pack(type, bytes, out, in, *kernels);
      const int64_t most = plain ? 65 : kMost;  // the plain ones are the slow ones, and every path is taken by then
      const Floats all = random_rows(most, in, 29);
      Floats alone;
      for (int64_t row = 0; row < most; ++row) {
        const Floats one = multiply(Input(Floats(all.begin() + row * in, all.begin() + (row + 1) * in), 1, in, *kernels), *weight);
        alone.insert(alone.end(), one.begin(), one.end());
      }
      std::vector<int64_t> counts = {31, 32, 33, 63, 64, 65, 511, 512, 513};
      for (int64_t rows = 2; rows <= 17; ++rows) counts.push_back(rows);
      const Floats most_together = multiply(Input(all, most, in, *kernels), *weight);
      for (const int64_t rows : counts) {
        if (rows > most) continue;
        // Where panels are bf16 there are two values of a row: one for each number of rows below such a panel's, one for each from there on.
        const bool panel = weight->has_bf16_panels() && weight->wants_rounded(rows);
        const Floats together = multiply(Input(Floats(all.begin(), all.begin() + rows * in), rows, in, *kernels), *weight);
        ASSERT_EQ(std::memcmp(together.data(), (panel ? most_together : alone).data(), together.size() * sizeof(float)), 0)
            << name_of(*kernels) << ' ' << to_string(type) << ' ' << rows << " rows";
      }
    }
  }
}

TEST_F(Linear, LongRowsInPiecesEqualOneRow) {
  // 136 blocks are two pieces; three units, so that what is asked for next is in another one too.
  const int64_t out = 80, in = 4352;
  for (const LinearKernels* kernels : tables()) {
    if (!kernels->pairs_of_tiles) continue;
    for (const DType type : kTypes) {
      if (!traits(type).quantized) continue;
      const auto weight = pack(type, random_matrix(type, out, in, 31), out, in, *kernels);
      const Floats all = random_rows(23, in, 37);
      const Floats together = multiply(Input(all, 23, in, *kernels), *weight), sixteen = multiply(Input(Floats(all.begin(), all.begin() + 16 * in), 16, in, *kernels), *weight);
      ASSERT_EQ(std::memcmp(together.data(), sixteen.data(), sixteen.size() * sizeof(float)), 0) << name_of(*kernels) << ' ' << to_string(type);
      for (const int64_t row : {0, 7, 8, 22}) {
        const Floats alone = multiply(Input(Floats(all.begin() + row * in, all.begin() + (row + 1) * in), 1, in, *kernels), *weight);
        ASSERT_EQ(std::memcmp(alone.data(), together.data() + row * out, alone.size() * sizeof(float)), 0) << name_of(*kernels) << ' ' << to_string(type) << " row " << row;
      }
    }
  }
}

/// The kernels over tiles, plain and (where this CPU has AMX) the CPU's own, and the vector kernels of their shape.
struct TileTables {
  const LinearKernels *tiles, *deterministic, *vectors;
};
std::vector<TileTables> tile_tables() {
  std::vector<TileTables> list = {{&plain_tile_linear_kernels(), &plain_tile_linear_kernels(true), &plain_linear_kernels(16, true)}};
  if (isa_available(Isa::amx)) list.push_back({&linear_kernels(Isa::amx), &linear_kernels(Isa::amx, true), &linear_kernels(Isa::avx512_vnni)});
  return list;
}

TEST_F(Linear, UnpackingToBf16RoundsWhatTheFileSays) {
  for (const TileTables& tables : tile_tables()) {
    for (const DType type : kTypes) {
      if (!traits(type).quantized) continue;
      const int64_t in = 768, out = 13, begin = 5, count = 7, lanes = tables.tiles->lanes;  // lanes past the end are zero
      const Bytes bytes = random_matrix(type, out, in, 41);
      const auto weight = pack(type, bytes, out, in, *tables.tiles);
      const Floats w = dequantized(type, bytes, out, in);
      // [pair][lane][2], with room for another group's lanes behind each pair's, which are not touched.
      std::vector<uint16_t> got(static_cast<size_t>(count * kRoundedStepBytes / 2), 0x7fff);
      tables.tiles->quantized[static_cast<int>(type)].unpack_bf16(weight->group(0), in, begin, count, reinterpret_cast<std::byte*>(got.data()));
      for (int64_t k = 0; k < 32 * count; ++k) {
        for (int64_t lane = 0; lane < kFloatLanes; ++lane) {
          const uint16_t bits = got[static_cast<size_t>(k / 2 * 2 * kFloatLanes + lane * 2 + k % 2)];
          if (lane >= lanes) {
            ASSERT_EQ(bits, 0x7fff) << to_string(type);
          } else {
            const double expected = lane < out ? to_bf16(w[static_cast<size_t>(lane * in + 32 * begin + k)]) : 0;
            ASSERT_EQ(double{bf16_to_f32(bits)}, expected) << name_of(*tables.tiles) << ' ' << to_string(type) << " lane " << lane << " element " << k;
          }
        }
      }
    }
  }
}

TEST_F(Linear, UnpackingF16LosesNothing) {
  for (const TileTables& tables : tile_tables()) {
    const int64_t in = 83, out = 13, begin = 1, count = 2;  // the last step has 19 elements
    Bytes bytes = random_matrix(DType::f16, out, in, 41);
    for (const auto& [element, bits] : {std::pair{40, 0x0001}, {41, 0x83ff}, {42, 0x7bff}, {43, 0x8000}}) std::memcpy(bytes.data() + 2 * element, &bits, 2);  // denormal, the largest
    const auto weight = pack(DType::f16, bytes, out, in, *tables.tiles);
    const Floats w = dequantized(DType::f16, bytes, out, in);
    std::vector<uint16_t> got(static_cast<size_t>(count * kBf16Parts * kRoundedStepBytes / 2), 0x7fff);
    tables.tiles->floats[static_cast<int>(DType::f16)].unpack_bf16(weight->group(0), in, begin, count, reinterpret_cast<std::byte*>(got.data()));
    for (int64_t k = 0; k < 32 * count; ++k) {
      for (int64_t lane = 0; lane < kFloatLanes; ++lane) {
        const int64_t at = k / 32 * kBf16Parts * kRoundedStepBytes / 2 + k % 32 / 2 * 2 * kFloatLanes + lane * 2 + k % 2;
        const float high = bf16_to_f32(got[static_cast<size_t>(at)]), low = bf16_to_f32(got[static_cast<size_t>(at + kRoundedStepBytes / 2)]);
        const float expected = lane < out && 32 * begin + k < in ? w[static_cast<size_t>(lane * in + 32 * begin + k)] : 0;
        ASSERT_EQ(high + low, expected) << name_of(*tables.tiles) << " lane " << lane << " element " << k;
        ASSERT_LE(std::fabs(low), 0x1p-7f * std::fabs(expected)) << "what 8 bits leave";
      }
    }
  }
}

TEST_F(Linear, PanelsByTilesAgreeWithVectorsWithinTheirRounding) {
  for (const TileTables& tables : tile_tables()) {
    for (const DType type : kTypes) {
      const bool super = traits(type).block_elems == 256, bf16 = type == DType::bf16;
      if (type == DType::f32) continue;
      const int64_t out = 41, in = super || type == DType::f16 ? 1024 : 1056;  // two whole pieces along k, or three, the last one shorter
      const Bytes bytes = random_matrix(type, out, in, 31);
      const auto by_tiles = pack(type, bytes, out, in, *tables.tiles), invariant = pack(type, bytes, out, in, *tables.deterministic);
      const Floats w = dequantized(type, bytes, out, in);
      for (const int64_t rows : {kBf16PanelRowsOfF16 - 1, kBf16PanelRowsOfF16, int64_t{37}, kBf16PanelRows - 1, kBf16PanelRows, int64_t{64}, int64_t{type == DType::q4_0 ? 600 : 57}}) {
        if (rows < kBf16PanelRows - 1 && type != DType::f16) continue;
        const Input input(random_rows(rows, in, 37), rows, in, *tables.tiles);
        const Floats got = multiply(input, *by_tiles), expected = multiply(input, *invariant);
        EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0, bf16 || !by_tiles->wants_rounded(rows)) << to_string(type) << ' ' << rows << " rows";
        if (bf16 || rows > 64) continue;
        for (int64_t row = 0; row < rows; ++row) {
          for (int64_t n = 0; n < out; ++n) {
            const auto at = static_cast<size_t>(row * out + n);
            const Expected by_vectors = expect(input, row, w.data() + n * in, in, form_of(*invariant, rows)), by_bf16 = expect(input, row, w.data() + n * in, in, form_of(*by_tiles, rows));
            ASSERT_NEAR(got[at], expected[at], by_vectors.rounding + by_bf16.rounding + 8e-6 * by_bf16.terms) << name_of(*tables.tiles) << ' ' << to_string(type);
          }
        }
      }
    }
  }
}

TEST_F(Linear, DeterministicTilesGiveWhatVectorsGiveToTheBit) {
  for (const auto& [by_default, tiles, vectors] : tile_tables()) {
    for (const DType type : kTypes) {
      if (rounds(*tiles, type)) continue;
      const bool super = traits(type).block_elems == 256;
      // Blocks of an odd and an even number, more than a panel holds; outputs that end in one group of a unit, and past it.
      for (const auto& [out, in] : {std::pair<int64_t, int64_t>{41, super ? 768 : 544}, {80, super ? 256 : 32}, {64, 1024}}) {
        const Bytes bytes = random_matrix(type, out, in, 31);
        const auto by_tiles = pack(type, bytes, out, in, *tiles), by_vectors = pack(type, bytes, out, in, *vectors);
        for (const int64_t rows : {1, 23, 24, 25, 31, 32, 39, 64, 290}) {
          if (rows > 64 && out != 41) continue;
          const Floats x = random_rows(rows, in, 37);
          const Floats got = multiply(Input(x, rows, in, *tiles), *by_tiles), expected = multiply(Input(x, rows, in, *vectors), *by_vectors);
          ASSERT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)), 0)
              << name_of(*tiles) << ' ' << to_string(type) << ' ' << rows << " rows of " << in << ", out " << out;
        }
      }
    }
  }
}

TEST_F(Linear, RowsRoundedAsAPhaseEqualThoseOfOneTask) {
  for (const TileTables& tables : tile_tables()) {
    const LinearKernels* const kernels = tables.tiles;
    for (const int64_t in : {32, 40, 4104}) {
      for (const int64_t rows : {1, 3, 16, 37}) {
        const Input expected(random_rows(rows, in, 2), rows, in, *kernels);
        Lines memory(expected.rounded_memory.size(), std::byte{0xff});
        round_rows(pool_, *kernels, expected.floats.data(), in, RoundedRows(memory.data(), rows, in));
        EXPECT_EQ(memory, expected.rounded_memory) << rows << " rows of " << in;
      }
    }
  }
}

TEST_F(Linear, RowsRoundedInPartsEqualThoseOfAPhase) {
  SplitMix64 random(9);
  for (const TileTables& tables : tile_tables()) {
    const LinearKernels& kernels = *tables.tiles;
    for (const int64_t in : {32, 40, 544, 4104}) {
      for (const int64_t rows : {1, 3, 16, 37, 50}) {
        const Input expected(random_rows(rows, in, 2), rows, in, kernels);
        Lines memory(expected.rounded_memory.size(), std::byte{0xff});
        const RoundedRows to(memory.data(), rows, in);
        for (int64_t row = 0, count; row < rows; row += count) {
          count = std::min(rows - row, 1 + static_cast<int64_t>(random.below(20)));
          for (int64_t col = 0, width; col < in; col += width) {
            width = std::min(in - col, 32 * (1 + static_cast<int64_t>(random.below(40))));
            round_part(pool_, kernels, expected.floats.data() + row * in + col, in, count, width, to, row, col);
          }
        }
        EXPECT_EQ(memory, expected.rounded_memory) << rows << " rows of " << in;
      }
    }
  }
}

TEST_F(Linear, ManyUnitsInATaskEqualOneAlone) {
  // One thread takes four units of 36 (two of the gated product) at once, three take each alone; both in several pieces along k.
  const int64_t out = 1130, in = 1088, rows = 37;
  ComputePool one(1);
  for (const LinearKernels* kernels : {&plain_tile_linear_kernels(), &linear_kernels(best_isa())}) {
    const Input input(random_rows(rows, in, 1), rows, in, *kernels);
    for (const auto& [gate_type, up_type] : {std::pair{DType::q8_0, DType::q8_0}, {DType::bf16, DType::bf16}, {DType::q5_0, DType::bf16}}) {
      const auto gate = pack(gate_type, random_matrix(gate_type, out, in, 2), out, in, *kernels), up = pack(up_type, random_matrix(up_type, out, in, 3), out, in, *kernels);
      Floats got(static_cast<size_t>(rows * out)), gated[2] = {got, got};
      const LinearPart part{gate.get(), nullptr, got.data(), out};
      linear(one, scratch_, input.x, {&part, 1});
      EXPECT_EQ(got, multiply(input, *gate)) << name_of(*kernels) << ' ' << to_string(gate_type);
      linear_gated(one, scratch_, input.x, *gate, *up, {gated[0].data(), out, {}});
      linear_gated(pool_, scratch_, input.x, *gate, *up, {gated[1].data(), out, {}});
      EXPECT_EQ(gated[0], gated[1]) << name_of(*kernels) << ' ' << to_string(gate_type) << ", " << to_string(up_type);
      Floats values = got, other = multiply(input, *up);
      kernels->silu_mul(values.data(), other.data(), rows * out / 32 * 32);
      EXPECT_EQ(std::memcmp(values.data(), gated[0].data(), static_cast<size_t>(rows * out / 32 * 32) * sizeof(float)), 0) << name_of(*kernels);
    }
  }
}

// e^−x to some 2e-7; where it would pass all bounds, it must stay a number that can be divided by.
TEST_F(Linear, GateIsSiluOverItsWholeRange) {
  constexpr int64_t kN = 200 * 64 + 32;  // the last 32 by themselves where eight vectors are done at once
  Floats gate(kN), up(kN, 1.0f);
  for (int64_t i = 0; i < kN; ++i) gate[static_cast<size_t>(i)] = static_cast<float>(i - kN / 2) / 64;
  for (const Isa isa : available_isas()) {
    Floats out = gate;
    linear_kernels(isa).silu_mul(out.data(), up.data(), kN);
    for (size_t i = 0; i < gate.size(); ++i) {
      const double x = gate[i], expected = x / (1 + std::exp(-x));
      const double bound = x < -87 ? 1e-35 : std::abs(expected) * (1e-6 + 1.5e-7 * std::abs(x)) + 1e-35;
      ASSERT_NEAR(out[i], expected, bound) << to_string(isa) << ", " << x;
    }
  }
}

// Whole units of many rows go past the caches where their lines are whole ones, the rest is written as usual.
TEST_F(Linear, OutputsDoNotDependOnWhereTheyLie) {
  const int64_t out = 80, in = 96, most = 70;
  const LinearKernels& kernels = linear_kernels(best_isa());
  const auto weight = pack(DType::q8_0, random_matrix(DType::q8_0, out, in, 2), out, in, kernels);
  const Floats x = random_rows(most, in, 3), bias = random_rows(1, out, 4);
  for (const int64_t rows : {int64_t{1}, int64_t{15}, int64_t{16}, most}) {
    const Input input(Floats(x.begin(), x.begin() + rows * in), rows, in, kernels);
    const Floats expected = multiply(input, *weight, bias.data());
    for (const int64_t stride : {out, int64_t{96}, int64_t{97}}) {
      for (const int64_t offset : {0, 1, 4, 16}) {
        Floats memory(static_cast<size_t>(rows * stride + 64), -1.0f);
        float* to = memory.data();
        while (reinterpret_cast<uintptr_t>(to) % 64 != 0) ++to;
        to += offset;
        const LinearPart part{weight.get(), bias.data(), to, stride};
        linear(pool_, scratch_, input.x, {&part, 1});
        Floats got(expected.size());
        for (int64_t row = 0; row < rows; ++row) {
          std::copy_n(to + row * stride, out, got.begin() + row * out);
          std::fill_n(to + row * stride, out, -1.0f);
        }
        ASSERT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)), 0) << rows << " rows, " << stride << " apart, " << offset << " off a line";
        EXPECT_EQ(std::count(memory.begin(), memory.end(), -1.0f), static_cast<ptrdiff_t>(memory.size())) << "written beside the outputs";
      }
    }
  }
}

TEST_F(Linear, SeveralPartsInOnePhaseEqualEachAlone) {
  for (const LinearKernels* kernels : tables()) {
    const int64_t in = 256, rows = 5;
    const Input input(random_rows(rows, in, 1), rows, in, *kernels);
    const DType types[] = {DType::q5_0, DType::q8_0, DType::f16, DType::bf16};
    const int64_t outs[] = {72, 33, 8, 40};
    std::vector<std::unique_ptr<PackedWeight>> weights;
    std::vector<Floats> got, expected;
    std::vector<LinearPart> parts;
    for (size_t i = 0; i < std::size(types); ++i) {
      weights.push_back(pack(types[i], random_matrix(types[i], outs[i], in, i), outs[i], in, *kernels));
      expected.push_back(multiply(input, *weights[i]));
      got.push_back(Floats(expected[i].size(), 1));
    }
    for (size_t i = 0; i < std::size(types); ++i) parts.push_back({weights[i].get(), nullptr, got[i].data(), outs[i]});
    linear(pool_, scratch_, input.x, parts);
    for (size_t i = 0; i < std::size(types); ++i) EXPECT_EQ(got[i], expected[i]) << name_of(*kernels) << " part " << i;
  }
}

TEST_F(Linear, FewRowsInLongTasksEqualSixteenRows) {
  for (const LinearKernels* kernels : tables()) {
    // Tasks of several units, some with a piece of two parts, and an odd number of groups at an end.
    const int64_t in = 64, outs[] = {1449, 840, 1449};
    const DType types[] = {DType::q5_0, DType::q4_1, DType::f16};
    const Floats x = random_rows(16, in, 1);
    std::vector<std::unique_ptr<PackedWeight>> weights;
    std::vector<Floats> expected;
    for (size_t i = 0; i < std::size(types); ++i) {
      weights.push_back(pack(types[i], random_matrix(types[i], outs[i], in, i), outs[i], in, *kernels));
      expected.push_back(multiply(Input(x, 16, in, *kernels), *weights[i]));
    }
    for (int64_t rows = 1; rows < 16; ++rows) {
      const Input input(Floats(x.begin(), x.begin() + rows * in), rows, in, *kernels);
      std::vector<Floats> got;
      std::vector<LinearPart> parts;
      for (const int64_t out : outs) got.emplace_back(static_cast<size_t>(rows * out));
      for (size_t i = 0; i < std::size(types); ++i) parts.push_back({weights[i].get(), nullptr, got[i].data(), outs[i]});
      linear(pool_, scratch_, input.x, parts);
      for (size_t i = 0; i < std::size(types); ++i)
        ASSERT_EQ(std::memcmp(got[i].data(), expected[i].data(), got[i].size() * sizeof(float)), 0) << name_of(*kernels) << ' ' << rows << " rows, part " << i;
    }
  }
}

TEST_F(Linear, TwoGroupsInAPassEqualEachAlone) {
  for (const LinearKernels* kernels : tables()) {
    for (const DType type : kTypes) {
      const QuantizedKernels& products = kernels->quantized[static_cast<int>(type)];
      if (products.direct == nullptr) continue;
      const int64_t in = 512, lanes = kernels->lanes;
      const auto weight = pack(type, random_matrix(type, 2 * lanes, in, 41), 2 * lanes, in, *kernels);
      for (int64_t rows = 1; rows <= QuantizedRows::kTile; ++rows) {
        const Input input(random_rows(rows, in, 43), rows, in, *kernels);
        Floats together(static_cast<size_t>(2 * rows * lanes)), alone(together.size());
        const std::byte* const groups[] = {weight->group(0), weight->group(1)};
        float *const sums[] = {together.data(), together.data() + rows * lanes}, *const expected[] = {alone.data(), alone.data() + rows * lanes};
        const auto product = [&](auto kernel, int first, float* const* to) {
          kernel(groups + first, in, DirectBlocks{0, in / 32}, input.x.quantized.block(0, 0), input.x.quantized.stride(0), static_cast<int>(rows), to, lanes);
        };
        product(products.direct, 0, expected);
        product(products.direct, 1, expected + 1);
        product(products.direct_pair, 0, sums);
        EXPECT_EQ(std::memcmp(together.data(), alone.data(), alone.size() * sizeof(float)), 0) << name_of(*kernels) << ' ' << to_string(type) << ' ' << rows << " rows";
      }
    }
  }
}

TEST_F(Linear, StreamsOf16BitGroupsEqualEachAlone) {
  for (const LinearKernels* kernels : tables()) {
    for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
      const FloatKernels& products = kernels->floats[static_cast<int>(type)];
      const int64_t in = 75;
      const auto weight = pack(type, random_matrix(type, 4 * kFloatLanes, in, 41), 4 * kFloatLanes, in, *kernels);
      for (const auto& [streams, product] : {std::pair{1, products.one_stream}, {2, products.two_streams}, {4, products.four_streams}}) {
        if (product == nullptr) continue;
        for (int rows = 1; rows * streams <= products.cells; ++rows) {
          const Input input(random_rows(rows, in, 43), rows, in, *kernels);
          Floats got(static_cast<size_t>(streams * rows * kFloatLanes)), expected(got.size(), 0.0f);
          const std::byte* groups[4];
          float* sums[4];
          for (int g = 0; g < streams; ++g) {
            groups[g] = weight->group(g);
            sums[g] = got.data() + g * rows * kFloatLanes;
            products.multiply(groups[g], 0, in, input.x.floats, in, rows, expected.data() + g * rows * kFloatLanes);
          }
          product(groups, in, input.x.floats, in, rows, sums);
          EXPECT_EQ(got, expected) << name_of(*kernels) << ' ' << to_string(type) << ' ' << streams << " streams, " << rows << " rows";
        }
      }
    }
  }
}

TEST_F(Linear, GatedProductEqualsItsParts) {
  for (const LinearKernels* kernels : tables()) {
    // One row and three of one type: gate and up are multiplied side by side.
    for (const auto& [rows, up_type, ffn] : {std::tuple<int64_t, DType, int64_t>{1, DType::q5_0, 96}, {9, DType::q5_0, 96}, {33, DType::q5_0, 96}, {1, DType::q4_k, 1440}, {3, DType::q4_k, 96},
                                             {3, DType::q4_k, 72}, {530, DType::q4_k, 40}, {1, DType::f16, 96}, {3, DType::f16, 72}, {2, DType::f32, 1440}, {60, DType::f16, 72}}) {
      const DType gate_type = traits(up_type).quantized ? DType::q4_k : up_type;
      const int64_t in = 256;
      const Input input(random_rows(rows, in, 1), rows, in, *kernels);
      const auto gate = pack(gate_type, random_matrix(gate_type, ffn, in, 2), ffn, in, *kernels);
      const auto up = pack(up_type, random_matrix(up_type, ffn, in, 3), ffn, in, *kernels);
      const Floats g = multiply(input, *gate), u = multiply(input, *up);
      Floats got(g.size());
      Lines memory(ffn % 32 == 0 ? QuantizedRows::bytes(rows, ffn) : 0), rounded_memory(rounds(*kernels, DType::bf16) ? RoundedRows::bytes(rows, ffn) : 0, std::byte{0xff});
      GatedOut out{.floats = got.data(), .floats_stride = ffn, .quantized = {}, .rounded = {}};
      if (!memory.empty()) out.quantized = QuantizedRows(memory.data(), rows, ffn);
      if (!rounded_memory.empty()) out.rounded = RoundedRows(rounded_memory.data(), rows, ffn);
      linear_gated(pool_, scratch_, input.x, *gate, *up, out);
      for (size_t i = 0; i < g.size(); ++i) {
        const double expected = double{g[i]} / (1 + std::exp(-double{g[i]})) * u[i];
        ASSERT_NEAR(got[i], expected, 1e-6 * std::fabs(expected) + 1e-30) << name_of(*kernels);
      }
      const Input again(got, rows, ffn, *kernels);
      EXPECT_EQ(memory, again.memory) << name_of(*kernels);
      EXPECT_EQ(rounded_memory, again.rounded_memory) << name_of(*kernels) << ' ' << rows << " rows of " << ffn;
    }
  }
}

TEST_F(Linear, RowsComeInRotaryOrder) {
  const int64_t out = 64, in = 64, head_dim = 16;
  for (const DType type : {DType::q8_0, DType::f16, DType::bf16}) {
    const Bytes bytes = random_matrix(type, out, in, 2);
    const Floats w = dequantized(type, bytes, out, in);
    const auto weight = pack(type, bytes, out, in, linear_kernels(best_isa()), head_dim);
    Floats row(static_cast<size_t>(in));
    for (int64_t n = 0; n < out; ++n) {
      const int64_t head = n / head_dim, within = n % head_dim, from = head * head_dim + 2 * (within % 8) + within / 8;
      weight->dequantize(n, row.data());
      EXPECT_EQ(row, Floats(w.begin() + from * in, w.begin() + (from + 1) * in)) << n;
    }
  }
}

TEST_F(Linear, VectorsAndMatricesOfOneRow) {
  const Floats values = random_rows(1, 40, 1);
  const auto weight = std::move(PackedWeight::make({"w", DType::f32, 1, 40, std::as_bytes(std::span(values))}, best_isa(), pool_, arena_).value());
  ASSERT_NE(weight->vector(), nullptr);
  EXPECT_EQ(Floats(weight->vector(), weight->vector() + 40), values);
  const Input input(random_rows(3, 40, 2), 3, 40, linear_kernels(best_isa()));
  const Floats got = multiply(input, *weight);
  for (int64_t row = 0; row < 3; ++row) EXPECT_NEAR(got[static_cast<size_t>(row)], expect(input, row, values.data(), 40, Form::exact).value, 1e-5);
}

TEST(QuantizeRows, RoundsToNearestAndSumsHalves) {
  SplitMix64 random(3);
  for (const Isa isa : available_isas()) {
    for (const double scale : {1e-40, 1e-20, 1.0, 1e30}) {
      Floats x(96);
      for (float& value : x) value = static_cast<float>(random.normal() * scale);
      std::fill(x.begin() + 32, x.begin() + 64, 0.0f);
      QuantBlock blocks[3];
      linear_kernels(isa).quantize(x.data(), 3, blocks, 1, 8);
      for (int b = 0; b < 3; ++b) {
        int sums[2] = {};
        for (int i = 0; i < 32; ++i) {
          EXPECT_GE(blocks[b].q[i], -127);
          EXPECT_NEAR(double{blocks[b].scale} * blocks[b].q[i], x[static_cast<size_t>(32 * b + i)], 0.50001 * blocks[b].scale + 1e-36);
          sums[i / 16] += blocks[b].q[i];
        }
        EXPECT_EQ(blocks[b].half_sum[0], sums[0]);
        EXPECT_EQ(blocks[b].half_sum[1], sums[1]);
        EXPECT_EQ(blocks[b].scaled_sum, blocks[b].scale * static_cast<float>(sums[0] + sums[1]));
        const bool whole_sums = linear_kernels(isa).vnni && linear_kernels(isa).lanes == 16;
        EXPECT_EQ(blocks[b].first_half, (whole_sums ? kWholeBits : 0) - 128 * sums[0]);
        EXPECT_EQ(blocks[b].first_sum, (whole_sums ? kWholeBits : 0) - 128 * (sums[0] + sums[1]));
        if (whole_sums) {
          EXPECT_EQ(double{blocks[b].whole_scale}, double{kWhole} * blocks[b].scale) << "exact, so that sums of vpdpbusd need no conversion";
        }
      }
    }
  }
}

TEST(QuantizeRows, EightBlocksAtOnceEqualOneAtATime) {
  // Two eights at once, one, and a rest; then with gaps between blocks and between eights.
  constexpr int64_t kBlocks = 29;
  for (const LinearKernels* kernels : tables()) {
    const Floats x = random_rows(1, kBlocks * 32, 9);
    QuantBlock together[kBlocks], alone[kBlocks];
    kernels->quantize(x.data(), kBlocks, together, 1, 8);
    for (int64_t b = 0; b < kBlocks; ++b) kernels->quantize(x.data() + 32 * b, 1, alone + b, 1, 0);
    EXPECT_EQ(std::memcmp(together, alone, sizeof together), 0) << name_of(*kernels);
    std::vector<QuantBlock> apart(100 * 4);
    kernels->quantize(x.data(), kBlocks, apart.data(), 3, 100);
    for (int64_t b = 0; b < kBlocks; ++b) EXPECT_EQ(std::memcmp(&apart[static_cast<size_t>(b / 8 * 100 + b % 8 * 3)], alone + b, sizeof *alone), 0) << name_of(*kernels);
  }
}

TEST(QuantizeRows, KeepsItsBoundsWhereAValueIsNotFinite) {
  for (const Isa isa : available_isas()) {
    for (const float bad : {INFINITY, -INFINITY, NAN}) {
      for (size_t at = 0; at < 32; ++at) {
        Floats x(32, 1.0f);
        x[at] = bad;
        QuantBlock block;
        linear_kernels(isa).quantize(x.data(), 1, &block, 1, 0);
        for (const int8_t q : block.q) ASSERT_GE(q, -127) << to_string(isa);
      }
    }
  }
}

TEST(QuantizeRows, ManyRowsEqualOneAtATime) {
  ComputePool pool(3);
  const int64_t rows = 19, cols = 4864;
  const Floats x = random_rows(rows, cols, 1);
  const Input expected(x, rows, cols, linear_kernels(best_isa()));
  Lines memory(QuantizedRows::bytes(rows, cols));
  quantize_rows(pool, linear_kernels(best_isa()), x.data(), cols, QuantizedRows(memory.data(), rows, cols));
  EXPECT_EQ(memory, expected.memory);
}

}  // namespace
}  // namespace pagemill
