// The arithmetic of the reference backend, in the order a step uses it.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/dot.h"
#include "backend/cpu/reference_backend.h"
#include "base/check.h"

namespace pagemill {
namespace {

constexpr int64_t kElementwiseMin = 4096;  // elements a task: below this, handing out costs more than it saves

float* row_of(Matrix matrix, int64_t row) { return reinterpret_cast<float*>(matrix.data) + row * matrix.cols; }

void check_floats(Matrix matrix, int64_t rows, int64_t cols) {
  PM_CHECK(matrix.dtype == DType::f32 && matrix.rows == rows && matrix.cols == cols, "[{}, {}] {} where [{}, {}] f32 is needed",
           matrix.rows, matrix.cols, to_string(matrix.dtype), rows, cols);
}

const ReferenceWeight& as_reference(const Weight& weight) { return static_cast<const ReferenceWeight&>(weight); }

}  // namespace

void ReferenceBackend::embed(const StepInputs& step, const Weight& table, Matrix out) {
  check_floats(out, step.shape.rows, table.in);
  pool_.run("embed", out.rows, [&](int64_t row, int thread) {
    const auto r = static_cast<size_t>(row);
    if (step.positions[r] < 0) {
      std::fill_n(row_of(out, row), out.cols, 0.0f);
      return;
    }
    const int32_t token = sampler_.token_of(step, r, table.out);
    const float* values = as_reference(table).row(token, scratch(thread, table.in));
    std::copy_n(values, table.in, row_of(out, row));
  });
}

void ReferenceBackend::rms_norm(Matrix x, const Weight& weight, float eps, Matrix out) {
  check_floats(x, out.rows, weight.in);
  check_floats(out, x.rows, weight.in);
  PM_CHECK(weight.out == 1);
  const float* w = as_reference(weight).row(0, nullptr);
  const int64_t n = x.cols;
  pool_.run_ranges("norm", x.rows, 1 + kElementwiseMin / n, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const float* from = row_of(x, row);
      float* to = row_of(out, row);
      const float scale = 1.0f / std::sqrt(dot(from, from, n) / static_cast<float>(n) + eps);
      for (int64_t i = 0; i < n; ++i) to[i] = from[i] * scale * w[i];
    }
  });
}

void ReferenceBackend::linear(const StepInputs&, Matrix x, const Weight& weight, const Weight* bias, Matrix out) {
  check_floats(x, out.rows, weight.in);
  check_floats(out, x.rows, weight.out);
  PM_CHECK(bias == nullptr || (bias->out == 1 && bias->in == weight.out));
  const ReferenceWeight& matrix = as_reference(weight);
  const float* add = bias == nullptr ? nullptr : as_reference(*bias).row(0, nullptr);
  const int64_t n = weight.in;
  pool_.run({"linear", weight.in, weight.out}, (weight.out + kWeightRows - 1) / kWeightRows, [&](int64_t task, int thread) {
    // A few rows of the weight as f32, then every row of x against them: the weight is read and converted once a step.
    const int64_t begin = task * kWeightRows, count = std::min(kWeightRows, weight.out - begin);
    float* buffer = scratch(thread, kWeightRows * n);
    const float* rows[kWeightRows];
    for (int64_t i = 0; i < count; ++i) rows[i] = matrix.row(begin + i, buffer + i * n);
    for (int64_t row = 0; row < x.rows; row += 2) {
      const bool pair = row + 1 < x.rows;
      for (int64_t i = 0; i < count; ++i) {
        float sums[2];
        if (pair) {
          dot_rows<2>(rows[i], {row_of(x, row), row_of(x, row + 1)}, n, sums);
        } else {
          sums[0] = dot(rows[i], row_of(x, row), n);
        }
        const float offset = add == nullptr ? 0.0f : add[begin + i];
        row_of(out, row)[begin + i] = sums[0] + offset;
        if (pair) row_of(out, row + 1)[begin + i] = sums[1] + offset;
      }
    }
  });
}

void ReferenceBackend::gated_activation(Activation activation, Matrix gate, Matrix up, Matrix out) {
  check_floats(gate, out.rows, out.cols);
  check_floats(up, out.rows, out.cols);
  PM_CHECK(activation == Activation::silu && out.dtype == DType::f32);
  const float *g = row_of(gate, 0), *u = row_of(up, 0);
  float* to = row_of(out, 0);
  pool_.run_ranges("activation", out.rows * out.cols, kElementwiseMin, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) to[i] = g[i] / (1.0f + std::exp(-g[i])) * u[i];
  });
}

void ReferenceBackend::add(Matrix x, Matrix delta) {
  check_floats(x, delta.rows, delta.cols);
  check_floats(delta, x.rows, x.cols);
  float* to = row_of(x, 0);
  const float* from = row_of(delta, 0);
  pool_.run_ranges("add", x.rows * x.cols, kElementwiseMin, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) to[i] += from[i];
  });
}

void ReferenceBackend::gather_rows(const StepInputs&, Matrix x, std::span<const int32_t> rows, Matrix out) {
  check_floats(out, static_cast<int64_t>(rows.size()), x.cols);
  PM_CHECK(x.dtype == DType::f32);
  for (size_t i = 0; i < rows.size(); ++i) {
    PM_CHECK(rows[i] >= 0 && rows[i] < x.rows);
    std::copy_n(row_of(x, rows[i]), x.cols, row_of(out, static_cast<int64_t>(i)));
  }
}

}  // namespace pagemill
