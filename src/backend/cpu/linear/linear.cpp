#include "backend/cpu/linear/linear.h"

#include <cmath>

#include "base/check.h"

namespace pagemill {
namespace {

constexpr int64_t kRowsMax = 32;

float product(const LinearInput& x, int64_t row, const PackedWeight& weight, const float* w) {
  float sum = 0;
  if (weight.wants_quantized()) {
    for (int64_t b = 0; b < x.quantized.blocks(); ++b) {
      const QuantBlock& block = *x.quantized.block(row, b);
      float part = 0;
      for (int i = 0; i < 32; ++i) part += static_cast<float>(block.q[i]) * w[b * 32 + i];
      sum += part * block.scale;
    }
  } else {
    for (int64_t k = 0; k < weight.in; ++k) sum += x.floats[row * x.floats_stride + k] * w[k];
  }
  return sum;
}

}  // namespace

LinearScratch::LinearScratch(int threads) : memory_(static_cast<size_t>(threads) * kBytes) {}

void linear(ComputePool& pool, LinearScratch& scratch, const LinearInput& x, std::span<const LinearPart> parts) {
  for (const LinearPart& part : parts) {
    pool.run(part.weight->out, [&](int64_t n, int thread) {
      auto* w = reinterpret_cast<float*>(scratch.of(thread));
      part.weight->dequantize(n, w);
      for (int64_t row = 0; row < x.rows; ++row) {
        float* out = part.out + row * part.out_stride + n;
        *out = (part.accumulate ? *out : 0.0f) + product(x, row, *part.weight, w) + (part.bias == nullptr ? 0.0f : part.bias[n]);
      }
    });
  }
}

void linear_gated(ComputePool& pool, LinearScratch& scratch, const LinearInput& x, const PackedWeight& gate, const PackedWeight& up,
                  const GatedOut& out) {
  pool.run((gate.out + kRowsMax - 1) / kRowsMax, [&](int64_t task, int thread) {
    auto* w = reinterpret_cast<float*>(scratch.of(thread));
    const int64_t begin = task * kRowsMax, count = std::min(kRowsMax, gate.out - begin);
    for (int64_t row = 0; row < x.rows; ++row) {
      float values[kRowsMax] = {};
      for (int64_t i = 0; i < count; ++i) {
        gate.dequantize(begin + i, w);
        const float g = product(x, row, gate, w);
        up.dequantize(begin + i, w);
        values[i] = g / (1.0f + std::exp(-g)) * product(x, row, up, w);
      }
      if (out.floats != nullptr) std::copy_n(values, count, out.floats + row * out.floats_stride + begin);
      if (out.quantized) quantize_blocks(gate.isa(), values, 1, out.quantized.block(row, task), 1);
    }
  });
}

void quantize_blocks(Isa, const float* x, int64_t blocks, QuantBlock* to, int64_t stride) {
  for (int64_t b = 0; b < blocks; ++b, x += 32, to += stride) {
    float largest = 0;
    for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[i]));
    const float inverse = largest > 1e-30f ? 127.0f / largest : 0.0f;
    to->scale = largest / 127.0f;
    int sums[2] = {};
    for (int i = 0; i < 32; ++i) {
      const int q = static_cast<int>(std::nearbyint(x[i] * inverse));
      to->q[i] = static_cast<int8_t>(q);
      sums[i / 16] += q;
    }
    to->half_sum[0] = static_cast<int16_t>(sums[0]);
    to->half_sum[1] = static_cast<int16_t>(sums[1]);
    to->scaled_sum = to->scale * static_cast<float>(sums[0] + sums[1]);
  }
}

void quantize_rows(ComputePool& pool, Isa isa, const float* x, int64_t x_stride, const QuantizedRows& to) {
  pool.run_ranges(to.rows(), 1 + 4096 / to.cols(), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) quantize_blocks(isa, x + row * x_stride, to.blocks(), to.block(row, 0), to.stride(row));
  });
}

}  // namespace pagemill
