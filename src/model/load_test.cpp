// What Model::load refuses, before it allocates anything for it; what it estimates; how it is cancelled.
#include <algorithm>

#include "format/random_model.h"
#include "model/manifest.h"
#include "model/model.h"
#include "support/forwarding_backend.h"

namespace pagemill {
namespace {

RandomModelSpec small_spec(std::string architecture = "llama") {
  return {.architecture = std::move(architecture), .name = "small", .layers = 2, .hidden = 32, .ffn = 64, .heads = 4, .kv_heads = 2,
          .head_dim = 8, .vocab = 300, .context = 512, .pre_tokenizer = "smollm", .types = {.base = DType::q8_0}};
}

const ModelLoadOptions kOptions{.largest_step = {.rows = 8, .seqs = 4, .logit_rows = 4}};

/// A random model whose list of tensors a test may change.
class EditedSource final : public WeightSource {
 public:
  explicit EditedSource(const RandomModelSpec& spec = small_spec())
      : inner_(open_random_model(spec)), tensors_(inner_->tensors().begin(), inner_->tensors().end()) {}

  TensorView& tensor(std::string_view name) {
    return *std::find_if(tensors_.begin(), tensors_.end(), [&](const TensorView& t) { return t.name == name; });
  }
  void erase(std::string_view name) { std::erase_if(tensors_, [&](const TensorView& t) { return t.name == name; }); }
  void add(TensorView tensor) { tensors_.push_back(std::move(tensor)); }
  void break_file() { intact_ = false; }

  const std::string& name() const override { return inner_->name(); }
  std::span<const MetadataEntry> metadata() const override { return inner_->metadata(); }
  const MetadataValue* find_metadata(std::string_view key) const override { return inner_->find_metadata(key); }
  const TensorView* find_tensor(std::string_view name) const override {
    for (const TensorView& tensor : tensors_)
      if (tensor.name == name) return &tensor;
    return nullptr;
  }
  std::span<const TensorView> tensors() const override { return tensors_; }
  Result<void> check_intact() const override {
    if (!intact_) return fail(ErrorCode::io, "the file was truncated");
    return {};
  }

 private:
  std::unique_ptr<WeightSource> inner_;
  std::vector<TensorView> tensors_;
  bool intact_ = true;
};

/// Counts what is asked of it.
class CountingBackend final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  Result<std::unique_ptr<DeviceBuffer>> allocate(size_t bytes, std::string_view purpose) override {
    allocated_bytes += bytes;
    return ForwardingBackend::allocate(bytes, purpose);
  }
  Result<std::unique_ptr<Weight>> prepare_weight(const WeightBytes& weight) override {
    ++prepared;
    return ForwardingBackend::prepare_weight(weight);
  }
  const DeviceInfo& device() const override {
    info_ = ForwardingBackend::device();
    if (memory_free_bytes > 0) info_.memory_free_bytes = memory_free_bytes;
    return info_;
  }
  size_t allocated_bytes = 0, memory_free_bytes = 0;
  int prepared = 0;

 private:
  mutable DeviceInfo info_;
};

class ModelLoad : public testing::Test {
 protected:
  void expect_refused(const WeightSource& source, ErrorCode code, std::string_view tensor, std::string_view words) {
    const auto model = Model::load(source, backend_, kOptions);
    ASSERT_FALSE(model);
    EXPECT_EQ(model.error().code, code) << model.error().message;
    EXPECT_EQ(model.error().field, tensor) << model.error().message;
    EXPECT_NE(model.error().message.find(words), std::string::npos) << model.error().message;
    EXPECT_NE(model.error().message.find("small"), std::string::npos) << model.error().message;
    EXPECT_EQ(backend_.allocated_bytes, 0u);
    EXPECT_EQ(backend_.prepared, 0);
  }

  std::unique_ptr<Backend> reference_ = make_reference_backend(1);
  CountingBackend backend_{*reference_};
};

TEST_F(ModelLoad, EstimateIsWhatLoadingTakes) {
  for (const bool tied : {false, true}) {
    for (const char* architecture : {"llama", "qwen2"}) {
      RandomModelSpec spec = small_spec(architecture);
      spec.tied_embeddings = tied;
      const auto source = open_random_model(spec);
      CountingBackend backend(*reference_);
      const auto estimate = Model::estimate(*source, backend, kOptions);
      ASSERT_TRUE(estimate) << estimate.error().message;
      EXPECT_EQ(backend.allocated_bytes, 0u);
      const auto model = Model::load(*source, backend, kOptions);
      ASSERT_TRUE(model) << model.error().message;
      EXPECT_EQ(backend.allocated_bytes, estimate->activations_bytes);
      EXPECT_EQ((*model)->memory().weights_bytes, estimate->weights_bytes);
      size_t file_bytes = 0;
      for (const TensorView& tensor : source->tensors()) file_bytes += tensor.bytes.size();
      EXPECT_EQ(estimate->weights_bytes, file_bytes);  // vectors are f32 in the file too
      EXPECT_EQ(static_cast<size_t>(backend.prepared), source->tensors().size());
    }
  }
}

TEST_F(ModelLoad, MissingTensor) {
  EditedSource source;
  source.erase("blk.1.ffn_up.weight");
  expect_refused(source, ErrorCode::invalid_file, "blk.1.ffn_up.weight", "missing");
}

TEST_F(ModelLoad, MissingBias) {
  EditedSource source(small_spec("qwen2"));
  source.erase("blk.0.attn_k.bias");
  expect_refused(source, ErrorCode::invalid_file, "blk.0.attn_k.bias", "missing");
}

TEST_F(ModelLoad, WrongShape) {
  EditedSource source;
  std::swap(source.tensor("blk.0.ffn_gate.weight").shape[0], source.tensor("blk.0.ffn_gate.weight").shape[1]);
  expect_refused(source, ErrorCode::invalid_file, "blk.0.ffn_gate.weight", "[32, 64]");
}

TEST_F(ModelLoad, WrongLength) {
  EditedSource source;
  TensorView& tensor = source.tensor("blk.0.attn_v.weight");
  tensor.bytes = tensor.bytes.first(tensor.bytes.size() - 1);
  expect_refused(source, ErrorCode::invalid_file, "blk.0.attn_v.weight", "bytes");
}

TEST_F(ModelLoad, QuantisedNorm) {
  EditedSource source;
  source.tensor("output_norm.weight").dtype = DType::q8_0;
  expect_refused(source, ErrorCode::unsupported, "output_norm.weight", "q8_0");
}

// Something that the decoder would silently leave out makes another model of it.
TEST_F(ModelLoad, TensorThatNobodyReads) {
  EditedSource source;
  TensorView extra = source.tensor("blk.0.attn_norm.weight");
  extra.name = "blk.0.attn_q_norm.weight";
  source.add(extra);
  expect_refused(source, ErrorCode::unsupported, "blk.0.attn_q_norm.weight", "not part of");
}

TEST_F(ModelLoad, TooLargeForMemory) {
  backend_.memory_free_bytes = 1000;
  const EditedSource source;
  expect_refused(source, ErrorCode::out_of_memory, "", "smaller model");
}

TEST_F(ModelLoad, TruncatedMeanwhile) {
  EditedSource source;
  source.break_file();
  const auto model = Model::load(source, backend_, kOptions);
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::io);
}

TEST_F(ModelLoad, ProgressRisesToOneAndCancels) {
  const EditedSource source;
  std::vector<double> shares;
  ModelLoadOptions options = kOptions;
  options.progress = [&](double share) {
    shares.push_back(share);
    return true;
  };
  ASSERT_TRUE(Model::load(source, backend_, options));
  EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
  EXPECT_EQ(shares.back(), 1);
  options.progress = [](double share) { return share < 0.5; };
  backend_.prepared = 0;
  const auto cancelled = Model::load(source, backend_, options);
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code, ErrorCode::cancelled);
  EXPECT_LT(static_cast<size_t>(backend_.prepared), source.tensors().size());
}

// Ranks divide matrices so that their products still fit together.
TEST(WeightManifest, ShardAxesFollowTheFlowOfData) {
  ModelConfig config{.architecture = "qwen2", .layers = 1, .hidden = 8, .ffn = 16, .heads = 2, .kv_heads = 1, .head_dim = 4, .vocab = 32, .qkv_bias = true};
  ModelWeights weights;
  weights.layers.resize(1);
  const auto manifest = weight_manifest(config);
  EXPECT_EQ(manifest.size(), 15u);
  std::vector<const Weight**> places;
  for (const WeightSpec& spec : manifest) {
    places.push_back(&spec.place(weights));
    if (spec.name.find("attn_output") != spec.name.npos || spec.name.find("ffn_down") != spec.name.npos) {
      EXPECT_EQ(spec.shard, ShardAxis::in) << spec.name;
    } else if (spec.out > 1) {
      EXPECT_EQ(spec.shard, ShardAxis::out) << spec.name;
    }
    EXPECT_EQ(spec.may_quantize, spec.out > 1) << spec.name;
    EXPECT_EQ(spec.unpermute_head_dim, 0) << spec.name;
  }
  std::sort(places.begin(), places.end());
  EXPECT_EQ(std::unique(places.begin(), places.end()), places.end()) << "two weights share a place";
  config.architecture = "llama";
  for (const WeightSpec& spec : weight_manifest(config)) {
    const bool rotated = spec.name == "blk.0.attn_q.weight" || spec.name == "blk.0.attn_k.weight";
    EXPECT_EQ(spec.unpermute_head_dim, rotated ? 4 : 0) << spec.name;
  }
}

}  // namespace
}  // namespace pagemill
