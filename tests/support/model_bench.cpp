#include "support/model_bench.h"

#include <algorithm>

#include "base/check.h"

namespace pagemill {

Result<std::unique_ptr<ModelBench>> ModelBench::make(const WeightSource& source, Backend& backend, const ModelBenchOptions& options) {
  std::unique_ptr<ModelBench> bench(new ModelBench(backend));
  const StepShape largest{.rows = options.rows_max, .seqs = options.rows_max, .logit_rows = options.logit_rows_max,
                          .query_rows_max = options.rows_max, .context_max = options.kv_blocks * limits::kBlockTokens};
  PM_ASSIGN(bench->model_, Model::load(source, backend, {.largest_step = largest, .overrides = options.overrides}));
  const ModelConfig& config = bench->config();
  const KvPoolSpec spec{.layers = config.layers, .kv_heads = config.kv_heads, .head_dim = config.head_dim, .dtype = options.kv_dtype,
                        .group_of_layer = std::vector<int32_t>(static_cast<size_t>(config.layers), 0), .blocks = {options.kv_blocks}};
  PM_ASSIGN(bench->pool_, backend.allocate_kv(spec));
  return bench;
}

std::vector<float> ModelBench::step(const std::vector<TestSequence>& sequences, int32_t padding_rows) {
  const TestStep step(sequences, padding_rows);
  const auto inputs = backend_.begin_step(step.inputs());
  PM_CHECK(inputs);
  model_->forward(**inputs, kv(), backend_, communicator_);
  const Matrix logits = model_->lm_head(**inputs, (*inputs)->logit_rows, backend_, communicator_);
  std::vector<float> values(static_cast<size_t>(logits.rows * logits.cols));
  PM_CHECK(backend_.read(logits, values));
  PM_CHECK(backend_.end_step());
  PM_CHECK(backend_.finish_step());
  values.resize(step.inputs().logit_rows.size() * static_cast<size_t>(logits.cols));  // without a device's padding
  return values;
}

std::vector<float> ModelBench::logits(const std::vector<int32_t>& tokens, int32_t chunk, const std::vector<int32_t>& blocks) {
  std::vector<float> all;
  for (size_t begin = 0; begin < tokens.size(); begin += static_cast<size_t>(chunk)) {
    const size_t end = std::min(tokens.size(), begin + static_cast<size_t>(chunk));
    const std::vector<int32_t> part(tokens.begin() + static_cast<ptrdiff_t>(begin), tokens.begin() + static_cast<ptrdiff_t>(end));
    const std::vector<float> values = step({{part, static_cast<int32_t>(begin), blocks, true}});
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

std::vector<float> ModelBench::logits(const std::vector<int32_t>& tokens, int32_t chunk) {
  return logits(tokens, chunk, consecutive_blocks(0, static_cast<int32_t>(tokens.size())));
}

}  // namespace pagemill
