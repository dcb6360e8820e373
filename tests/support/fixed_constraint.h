// FixedConstraint: a TokenConstraint for tests: the answer is one of a few token sequences.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "constrain/token_constraint.h"

namespace pagemill {

class FixedConstraint final : public TokenConstraint {
 public:
  /// `end` may follow a whole answer (a stop token).
  FixedConstraint(std::vector<std::vector<int32_t>> answers, int32_t end) : answers_(std::move(answers)), end_(end) {}

  Result<void> fill_mask(std::span<uint32_t> mask) override {
    std::fill(mask.begin(), mask.end(), 0u);
    for (const auto& answer : answers_) {
      if (!starts_with_taken(answer)) continue;
      const auto next = static_cast<uint32_t>(taken_.size() < answer.size() ? answer[taken_.size()] : end_);
      mask[next / 32] |= 1u << next % 32;
    }
    return {};
  }
  Result<void> accept(int32_t token) override {
    taken_.push_back(token);
    if (std::any_of(answers_.begin(), answers_.end(), [this](const auto& answer) { return starts_with_taken(answer); })) return {};
    taken_.pop_back();
    return fail(ErrorCode::internal, "The token that was chosen is not allowed here.");
  }
  void rollback(int32_t count) override { taken_.resize(taken_.size() - static_cast<size_t>(count)); }
  bool may_end() const override { return std::find(answers_.begin(), answers_.end(), taken_) != answers_.end(); }
  std::unique_ptr<TokenConstraint> clone() const override { return std::make_unique<FixedConstraint>(*this); }

 private:
  bool starts_with_taken(const std::vector<int32_t>& answer) const {
    return taken_.size() <= answer.size() && std::equal(taken_.begin(), taken_.end(), answer.begin());
  }

  std::vector<std::vector<int32_t>> answers_;
  int32_t end_;
  std::vector<int32_t> taken_;
};

}  // namespace pagemill
