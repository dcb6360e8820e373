// The mistakes that a comparison of logits must notice, each as a backend that makes it: on any backend, also one that runs late.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
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
  /// Steps of more rows are left right.
  void only_in_steps_of(int32_t rows) { rows_max_ = rows; }

 protected:
  bool spoils(const StepInputs& step) const { return step.shape.rows <= rows_max_; }
  /// Before arrays of the step are read, and before those of the error end.
  void settle() {
    const auto settled = inner_.synchronize();
    PM_CHECK(settled.has_value(), "{}", settled.error().message);
  }

 private:
  int32_t rows_max_ = std::numeric_limits<int32_t>::max();
};

/// Every row also sees the position after its own, where that is in the cache; or `past_the_end` of the sequence too, where its last block holds
/// what somebody left there.
class MaskOffByOne final : public SpoiledBackend {
 public:
  explicit MaskOffByOne(Backend& inner, bool past_the_end = false) : SpoiledBackend(inner), past_the_end_(past_the_end) {}
  void attention(const StepInputs& step, const AttentionShape& shape, Matrix q, KvView kv, Matrix out) override {
    if (!spoils(step)) return inner_.attention(step, shape, q, kv, out);
    settle();
    std::vector<int32_t> positions(step.positions.begin(), step.positions.end());
    for (size_t row = 0; row < positions.size(); ++row) {
      const int32_t context = step.context_len[static_cast<size_t>(step.seq_of_row[row])];
      const int32_t end = past_the_end_ ? (context + limits::kBlockTokens - 1) / limits::kBlockTokens * limits::kBlockTokens : context;
      if (positions[row] >= 0) positions[row] = std::min(positions[row] + 1, end - 1);
    }
    StepInputs wrong = step;
    wrong.positions = positions;
    inner_.attention(wrong, shape, q, kv, out);
    settle();
  }

 private:
  bool past_the_end_;
};

/// No row but the first sees its own position.
class MaskOffByOneBelow final : public SpoiledBackend {
 public:
  using SpoiledBackend::SpoiledBackend;
  void attention(const StepInputs& step, const AttentionShape& shape, Matrix q, KvView kv, Matrix out) override {
    if (!spoils(step)) return inner_.attention(step, shape, q, kv, out);
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
    if (!spoils(step)) return inner_.attention(step, shape, q, kv, out);
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
    if (!spoils(step)) return inner_.rope_store(step, shape, rope, q, k, v, kv);
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
    if (calls_++ % layers_ == 1 && spoils(step)) (which_ == 0 ? wrong.q_bias : which_ == 1 ? wrong.k_bias : wrong.v_bias) = nullptr;
    inner_.linear_qkv(step, x, wrong, q, k, v);
  }

 private:
  int which_, layers_, calls_ = 0;
};

/// In one layer a block keeps what it held before: of the second sequence that begins, the first one is stored in full.
class StaleBlock final : public SpoiledBackend {
 public:
  explicit StaleBlock(Backend& inner, int32_t block = 1) : SpoiledBackend(inner), block_(block) {}
  void rope_store(const StepInputs& step, const AttentionShape& shape, const RopeTable& rope, Matrix q, Matrix k, Matrix v,
                  KvView kv) override {
    settle();
    std::vector<int32_t> slots(step.group[0].slots.begin(), step.group[0].slots.end());
    if (shape.layer == 0 && step.positions[0] == 0) ++sequences_;
    if (shape.layer == 1 && sequences_ == 2 && spoils(step))
      for (size_t row = 0; row < slots.size(); ++row)
        if (step.positions[row] / limits::kBlockTokens == block_) slots[row] = -1;
    StepInputs wrong = step;
    wrong.group[0].slots = slots;
    inner_.rope_store(wrong, shape, rope, q, k, v, kv);
    settle();
  }

 private:
  int32_t block_;
  int sequences_ = 0;
};

}  // namespace pagemill
