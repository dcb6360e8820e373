// The row-wise operations and products of the CPU backend, in the order a step uses them.
#include <algorithm>

#include "backend/cpu/cpu_backend.h"
#include "base/check.h"

namespace pagemill {
namespace {

constexpr int64_t kElementwiseMin = 8192;  // elements a task: below this, handing out costs more than it saves

float* row_of(Matrix matrix, int64_t row) { return reinterpret_cast<float*>(matrix.data) + row * matrix.cols; }

void check_floats(Matrix matrix, int64_t rows, int64_t cols) {
  PM_CHECK(matrix.dtype == DType::f32 && matrix.rows == rows && matrix.cols == cols, "[{}, {}] {} where [{}, {}] f32 is needed",
           matrix.rows, matrix.cols, to_string(matrix.dtype), rows, cols);
}

const PackedWeight& packed(const Weight& weight) { return static_cast<const PackedWeight&>(weight); }

const float* bias_of(const Weight* bias, int64_t out) {
  if (bias == nullptr) return nullptr;
  PM_CHECK(bias->out == 1 && bias->in == out);
  return packed(*bias).vector();
}

}  // namespace

template <class Write>
void CpuBackend::write_rows(Matrix matrix, const RowForms& forms, int64_t begin, int64_t end, Write&& write) const {
  for (int64_t row = begin, first = begin; row < end; ++row) {
    write(row);
    if (const QuantizedRows& to = forms.quantized) quantize_row(matrices_, row_of(matrix, row), to, row, 0, to.blocks());
    // bf16 rows of a tile lie side by side: they are made together, from the second-level cache.
    if (!forms.rounded || (row + 1 < end && (row + 1) % RoundedRows::kTileRows != 0)) continue;
    round_part(pool_, matrices_, row_of(matrix, first), matrix.cols, row + 1 - first, matrix.cols, forms.rounded, first, 0);
    first = row + 1;
  }
}

LinearInput CpuBackend::input_of(Matrix x, std::initializer_list<const Weight*> weights) {
  LinearInput input{.floats = row_of(x, 0), .floats_stride = x.cols, .rows = x.rows};
  const bool quantized = std::any_of(weights.begin(), weights.end(), [&](const Weight* w) { return packed(*w).wants_quantized(x.rows); });
  const bool rounded = std::any_of(weights.begin(), weights.end(), [&](const Weight* w) { return packed(*w).wants_rounded(x.rows); });
  if (x.rows == 0 || (!quantized && !rounded)) return input;
  RowForms forms = row_cache_.find(x);
  if ((quantized && !forms.quantized) || (rounded && !forms.rounded)) {  // whoever wrote x did not make them
    forms = begin_forms(x);
    if (forms.quantized) quantize_rows(pool_, matrices_, input.floats, x.cols, forms.quantized);
    if (forms.rounded) round_rows(pool_, matrices_, input.floats, x.cols, forms.rounded);
  }
  input.quantized = forms.quantized;
  input.rounded = forms.rounded;
  return input;
}

void CpuBackend::embed(const StepInputs& step, const Weight& table, Matrix out) {
  check_floats(out, step.shape.rows, table.in);
  row_cache_.forget(out);
  pool_.run_ranges("embed", out.rows, 1 + kElementwiseMin / out.cols, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const auto r = static_cast<size_t>(row);
      if (step.positions[r] < 0) {
        std::fill_n(row_of(out, row), out.cols, 0.0f);
      } else {
        packed(table).dequantize(sampler_.token_of(step, r, table.out), row_of(out, row));
      }
    }
  });
}

void CpuBackend::norm(Matrix x, const float* delta, const Weight& weight, float eps, Matrix out) {
  check_floats(x, out.rows, weight.in);
  check_floats(out, x.rows, weight.in);
  PM_CHECK(weight.out == 1);
  const float* w = packed(weight).vector();
  const int64_t n = x.cols;
  if (delta != nullptr) row_cache_.forget(x);
  const RowForms forms = begin_forms(out);
  pool_.run_ranges("norm", x.rows, 1 + kElementwiseMin / n, [&](int64_t begin, int64_t end, int) {
    write_rows(out, forms, begin, end, [&](int64_t row) {
      kernels_.add_rms_norm(row_of(x, row), delta == nullptr ? nullptr : delta + row * n, w, eps, n, row_of(out, row));
    });
  });
}

void CpuBackend::rms_norm(Matrix x, const Weight& weight, float eps, Matrix out) { norm(x, nullptr, weight, eps, out); }

void CpuBackend::add_rms_norm(Matrix x, Matrix delta, const Weight& weight, float eps, Matrix out) {
  check_floats(delta, x.rows, x.cols);
  norm(x, row_of(delta, 0), weight, eps, out);
}

void CpuBackend::linear(const StepInputs&, Matrix x, const Weight& weight, const Weight* bias, Matrix out) {
  check_floats(x, out.rows, weight.in);
  check_floats(out, x.rows, weight.out);
  if (x.rows == 0) return;
  const LinearInput input = input_of(x, {&weight});
  row_cache_.forget(out);
  const LinearPart part{.weight = &packed(weight), .bias = bias_of(bias, weight.out), .out = row_of(out, 0), .out_stride = out.cols};
  pagemill::linear(pool_, linear_scratch_, input, {&part, 1});
}

void CpuBackend::linear_qkv(const StepInputs&, Matrix x, const QkvWeights& w, Matrix q, Matrix k, Matrix v) {
  check_floats(x, q.rows, w.q->in);
  const LinearInput input = input_of(x, {w.q, w.k, w.v});
  LinearPart parts[3];
  const auto part = [&](LinearPart& to, const Weight& weight, const Weight* bias, Matrix out) {
    check_floats(out, x.rows, weight.out);
    row_cache_.forget(out);
    to = {.weight = &packed(weight), .bias = bias_of(bias, weight.out), .out = row_of(out, 0), .out_stride = out.cols};
  };
  part(parts[0], *w.q, w.q_bias, q);
  part(parts[1], *w.k, w.k_bias, k);
  part(parts[2], *w.v, w.v_bias, v);
  pagemill::linear(pool_, linear_scratch_, input, parts);
}

void CpuBackend::multiply_gated(Matrix x, const Weight& gate, const Weight& up, Activation activation, Matrix out, const Weight* reader) {
  check_floats(x, out.rows, gate.in);
  check_floats(out, x.rows, gate.out);
  PM_CHECK(activation == Activation::silu);
  const LinearInput input = input_of(x, {&gate, &up});
  const RowForms forms = begin_forms(out);
  const bool floats = reader == nullptr || !((forms.quantized && packed(*reader).wants_quantized(x.rows)) || (forms.rounded && packed(*reader).wants_rounded(x.rows)));
  pagemill::linear_gated(pool_, linear_scratch_, input, packed(gate), packed(up),
                         {.floats = floats ? row_of(out, 0) : nullptr, .floats_stride = out.cols, .quantized = forms.quantized, .rounded = forms.rounded});
}

void CpuBackend::linear_gated(const StepInputs&, Matrix x, const Weight& gate, const Weight& up, Activation activation, Matrix out, Matrix) {
  multiply_gated(x, gate, up, activation, out, nullptr);
}

void CpuBackend::linear_mlp(const StepInputs& step, Matrix x, const MlpWeights& weights, Activation activation, Matrix gated, Matrix, Matrix out) {
  multiply_gated(x, *weights.gate, *weights.up, activation, gated, weights.down);
  linear(step, gated, *weights.down, nullptr, out);
  row_cache_.forget(gated);
}

void CpuBackend::gated_activation(Activation activation, Matrix gate, Matrix up, Matrix out) {
  check_floats(gate, out.rows, out.cols);
  check_floats(up, out.rows, out.cols);
  PM_CHECK(activation == Activation::silu && out.dtype == DType::f32);
  const RowForms forms = begin_forms(out);
  pool_.run_ranges("activation", out.rows, 1 + kElementwiseMin / out.cols, [&](int64_t begin, int64_t end, int) {
    write_rows(out, forms, begin, end, [&](int64_t row) { kernels_.silu_mul(row_of(gate, row), row_of(up, row), out.cols, row_of(out, row)); });
  });
}

void CpuBackend::add(Matrix x, Matrix delta) {
  check_floats(x, delta.rows, delta.cols);
  check_floats(delta, x.rows, x.cols);
  row_cache_.forget(x);
  pool_.run_ranges("add", x.rows, 1 + kElementwiseMin / x.cols, [&](int64_t begin, int64_t end, int) {
    kernels_.add(row_of(x, begin), row_of(delta, begin), (end - begin) * x.cols);
  });
}

void CpuBackend::gather_rows(const StepInputs&, Matrix x, std::span<const int32_t> rows, Matrix out) {
  check_floats(out, static_cast<int64_t>(rows.size()), x.cols);
  PM_CHECK(x.dtype == DType::f32);
  write_rows(out, begin_forms(out), 0, out.rows, [&](int64_t row) {
    const int32_t from = rows[static_cast<size_t>(row)];
    PM_CHECK(from >= 0 && from < x.rows);
    std::copy_n(row_of(x, from), x.cols, row_of(out, row));
  });
}

}  // namespace pagemill
