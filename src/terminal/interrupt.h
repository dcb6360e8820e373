// Ctrl-C as something to wait for instead of the end of the program.
#pragma once

namespace pagemill {

/// Takes SIGINT while it lives; at most one at a time. A signal makes `fd()` readable until take() has seen it.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  int fd() const;
  /// True if Ctrl-C came since the last call.
  bool take();
};

}  // namespace pagemill
