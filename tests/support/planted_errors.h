// The mistakes that a comparison of logits must notice, each as a backend that makes it: on any backend, also one that runs late.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "backend/backend.h"
#include "base/check.h"
#include "base/limits.h"
#include "support/forwarding_backend.h"

namespace pagemill {

/// Gives its errors arrays of the host that live until the op has run: for devices whose memory the host may read, as the emulated one's.
class SpoiledBackend : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

 protected:
  /// Before arrays of the step are read, and before those of the error end.
  void settle() {
    const auto settled = inner_.synchronize();
    PM_CHECK(settled.has_value(), "{}", settled.error().message);
  }
};

/// Every row also sees the position after its own, where that is in the cache.
class MaskOffByOne final : public SpoiledBackend {
 public:
  using SpoiledBackend::SpoiledBackend;
  void attention(const StepInputs& step, const AttentionShape& shape, Matrix q, KvView kv, Matrix out) override {
    settle();
    std::vector<int32_t> positions(step.positions.begin(), step.positions.end());
    for (size_t row = 0; row < positions.size(); ++row)
      if (positions[row] >= 0) positions[row] = std::min(positions[row] + 1, step.context_len[static_cast<size_t>(step.seq_of_row[row])] - 1);
    StepInputs wrong = step;
    wrong.positions = positions;
    inner_.attention(wrong, shape, q, kv, out);
    settle();
  }
};

/// No row but the first sees its own position.
class MaskOffByOneBelow final : public SpoiledBackend {
 public:
  using SpoiledBackend::SpoiledBackend;
  void attention(const StepInputs& step, const AttentionShape& shape, Matrix q, KvView kv, Matrix out) override {
    settle();
    std::vector<int32_t> positions(step.positions.begin(), step.positions.end());
    for (int32_t& position : positions)
      if (position >= 0) position = std::max(position - 1, 0);
    StepInputs wrong = step;
    wrong.positions = positions;
    inner_.attention(wrong, shape, q, kv, out);
    settle();
  }
};

/// Attention reads the third block where the second is meant, and the other way round.
class BlocksSwapped final : public SpoiledBackend {
 public:
  using SpoiledBackend::SpoiledBackend;
  void attention(const StepInputs& step, const AttentionShape& shape, Matrix q, KvView kv, Matrix out) override {
    settle();
    std::vector<int32_t> table(step.group[0].block_table.begin(), step.group[0].block_table.end());
    std::swap(table[1], table[2]);
    StepInputs wrong = step;
    wrong.group[0].block_table = table;
    inner_.attention(wrong, shape, q, kv, out);
    settle();
  }
};

/// Keys of odd positions are rotated as if they stood one further.
class HalfTheKeysShifted final : public SpoiledBackend {
 public:
  using SpoiledBackend::SpoiledBackend;
  void rope_store(const StepInputs& step, const AttentionShape& shape, const RopeTable& rope, Matrix q, Matrix k, Matrix v,
                  KvView kv) override {
    settle();
    const auto bytes_of = [](const Matrix& matrix) { return static_cast<size_t>(matrix.rows * matrix.cols) * (matrix.dtype == DType::f32 ? 4 : 2); };
    std::vector<std::byte> queries(q.data, q.data + bytes_of(q)), keys(k.data, k.data + bytes_of(k));
    std::vector<int32_t> positions(step.positions.begin(), step.positions.end());
    std::vector<int32_t> slots(step.group[0].slots.begin(), step.group[0].slots.end());
    for (size_t row = 0; row < positions.size(); ++row) {
      if (positions[row] % 2 == 0) slots[row] = -1;
      ++positions[row];
    }
    inner_.rope_store(step, shape, rope, q, k, v, kv);
    StepInputs wrong = step;
    wrong.positions = positions;
    wrong.group[0].slots = slots;
    const RopeTable again = rope;  // a backend may compute a table's angles once a step
    inner_.rope_store(wrong, shape, again, {queries.data(), q.dtype, q.rows, q.cols}, {keys.data(), k.dtype, k.rows, k.cols}, v, kv);
    settle();
  }
};

/// The bias of one of q, k and v is left out, in one layer of `layers`.
class BiasMissing final : public SpoiledBackend {
 public:
  BiasMissing(Backend& inner, int which, int layers) : SpoiledBackend(inner), which_(which), layers_(layers) {}
  void linear_qkv(const StepInputs& step, Matrix x, const QkvWeights& weights, Matrix q, Matrix k, Matrix v) override {
    QkvWeights wrong = weights;
    if (calls_++ % layers_ == 1) (which_ == 0 ? wrong.q_bias : which_ == 1 ? wrong.k_bias : wrong.v_bias) = nullptr;
    inner_.linear_qkv(step, x, wrong, q, k, v);
  }

 private:
  int which_, layers_, calls_ = 0;
};

/// In one layer the second block keeps what it held before.
class StaleBlock final : public SpoiledBackend {
 public:
  using SpoiledBackend::SpoiledBackend;
  void rope_store(const StepInputs& step, const AttentionShape& shape, const RopeTable& rope, Matrix q, Matrix k, Matrix v,
                  KvView kv) override {
    settle();
    std::vector<int32_t> slots(step.group[0].slots.begin(), step.group[0].slots.end());
    if (shape.layer == 1 && step.tokens[0] == first_token_)
      for (size_t row = 0; row < slots.size(); ++row)
        if (step.positions[row] / limits::kBlockTokens == 1) slots[row] = -1;
    StepInputs wrong = step;
    wrong.group[0].slots = slots;
    inner_.rope_store(wrong, shape, rope, q, k, v, kv);
    settle();
  }
  int32_t first_token_ = -1;  // of the sequence that goes wrong; the one before is stored in full
};

}  // namespace pagemill
