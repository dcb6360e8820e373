// Stop strings: finds the first of them in a text that arrives in pieces, however it is cut.
//
// The stop string that ends a text is the one completed first (by the earliest byte); of several completed by the same byte, the
// longest. Until then everything is let through but the bytes at the end that may still become part of one: at most the longest
// stop string less a byte. Stop strings and pieces are whole UTF-8 characters, and so is all that comes out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pagemill {

/// The strings, prepared for matching (Knuth, Morris and Pratt's failure function of each). Immutable.
class StopStrings {
 public:
  StopStrings() = default;
  explicit StopStrings(std::vector<std::string> strings);

  bool empty() const { return strings_.empty(); }
  const std::string& operator[](size_t i) const { return strings_[i]; }

 private:
  friend class StopMatcher;
  std::vector<std::string> strings_;            // none empty
  std::vector<std::vector<uint32_t>> failures_; // of each string: length of the longest border of its first i + 1 bytes
};

/// The state of one text. Not thread-safe; `strings` must outlive it.
class StopMatcher {
 public:
  /// With `include`, the stop string that ends the text is part of it, and nothing ever has to be held back.
  StopMatcher(const StopStrings& strings, bool include);

  /// Appends to `out` what is certain to be part of the text. Returns the index of the stop string that ended it, else -1.
  /// After an end, nothing may be pushed.
  int push(std::string_view piece, std::string& out);
  /// Appends what is held back: no more will come.
  void finish(std::string& out);
  /// Forgets what may have begun: a stop string must not begin before this point. What is held back goes to `out`.
  void restart(std::string& out);

 private:
  int step(char byte);

  const StopStrings* strings_;
  bool include_;
  std::vector<uint32_t> matched_;  // of each string: how many of its bytes the text ends with
  std::string held_;
};

}  // namespace pagemill
