#include "support/golden_logits.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>

#include <fmt/format.h>

#include "base/check.h"
#include "base/json.h"

namespace pagemill {
namespace {

template <class T>
void read_array(std::istream& file, std::vector<T>& values, size_t count) {
  values.resize(count);
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof(T)));
}

double distance(float ours, float reference) {
  const double delta = std::abs(static_cast<double>(ours) - reference);
  return std::isnan(delta) ? std::numeric_limits<double>::infinity() : delta;
}

/// The largest |Δ| of one row: at the reference's top, at the fixed sample, and of the extremes over the whole vocabulary.
double row_delta(const GoldenRow& golden, std::span<const float> logits, size_t position) {
  const auto [low, high] = std::minmax_element(logits.begin(), logits.end());
  double delta = std::max(distance(*low, golden.min), distance(*high, golden.max));
  for (size_t k = 0; k < golden.top_ids.size(); ++k)
    delta = std::max(delta, distance(logits[static_cast<size_t>(golden.top_ids[k])], golden.top_values[k]));
  const size_t stride = logits.size() / golden.some.size();
  for (size_t k = 0; k < golden.some.size(); ++k)
    delta = std::max(delta, distance(logits[(k * stride + position) % logits.size()], golden.some[k]));
  return delta;
}

}  // namespace

Result<GoldenLogits> read_golden_logits(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string line;
  if (!std::getline(file, line)) return fail(ErrorCode::io, fmt::format("cannot read {}", path.string()));
  PM_ASSIGN(const json::value header, parse_json(line));
  GoldenLogits golden;
  golden.vocab = header.at("vocab").to_number<int32_t>();
  const auto top = header.at("top").to_number<size_t>(), subset = header.at("subset").to_number<size_t>();
  for (const json::value& entry : header.at("texts").as_array()) {
    GoldenText& text = golden.texts.emplace_back();
    text.name = entry.at("name").as_string();
    read_array(file, text.tokens, entry.at("tokens").to_number<size_t>());
    text.rows.resize(text.tokens.size());
    for (GoldenRow& row : text.rows) {
      std::vector<float> extremes;
      read_array(file, extremes, 2);
      row.min = extremes[0];
      row.max = extremes[1];
      read_array(file, row.top_ids, top);
      read_array(file, row.top_values, top);
      read_array(file, row.some, subset);
    }
  }
  if (!file || file.peek() != EOF) return fail(ErrorCode::invalid_file, fmt::format("{} has the wrong length", path.string()));
  return golden;
}

LogitsDifference compare_logits(const GoldenLogits& golden, const std::vector<std::vector<float>>& logits) {
  PM_CHECK(logits.size() == golden.texts.size());
  const auto vocab = static_cast<size_t>(golden.vocab);
  LogitsDifference difference;
  for (size_t t = 0; t < logits.size(); ++t) {
    const GoldenText& text = golden.texts[t];
    PM_CHECK(logits[t].size() == text.tokens.size() * vocab);
    for (size_t position = 0; position < text.tokens.size(); ++position) {
      const GoldenRow& row = text.rows[position];
      const double delta = row_delta(row, std::span(logits[t]).subspan(position * vocab, vocab), position);
      difference.delta_max = std::max(difference.delta_max, delta);
      difference.share_max = std::max(difference.share_max, delta / (row.max - row.min));
      ++difference.positions;
    }
  }
  for (size_t t = 0; t < logits.size(); ++t) {
    for (size_t position = 0; position < golden.texts[t].tokens.size(); ++position) {
      const GoldenRow& row = golden.texts[t].rows[position];
      if (!(row.top_values[0] - row.top_values[1] > 2 * difference.delta_max)) continue;
      const auto ours = std::span(logits[t]).subspan(position * vocab, vocab);
      ++difference.top1_judged;
      difference.top1_wrong += std::max_element(ours.begin(), ours.end()) - ours.begin() != row.top_ids[0];
    }
  }
  return difference;
}

std::string LogitsDifference::describe() const {
  return fmt::format("{} positions: max |Δlogit| {:.3g}, {:.3g} of its row's range; leading token judged at {}, wrong at {}", positions,
                     delta_max, share_max, top1_judged, top1_wrong);
}

}  // namespace pagemill
