#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace pagemill {
namespace {

constexpr double kTwoPi = 2 * std::numbers::pi;

/// High frequencies stay, low ones are interpolated, those whose wavelength lies between the two bounds are mixed.
double llama3_frequency(const RopeConfig& config, double frequency) {
  const double wavelength = kTwoPi / frequency, original = config.original_context;
  if (wavelength < original / config.high_freq_factor) return frequency;
  if (wavelength > original / config.low_freq_factor) return frequency / config.factor;
  const double smooth = (original / wavelength - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor);
  return (1 - smooth) * frequency / config.factor + smooth * frequency;
}

/// The band of dimension pairs between those that turn more than beta_fast times over the original context (kept) and those
/// that turn less than beta_slow times (interpolated).
struct YarnBand {
  double low, high;
};

YarnBand yarn_band(const RopeConfig& config) {
  const double dim = config.rotary_dim;
  const auto pair_of_turns = [&](double turns) {
    return dim * std::log(config.original_context / (kTwoPi * turns)) / (2 * std::log(config.theta));
  };
  YarnBand band{std::max(std::floor(pair_of_turns(config.beta_fast)), 0.0),
                std::min(std::ceil(pair_of_turns(config.beta_slow)), dim - 1)};
  if (band.low == band.high) band.high += 0.001;  // a step instead of a division by zero
  return band;
}

}  // namespace

RopeTable make_rope_table(const RopeConfig& config) {
  RopeTable table;
  const int32_t pairs = config.rotary_dim / 2;
  PM_CHECK(config.freq_divisors.empty() || static_cast<int32_t>(config.freq_divisors.size()) == pairs);
  const YarnBand band = config.scaling == RopeScaling::yarn ? yarn_band(config) : YarnBand{0, 1};
  for (int32_t i = 0; i < pairs; ++i) {
    double frequency = std::pow(config.theta, -2.0 * i / config.rotary_dim);
    switch (config.scaling) {
      case RopeScaling::none: break;
      case RopeScaling::linear: frequency /= config.factor; break;
      case RopeScaling::llama3: frequency = llama3_frequency(config, frequency); break;
      case RopeScaling::yarn: {
        const double ramp = std::clamp((i - band.low) / (band.high - band.low), 0.0, 1.0);
        frequency = frequency / config.factor * ramp + frequency * (1 - ramp);
        break;
      }
    }
    if (!config.freq_divisors.empty()) frequency /= config.freq_divisors[static_cast<size_t>(i)];
    table.inv_freq.push_back(static_cast<float>(frequency));
  }
  if (config.scaling == RopeScaling::yarn)
    table.scale = static_cast<float>(config.attention_factor > 0 ? config.attention_factor : 0.1 * std::log(config.factor) + 1);
  return table;
}

}  // namespace pagemill
