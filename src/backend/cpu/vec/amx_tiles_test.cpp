// The tile instructions themselves (amx_tiles.h), on any x86-64 CPU: where AMX is missing each of them traps, and the trap's handler
// decodes its bytes and does what Intel's manual (SDM volume 2, "TDPB…", "TILELOADD", …) says. So operands, encodings, strides and
// the configuration are tested; what a trap cannot show is how the hardware rounds and how long it takes. Where AMX is there, it runs.
#define PM_INLINE
#include <cmath>

#include "backend/cpu/vec/amx_tiles.h"

#include <signal.h>
#include <sys/ucontext.h>

#include <atomic>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "backend/cpu/linear/linear.h"
#include "backend/cpu/linear/tile_kernels.h"
#include "backend/cpu/vec/plain.h"
#include "backend/cpu/vec/plain_tiles.h"
#include "backend/cpu_features.h"
#include "base/rng.h"

namespace pagemill {
namespace {

using Bytes = std::vector<std::byte>;

// --- the trap ---------------------------------------------------------------------------------------------------------------------

struct TileState {
  bool configured;
  int rows[8], row_bytes[8];
  uint8_t tile[8][16][64];
};
thread_local TileState t_tiles;
std::atomic<int> g_traps{0}, g_faults{0};  // a fault: what the hardware answers with #UD or #GP

/// VEX, three bytes: C4, RXB and map, W vvvv L pp, opcode, ModRM and what it asks for.
struct Instruction {
  int prefix = 0, opcode = 0, mod = 0, reg = 0, rm = 0, vvvv = 0, length = 0;
  uint8_t* address = nullptr;  // base + displacement, of memory operands
  int64_t index = 0;           // the index register: of tile loads and stores the stride
};

bool decode(const uint8_t* at, const gregset_t& registers, Instruction& i) {
  static constexpr int kRegister[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                        REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  const auto value = [&](int number) { return static_cast<int64_t>(registers[kRegister[number]]); };
  if (at[0] != 0xc4 || (at[1] & 31) != 2 || (at[2] & 0x84) != 0) return false;  // map 0F38, W 0, 128 bits
  const int r = (at[1] >> 7 & 1) ^ 1, x = (at[1] >> 6 & 1) ^ 1, b = (at[1] >> 5 & 1) ^ 1;
  i.prefix = at[2] & 3;  // 0 none, 1 66, 2 F3, 3 F2
  i.vvvv = (at[2] >> 3 & 15) ^ 15;
  i.opcode = at[3];
  i.mod = at[4] >> 6;
  i.reg = (at[4] >> 3 & 7) | r << 3;
  i.rm = (at[4] & 7) | b << 3;
  i.length = 5;
  if (i.mod == 3) return true;
  int64_t base;
  if ((at[4] & 7) == 4) {
    const int scale = at[5] >> 6, index = (at[5] >> 3 & 7) | x << 3, from = (at[5] & 7) | b << 3;
    if ((at[5] & 7) == 5 && i.mod == 0) return false;
    base = value(from);
    i.index = index == 4 ? 0 : value(index) * (int64_t{1} << scale);
    i.length = 6;
  } else if ((at[4] & 7) == 5 && i.mod == 0) {  // relative to the next instruction
    int32_t displacement;
    std::memcpy(&displacement, at + 5, 4);
    i.length = 9;
    i.address = const_cast<uint8_t*>(at) + 9 + displacement;
    return true;
  } else {
    base = value(i.rm);
  }
  int32_t displacement = 0;
  if (i.mod == 1) displacement = static_cast<int8_t>(at[i.length]);
  if (i.mod == 2) std::memcpy(&displacement, at + i.length, 4);
  i.length += i.mod == 1 ? 1 : i.mod == 2 ? 4 : 0;
  i.address = reinterpret_cast<uint8_t*>(base + displacement);  // NOLINT: an address of the program's
  return true;
}

float bf16_at(const uint8_t* from) {
  uint16_t bits;
  std::memcpy(&bits, from, 2);
  return bf16_to_f32(bits);
}

/// c = reg, a = rm, b = vvvv.
bool multiply(TileState& s, const Instruction& i) {
  const int c = i.reg, a = i.rm, b = i.vvvv;
  if (c > 7 || a > 7 || b > 7 || c == a || c == b || a == b) return false;
  if (s.rows[a] == 0 || s.rows[b] == 0 || s.rows[c] != s.rows[a] || s.row_bytes[c] != s.row_bytes[b] || s.row_bytes[a] != 4 * s.rows[b]) return false;
  for (int m = 0; m < s.rows[c]; ++m) {
    for (int n = 0; n < s.row_bytes[c] / 4; ++n) {
      uint8_t* to = s.tile[c][m] + 4 * n;
      if (i.opcode == 0x5e) {
        int32_t sum;
        std::memcpy(&sum, to, 4);
        for (int k = 0; k < s.rows[b]; ++k)
          for (int byte = 0; byte < 4; ++byte) {
            const uint8_t x = s.tile[a][m][4 * k + byte], y = s.tile[b][k][4 * n + byte];
            // SSD F2, SUD F3, USD 66, UUD none: the first letter is a's.
            const int left = i.prefix == 3 || i.prefix == 2 ? static_cast<int8_t>(x) : x, right = i.prefix == 3 || i.prefix == 1 ? static_cast<int8_t>(y) : y;
            sum += left * right;
          }
        std::memcpy(to, &sum, 4);
      } else {
        float sums[2] = {}, sum;
        for (int k = 0; k < s.rows[b]; ++k)
          for (int odd = 0; odd < 2; ++odd)
            sums[odd] = std::fma(bf16_at(s.tile[a][m] + 4 * k + 2 * odd), bf16_at(s.tile[b][k] + 4 * n + 2 * odd), sums[odd]);
        std::memcpy(&sum, to, 4);
        sum += sums[0] + sums[1];
        std::memcpy(to, &sum, 4);
      }
    }
  }
  return true;
}

bool move(TileState& s, const Instruction& i, bool store) {
  if (i.reg > 7 || s.rows[i.reg] == 0) return false;
  uint8_t(&tile)[16][64] = s.tile[i.reg];
  if (!store) std::memset(tile, 0, sizeof tile);
  for (int row = 0; row < s.rows[i.reg]; ++row) {
    uint8_t* memory = i.address + row * i.index;
    std::memcpy(store ? memory : tile[row], store ? tile[row] : memory, static_cast<size_t>(s.row_bytes[i.reg]));
  }
  return true;
}

bool configure(TileState& s, const uint8_t* from) {
  if (from[0] != 1 || from[1] != 0) return false;
  s = {};
  s.configured = true;
  for (int t = 0; t < 16; ++t) {
    uint16_t bytes;
    std::memcpy(&bytes, from + 16 + 2 * t, 2);
    const int rows = from[48 + t];
    if (rows > 16 || bytes > 64 || (t > 7 && (rows | bytes) != 0)) return false;
    if (t < 8) s.rows[t] = rows, s.row_bytes[t] = bytes;
  }
  return true;
}

bool execute(TileState& s, const Instruction& i) {
  if (i.opcode == 0x49 && i.prefix == 0 && i.mod != 3) return configure(s, i.address);
  if (i.opcode == 0x49 && i.prefix == 0 && i.reg == 0 && i.rm == 0) {
    s = {};
    return true;
  }
  if (!s.configured) return false;
  if (i.opcode == 0x49 && i.prefix == 3 && i.mod == 3 && i.rm == 0) {
    if (i.reg > 7 || s.rows[i.reg] == 0) return false;
    std::memset(s.tile[i.reg], 0, sizeof s.tile[i.reg]);
    return true;
  }
  if (i.opcode == 0x4b && i.mod != 3 && (i.prefix == 3 || i.prefix == 2)) return move(s, i, i.prefix == 2);
  if ((i.opcode == 0x5e || (i.opcode == 0x5c && i.prefix == 2)) && i.mod == 3) return multiply(s, i);
  return false;
}

void on_illegal(int, siginfo_t*, void* context) {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto* at = reinterpret_cast<const uint8_t*>(registers[REG_RIP]);  // NOLINT: where the program stands
  Instruction i;
  if (!decode(at, registers, i)) {
    signal(SIGILL, SIG_DFL);  // not ours: again, and then for good
    return;
  }
  ++g_traps;
  if (!execute(t_tiles, i)) ++g_faults;
  registers[REG_RIP] += i.length;
}

class AmxInstructions : public testing::Test {
 protected:
  void SetUp() override {
    native_ = amx_usable().has_value();
    g_traps = 0;
    g_faults = 0;
    struct sigaction action = {};
    action.sa_sigaction = &on_illegal;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGILL, &action, &before_);
  }
  void TearDown() override {
    sigaction(SIGILL, &before_, nullptr);
    EXPECT_EQ(g_faults, 0);
    EXPECT_EQ(g_traps > 0, !native_);
  }

 private:
  bool native_ = false;
  struct sigaction before_ = {};
};

// --- single instructions --------------------------------------------------------------------------------------------------------

/// c += a · b twice, with sums that come from memory first and from zero then; what the tile holds after each.
template <class T, int C, int A, int B, bool Bf16>
Bytes products(int m, int n, int k, const Bytes& a, int64_t a_stride, const Bytes& b, int64_t b_stride, const Bytes& c, int64_t c_stride) {
  vec::TileConfig config;
  config.set(C, m, 4 * n);
  config.set(A, m, 4 * k);
  config.set(B, k, 4 * n);
  T::configure(config);
  T::template load<A>(a.data(), a_stride);
  T::template load<B>(b.data(), b_stride);
  T::template load<C>(c.data(), c_stride);
  Bytes out(2 * 16 * 80, std::byte{0x77});  // what is not the tile's stays
  for (int i = 0; i < 2; ++i) {
    if constexpr (Bf16) T::template dot_bf16<C, A, B>();
    else T::template dot_su8<C, A, B>();
    T::template store<C>(out.data() + i * 16 * 80, 80);
    T::template zero<C>();
  }
  T::release();
  return out;
}

template <int C, int A, int B>
void compare_products(uint64_t seed) {
  SplitMix64 random(seed);
  const int m = 1 + static_cast<int>(random.below(16)), n = 1 + static_cast<int>(random.below(16)), k = 1 + static_cast<int>(random.below(16));
  for (const bool bf16 : {false, true}) {
    Bytes a(16 * 100), b(16 * 64), c(16 * 72);
    for (Bytes* operand : {&a, &b, &c}) {
      for (size_t i = 0; i < operand->size(); i += 4) {
        const auto value = static_cast<float>(random.normal());
        uint32_t bits = static_cast<uint32_t>(random());
        if (bf16 && operand == &c) std::memcpy(&bits, &value, 4);
        if (bf16 && operand != &c) bits = f32_to_bf16(value) | uint32_t{f32_to_bf16(static_cast<float>(random.normal()))} << 16;
        std::memcpy(operand->data() + i, &bits, 4);
      }
    }
    if (!bf16)
      for (size_t i = 3; i < c.size(); i += 4) c[i] &= std::byte{0x3f};  // sums that stay within 32 bits
    const auto run = [&]<class T>() {
      return bf16 ? products<T, C, A, B, true>(m, n, k, a, 100, b, 64, c, 72) : products<T, C, A, B, false>(m, n, k, a, 100, b, 64, c, 72);
    };
    EXPECT_EQ(run.template operator()<vec::AmxTiles>(), run.template operator()<vec::PlainTiles>())
        << (bf16 ? "bf16" : "int8") << ", tiles " << C << ' ' << A << ' ' << B << ", " << m << " x " << n << " x " << k;
  }
}

TEST_F(AmxInstructions, DoWhatThePlainTilesDo) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    compare_products<4, 0, 2>(seed);
    compare_products<7, 1, 3>(seed);
    compare_products<0, 6, 5>(seed);
  }
}

// --- the kernels over them --------------------------------------------------------------------------------------------------------

struct InstructionTiles : vec::AmxTiles {
  static void round_bf16(const float* x, void* to) { vec::PlainTiles::round_bf16(x, to); }
  template <bool Streamed>
  static void round_row(const float* x, void* to) {
    vec::PlainTiles::round_row<Streamed>(x, to);
  }
  template <class F>
  static void round_pairs(const F& even, const F& odd, void* to) {
    vec::PlainTiles::round_pairs(even, odd, to);
  }
};

Bytes random_weight(DType type, int64_t out, int64_t in) {
  SplitMix64 random(5);
  Bytes bytes(static_cast<size_t>(row_bytes(type, in) * out));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.below(0x30));  // small exponents: finite whatever a byte means
  return bytes;
}

std::vector<float> multiply(const LinearKernels& kernels, DType type, const Bytes& bytes, int64_t out, int64_t in, int64_t rows) {
  ComputePool pool(3);  // each thread has registers of its own
  LinearScratch scratch(3);
  WeightArena arena;
  const auto weight = std::move(PackedWeight::make({"w", type, out, in, bytes}, kernels, pool, arena).value());
  SplitMix64 random(7);
  std::vector<float> x(static_cast<size_t>(rows * in)), y(static_cast<size_t>(rows * out));
  for (float& value : x) value = static_cast<float>(random.normal());
  Bytes quantized(QuantizedRows::bytes(rows, in)), rounded(RoundedRows::bytes(rows, in));
  LinearInput input{.quantized = QuantizedRows(quantized.data(), rows, in), .rounded = RoundedRows(rounded.data(), rows, in), .floats = x.data(), .floats_stride = in, .rows = rows};
  for (int64_t row = 0; row < rows; ++row) quantize_row(kernels, x.data() + row * in, input.quantized, row, 0, in / 32);
  if (weight->wants_rounded(rows)) round_rows(pool, kernels, x.data(), in, input.rounded);
  const LinearPart part{weight.get(), nullptr, y.data(), out};
  linear(pool, scratch, input, {&part, 1});
  return y;
}

TEST_F(AmxInstructions, CarryTheKernels) {
  const LinearKernels kernels = linear_detail::with_tiles<vec::Plain<16, true>, InstructionTiles>(plain_linear_kernels(16, true), Isa::plain);
  for (const DType type : {DType::q4_k, DType::q6_k, DType::q2_k, DType::q8_0, DType::bf16}) {
    const Bytes bytes = random_weight(type, 88, 256);
    for (const int64_t rows : {3, 29, 40}) {
      EXPECT_EQ(multiply(kernels, type, bytes, 88, 256, rows), multiply(plain_tile_linear_kernels(), type, bytes, 88, 256, rows))
          << to_string(type) << ", " << rows << " rows";
    }
  }
}

}  // namespace
}  // namespace pagemill
