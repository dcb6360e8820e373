#include "session/stop_strings.h"

#include <algorithm>

#include "base/check.h"

namespace pagemill {

StopStrings::StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {
  for (const std::string& string : strings_) {
    PM_CHECK(!string.empty(), "an empty stop string");
    std::vector<uint32_t>& failure = failures_.emplace_back(string.size(), 0);
    for (size_t i = 1; i < string.size(); ++i) {
      uint32_t border = failure[i - 1];
      while (border > 0 && string[i] != string[border]) border = failure[border - 1];
      failure[i] = border + (string[i] == string[border]);
    }
  }
}

StopMatcher::StopMatcher(const StopStrings& strings, bool include)
    : strings_(&strings), include_(include), matched_(strings.strings_.size(), 0) {}

/// Index of the longest string that `byte` completes, else -1.
int StopMatcher::step(char byte) {
  int ended = -1;
  for (size_t s = 0; s < matched_.size(); ++s) {
    const std::string& string = strings_->strings_[s];
    uint32_t& matched = matched_[s];
    while (matched > 0 && string[matched] != byte) matched = strings_->failures_[s][matched - 1];
    matched += string[matched] == byte;
    if (matched < string.size()) continue;
    if (ended < 0 || string.size() > strings_->strings_[static_cast<size_t>(ended)].size()) ended = static_cast<int>(s);
    matched = strings_->failures_[s].back();
  }
  return ended;
}

int StopMatcher::push(std::string_view piece, std::string& out) {
  if (strings_->empty()) {
    out += piece;
    return -1;
  }
  for (size_t i = 0; i < piece.size(); ++i) {
    const int ended = step(piece[i]);
    if (ended < 0) continue;
    held_ += piece.substr(0, i + 1);
    if (!include_) held_.resize(held_.size() - (*strings_)[static_cast<size_t>(ended)].size());
    finish(out);
    return ended;
  }
  held_ += piece;
  const uint32_t keep = include_ ? 0 : *std::max_element(matched_.begin(), matched_.end());
  out.append(held_, 0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return -1;
}

void StopMatcher::finish(std::string& out) {
  out += held_;
  held_.clear();
}

void StopMatcher::restart(std::string& out) {
  finish(out);
  std::fill(matched_.begin(), matched_.end(), 0);
}

}  // namespace pagemill
