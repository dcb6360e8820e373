// What the machine's limits allow a model: a decode step has to read every weight and the KV of its contexts, and every token
// costs a multiply-add per weight that it passes.
#pragma once

#include "backend/calibrate.h"

namespace pagemill {

/// The work of a dense decoder. Weights are counted by the arithmetic they are used with.
struct ModelWork {
  double weight_bytes = 0;          // read by each decode step: all but rows of an embedding that is only looked up
  double kv_bytes_per_token = 0;
  double int8_weights = 0;          // quantised ones, outside embedding and head
  double float16_weights = 0;
  double float32_weights = 0;
  double head_weights = 0;          // of the output head, which only sampled tokens pass; counted at the fastest type in use
  /// 4 · heads · head size · layers: scores and values of one token against one position of its context. 0 = attention's arithmetic is
  /// left out, and its reading is taken to hide under the products'. Where it is given (GPUs), attention runs by itself.
  double attention_flops = 0;
};

/// Tokens per second of `streams` sequences whose contexts hold `context` tokens on average.
double decode_limit(const MachineLimits& machine, const ModelWork& work, int streams, double context);

/// Prompt tokens per second of `prompt` tokens after `depth` ones; causal attention counts at the products' 16-bit rate.
double prefill_limit(const MachineLimits& machine, const ModelWork& work, double prompt = 1, double depth = 0);

}  // namespace pagemill
