// TokenConstraint: what an answer may be, as a mask over the next token. Mask, accept, rollback: that is the whole of it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"

namespace pagemill {

/// One per sequence; used by one thread at a time.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;

  /// Sets the bits of the tokens that may come next; `mask` has ⌈vocab / 32⌉ words. An error ends this request alone.
  virtual Result<void> fill_mask(std::span<uint32_t> mask) = 0;
  /// Takes the token that was chosen; an error if it was not allowed.
  virtual Result<void> accept(int32_t token) = 0;
  /// Undoes the last `count` accepts.
  virtual void rollback(int32_t count) = 0;
  /// The answer may end here.
  virtual bool may_end() const = 0;
  /// A copy in the same state, for a second choice of the same prompt.
  virtual std::unique_ptr<TokenConstraint> clone() const = 0;
};

}  // namespace pagemill
