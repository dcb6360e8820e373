// Communicator: the ranks that compute one model together. Passed explicitly; there is no global.
#pragma once

#include "backend/backend.h"

namespace pagemill {

/// Stream-ordered, like the backend's ops, and owned by the same thread.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Replaces x on every rank by the sum over ranks.
  virtual void all_reduce_sum(Matrix x) = 0;
};

/// One rank: sums are what they are.
class SelfCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void all_reduce_sum(Matrix) override {}
};

}  // namespace pagemill
