// The loops around the kernels: which thread computes which part of which product. Everything here is compiled for the baseline.
#include "backend/cpu/linear/linear.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "backend/cpu/linear/task_plan.h"
#include "backend/cpu/stream_out.h"
#include "base/check.h"

namespace pagemill {
namespace {

// Output rows of a unit of work: a block of the int8 rows that the gated product writes, two to four groups of a weight.
constexpr int64_t kUnit = 32;
// Rows of x that a unit is multiplied with at once: its sums stay in the second-level cache. A bf16 panel, which costs more to unpack, serves more.
constexpr int64_t kRowChunk = 256, kRowChunkMost = 512;
// What an item costs beside its rows (PhaseShape), about.
constexpr int64_t kItemCost = 16, kItemCostOfBf16Panels = 32;
// From two tiles of rows on they go over a piece of a unit one after the other: of so many blocks at most, for two groups' share the second-level cache
// with those asked for.
constexpr int64_t kPieceRows = 2 * QuantizedRows::kTile, kDirectBlocks = 128;
constexpr int64_t kFloatSteps = 512;  // along k: 32 rows of 16 bits are then 32 KiB

struct Scratch {
  alignas(64) float sums[kUnitsTogether * kRowChunkMost * kUnit];  // [rows][kUnit], of a task's units or of gate and up
  union {
    alignas(64) std::byte panels[kUnit / 8][kPanelGroupBytes];
    std::byte bf16_panel[RoundedRows::kPieceTiles * kBf16Parts * kRoundedStepBytes];
  };
};
static_assert(sizeof(Scratch) <= LinearScratch::kBytes);
static_assert(2 * kTaskUnits * (kPieceRows - 1) <= kUnitsTogether * kRowChunkMost && kPieceRows < kPanelRows);

/// Rows [begin, end) of x.
struct Rows {
  int64_t begin = 0, end = 0;
  int64_t count() const { return end - begin; }
};

int64_t units_of(const PackedWeight& weight) { return (weight.out + kUnit - 1) / kUnit; }

const QuantizedKernels& quantized_kernels(const PackedWeight& weight) {
  return weight.kernels().quantized[static_cast<int>(weight.packed_dtype())];
}
const FloatKernels& float_kernels(const PackedWeight& weight) { return weight.kernels().floats[static_cast<int>(weight.packed_dtype())]; }

/// Groups of a pass over few rows of x, each a stream from memory, if there are as many; 1 where arithmetic is what takes the time.
size_t streams_of(const PackedWeight& weight, const LinearInput& x) {
  if (weight.vector() != nullptr || weight.wants_rounded(x.rows)) return 1;
  const bool quantized = weight.wants_quantized(x.rows);
  if (x.rows >= (quantized && weight.kernels().pairs_of_tiles ? kPieceRows : kPairRows)) return 1;
  if (quantized) return 2;
  const int64_t most = float_kernels(weight).cells / x.rows;
  return most >= 4 ? 4 : most >= 2 ? 2 : 1;
}

/// One unit of a weight, and where its products go: sums[row][n] = x[row] · weight[unit · kUnit + n]; columns past the weight's end are left
/// as they are or zero.
struct Product {
  const PackedWeight* weight = nullptr;
  int64_t unit = 0;
  float* sums = nullptr;
};

/// A unit's groups of a quantised weight: the first one and how many there are.
std::pair<int64_t, int64_t> groups_of(const PackedWeight& weight, int64_t unit) {
  const int64_t lanes = weight.lanes(), first = unit * kUnit / lanes;
  return {first, std::min(kUnit / lanes, weight.groups() - first)};
}

/// Below kPanelRows rows. after: what the thread multiplies next, as far as can be foreseen.
void multiply_direct(const Product& product, const LinearInput& x, Rows rows, const Product& after) {
  const PackedWeight& weight = *product.weight;
  const QuantizedKernels& kernels = quantized_kernels(weight);
  const auto [first, groups] = groups_of(weight, product.unit);
  const bool pairs = weight.kernels().pairs_of_tiles;
  // Of a piece's tiles each of the first two asks for a group's next piece.
  const bool in_pieces = pairs && groups == 2 && rows.count() >= kPieceRows;
  const bool known = after.unit < units_of(*after.weight) && after.weight->packed_dtype() == weight.packed_dtype() && after.weight->in == weight.in;
  const int64_t blocks = weight.in / 32, pieces = in_pieces ? (blocks + kDirectBlocks - 1) / kDirectBlocks : 1;
  const int64_t piece = (blocks + 8 * pieces - 1) / (8 * pieces) * 8;
  for (int64_t begin = 0; begin < blocks; begin += piece) {
    DirectBlocks now{begin, std::min(piece, blocks - begin)};
    const bool last = begin + piece >= blocks;
    for (int64_t row = rows.begin; row < rows.end; row += QuantizedRows::kTile) {
      const int64_t columns = std::min(QuantizedRows::kTile, rows.end - row);
      if (in_pieces) {
        const int64_t g = row == rows.begin ? 0 : 1;
        const auto next_groups = last && known ? groups_of(*after.weight, after.unit) : std::pair{first, groups};
        now.next_group = (last && known ? after.weight : &weight)->group(next_groups.first + std::min(g, next_groups.second - 1));
        now.next_begin = last ? 0 : begin + piece;
      }
      for (int64_t g = 0, together; g < groups; g += together) {
        together = pairs && g + 1 < groups ? 2 : 1;
        const std::byte* const pair[] = {weight.group(first + g), together == 1 ? nullptr : weight.group(first + g + 1)};
        float* const at = product.sums + (row - rows.begin) * kUnit + g * weight.lanes();
        float* const to[] = {at, at + weight.lanes()};
        (together == 1 ? kernels.direct : kernels.direct_pair)(pair, weight.in, now, x.quantized.block(row, begin), x.quantized.stride(row),
                                                               static_cast<int>(columns), to, kUnit);
      }
    }
  }
}

/// groups[i] times all rows of x: in passes of four, two and one.
void multiply_streams(const PackedWeight& weight, std::span<const std::byte* const> groups, const LinearInput& x, std::span<float* const> sums) {
  const size_t most = streams_of(weight, x);
  for (size_t at = 0, now; at < groups.size(); at += now) {
    now = groups.size() - at >= most ? most : groups.size() - at >= 2 ? 2 : 1;
    if (weight.wants_quantized(x.rows)) {
      const QuantizedKernels& kernels = quantized_kernels(weight);
      const auto product = now == 2 ? kernels.direct_pair : kernels.direct;
      for (int64_t row = 0; row < x.rows; row += QuantizedRows::kTile) {
        float* to[2] = {};
        for (size_t i = 0; i < now; ++i) to[i] = sums[at + i] + row * kUnit;
        product(groups.data() + at, weight.in, {0, weight.in / 32}, x.quantized.block(row, 0), x.quantized.stride(row),
                static_cast<int>(std::min(QuantizedRows::kTile, x.rows - row)), to, kUnit);
      }
    } else {
      const FloatKernels& kernels = float_kernels(weight);
      const auto product = now == 4 ? kernels.four_streams : now == 2 ? kernels.two_streams : kernels.one_stream;
      product(groups.data() + at, weight.in, x.floats, x.floats_stride, static_cast<int>(x.rows), sums.data() + at);
    }
  }
}

/// Units [begin, end) of a weight, or of two of one type and shape: each weight's groups as one, two or four streams, so that a pass takes as many as it
/// can and what follows a group is read next, then what is left. sums: [weights][units][rows][kUnit].
void multiply_streams(std::span<const PackedWeight* const> weights, int64_t begin, int64_t end, const LinearInput& x, float* sums) {
  const PackedWeight& weight = *weights[0];
  const int64_t lanes = weight.lanes(), per_unit = kUnit / lanes, first = begin * per_unit, count = std::min(end * per_unit, weight.groups()) - first;
  const int64_t most = static_cast<int64_t>(streams_of(weight, x) / weights.size()), streams = count >= most ? most : std::max<int64_t>(1, most / 2), part = count / streams;
  std::array<const std::byte*, 4> groups;
  std::array<float*, 4> to;
  const auto take = [&](int64_t from, int64_t stride, int64_t of_each) {
    size_t many = 0;
    for (size_t w = 0; w < weights.size(); ++w) {
      for (int64_t i = 0; i < of_each; ++i, ++many) {
        const int64_t g = from + i * stride;
        groups[many] = weights[w]->group(first + g);
        to[many] = sums + (static_cast<int64_t>(w) * (end - begin) + g / per_unit) * x.rows * kUnit + g % per_unit * lanes;
      }
    }
    multiply_streams(weight, {groups.data(), many}, x, {to.data(), many});
  };
  for (int64_t g = 0; g < part; ++g) take(g, part, streams);
  take(part * streams, 1, count - part * streams);
}

/// What is unpacked next, asked for in slices between the products with what has been unpacked: memory is read while the cores multiply.
class Ahead {
 public:
  /// Blocks [begin, …) of a product's weights, at most a panel's, asked for by `slices` calls of ask(). Nothing where there is no such unit.
  Ahead(const Product& product, int64_t begin, int64_t slices) {
    const PackedWeight& weight = *product.weight;
    if (product.unit >= units_of(weight) || weight.vector() != nullptr || !weight.is_quantized()) return;
    const QuantizedKernels& kernels = quantized_kernels(weight);
    const auto [first, groups] = groups_of(weight, product.unit);
    const int64_t blocks = weight.in / 32;
    const size_t header = kernels.header_bytes(weight.in), block = (kernels.group_bytes(weight.in) - header) / static_cast<size_t>(blocks);
    const size_t skipped = begin == 0 ? 0 : header + static_cast<size_t>(begin) * block;
    end_ = (begin == 0 ? header : 0) + static_cast<size_t>(std::min(kPanelBlocks, blocks - begin)) * block;
    slice_ = (end_ / static_cast<size_t>(slices) + kLine) / kLine * kLine;
    groups_ = groups;
    for (int64_t g = 0; g < groups_; ++g) from_[g] = weight.group(first + g) + skipped;
  }

  void ask() {
    for (const size_t stop = std::min(end_, at_ + slice_); at_ < stop; at_ += kLine)
      for (int64_t g = 0; g < groups_; ++g) __builtin_prefetch(from_[g] + at_, 0, 2);
  }

 private:
  static constexpr size_t kLine = 64;
  const std::byte* from_[kUnit / 8] = {};
  int64_t groups_ = 0;
  size_t at_ = 0, end_ = 0, slice_ = 0;
};

/// By panels of bytes. after: what the thread multiplies next, as far as can be foreseen.
void multiply_panels(const Product& product, const LinearInput& x, Rows rows, const Product& after, Scratch& scratch) {
  const PackedWeight& weight = *product.weight;
  const QuantizedKernels& kernels = quantized_kernels(weight);
  const auto [first, groups] = groups_of(weight, product.unit);
  const int64_t slices = (rows.count() + QuantizedRows::kTile - 1) / QuantizedRows::kTile * ((groups + 1) / 2);
  for (int64_t begin = 0; begin < weight.in / 32; begin += kPanelBlocks) {
    const int64_t blocks = std::min(kPanelBlocks, weight.in / 32 - begin);
    const bool last = begin + blocks == weight.in / 32;
    for (int64_t g = 0; g < groups; ++g) kernels.unpack(weight.group(first + g), weight.in, begin, blocks, scratch.panels[g]);
    Ahead ahead(last ? after : product, last ? 0 : begin + blocks, slices);
    for (int64_t row = rows.begin; row < rows.end; row += QuantizedRows::kTile) {
      const int columns = static_cast<int>(std::min(QuantizedRows::kTile, rows.end - row));
      float* to = product.sums + (row - rows.begin) * kUnit;
      for (int64_t g = 0; g < groups; g += 2) {
        const int together = static_cast<int>(std::min<int64_t>(2, groups - g));
        kernels.panel(scratch.panels[g], kPanelGroupBytes, together, blocks, begin > 0, x.quantized.block(row, begin), x.quantized.stride(row), columns,
                      to + g * weight.lanes(), kUnit);
        ahead.ask();
      }
    }
  }
}

/// Tiles [begin, begin + steps) along k of a unit as bf16: where they lie, or where they are unpacked to.
const std::byte* bf16_weights(const Product& product, int64_t begin, int64_t steps, Scratch& scratch) {
  const PackedWeight& weight = *product.weight;
  if (!weight.has_bf16_panels()) return weight.group(product.unit) + begin * kRoundedStepBytes;
  std::byte* const panel = scratch.bf16_panel;
  if (!weight.is_quantized()) {
    float_kernels(weight).unpack_bf16(weight.group(product.unit), weight.in, begin, steps, panel);
    return panel;
  }
  const auto [first, groups] = groups_of(weight, product.unit);
  if (groups * weight.lanes() < kUnit) std::memset(panel, 0, static_cast<size_t>(steps * kRoundedStepBytes));
  for (int64_t g = 0; g < groups; ++g) quantized_kernels(weight).unpack_bf16(weight.group(first + g), weight.in, begin, steps, panel + g * weight.lanes() * 4);
  return panel;
}

/// The kernels that multiply what bf16_weights() gives.
const FloatKernels& rounded_kernels(const PackedWeight& weight) {
  return weight.kernels().floats[static_cast<int>(weight.is_quantized() ? DType::bf16 : weight.packed_dtype())];
}

/// Tiles [begin, begin + steps) along k of a unit as they lie in memory, without the scales in front of a quantised type's blocks. Nothing of f16, which is
/// asked for where it is unpacked.
NextWeights weights_at(const Product& product, int64_t begin, int64_t steps) {
  const PackedWeight& weight = *product.weight;
  if (!weight.has_bf16_panels()) return {.first = weight.group(product.unit) + begin * kRoundedStepBytes, .lines = steps * kRoundedStepBytes / 64};
  if (!weight.is_quantized()) return {};
  const auto [first, groups] = groups_of(weight, product.unit);
  const QuantizedKernels& kernels = quantized_kernels(weight);
  const size_t header = kernels.header_bytes(weight.in), block = (kernels.group_bytes(weight.in) - header) / static_cast<size_t>(weight.in / 32);
  const auto at = [&](int64_t g) { return weight.group(first + g) + header + static_cast<size_t>(begin) * block; };
  return {.first = at(0), .second = groups > 1 ? at(1) : nullptr, .lines = steps * static_cast<int64_t>(block) / 64};
}

/// The products of tiles [begin, begin + steps) along k, which lie in one piece of x, or in all that one pair of row tiles has. next: what follows.
void multiply_rounded(const Product& product, const LinearInput& x, Rows rows, int64_t begin, int64_t steps, const NextWeights& next, Scratch& scratch) {
  // A chunk begins at a pair of tiles, and its sums have room for whole ones.
  static_assert(kChunkStep % (2 * RoundedRows::kTileRows) == 0 && kRowChunkMost % kChunkStep == 0 && kFloatLanes == kUnit);
  rounded_kernels(*product.weight).multiply_rounded(bf16_weights(product, begin, steps, scratch), steps, begin > 0,
                                                    x.rounded.tile(rows.begin / RoundedRows::kTileRows, begin), rows.count(), next, product.sums);
}

/// Products with bf16 rows, which share x, in pieces along k: piece by piece, so that what a piece reads of x is in cache for all but the first.
void multiply_in_pieces(std::span<const Product> products, const LinearInput& x, Rows rows, Scratch& scratch) {
  const PackedWeight& weight = *products[0].weight;
  const int64_t tiles = RoundedRows::col_tiles(weight.in), piece = RoundedRows::piece_tiles(weight.in);
  // bf16 weights that few rows read once need not be kept for others; those that follow are asked for ahead.
  if (!weight.has_bf16_panels() && x.rows <= rounded_kernels(weight).rows_at_once) {
    for (const Product& product : products) multiply_rounded(product, x, rows, 0, tiles, {}, scratch);
    return;
  }
  for (int64_t begin = 0; begin < tiles; begin += piece) {
    const int64_t then = begin + piece;
    for (size_t i = 0; i < products.size(); ++i) {
      const NextWeights next = i + 1 < products.size() ? weights_at(products[i + 1], begin, std::min(piece, tiles - begin))
                               : then < tiles          ? weights_at(products[0], then, std::min(piece, tiles - then))
                                                       : NextWeights{};
      multiply_rounded(products[i], x, rows, begin, std::min(piece, tiles - begin), next, scratch);
    }
  }
}

void multiply_floats(const Product& product, const LinearInput& x, Rows rows) {
  const PackedWeight& weight = *product.weight;
  const FloatKernels& kernels = float_kernels(weight);
  std::fill_n(product.sums, rows.count() * kUnit, 0.0f);
  for (int64_t k = 0; k < weight.in; k += kFloatSteps)
    kernels.multiply(weight.group(product.unit), k, std::min(kFloatSteps, weight.in - k), x.floats + rows.begin * x.floats_stride,
                     x.floats_stride, rows.count(), product.sums);
}

/// A "matrix" of one row is kept as an f32 vector.
void multiply_vector(const PackedWeight& weight, const LinearInput& x, Rows rows, float* sums) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    float sum = 0;
    for (int64_t k = 0; k < weight.in; ++k) sum += x.floats[row * x.floats_stride + k] * weight.vector()[k];
    sums[(row - rows.begin) * kUnit] = sum;
  }
}

/// Products with weights of one table. after: what the thread multiplies next, as far as can be foreseen.
void multiply(std::span<const Product> products, const LinearInput& x, Rows rows, const Product& after, Scratch& scratch) {
  for (size_t i = 0, end; i < products.size(); i = end) {
    const PackedWeight& weight = *products[i].weight;
    end = i + 1;
    if (weight.vector() != nullptr) {
      multiply_vector(weight, x, rows, products[i].sums);
    } else if (weight.wants_rounded(x.rows)) {
      const auto alike = [&](const PackedWeight& other) { return other.wants_rounded(x.rows) && other.has_bf16_panels() == weight.has_bf16_panels(); };
      while (end < products.size() && alike(*products[end].weight)) ++end;
      multiply_in_pieces(products.subspan(i, end - i), x, rows, scratch);
    } else if (weight.wants_quantized(x.rows)) {
      const Product& next = end < products.size() ? products[end] : after;
      if (x.rows >= kPanelRows) multiply_panels(products[i], x, rows, next, scratch);
      else multiply_direct(products[i], x, rows, next);
    } else {
      multiply_floats(products[i], x, rows);
    }
  }
}

void check_input(const PackedWeight& weight, const LinearInput& x) {
  if (weight.wants_quantized(x.rows)) {
    PM_CHECK(x.quantized && x.quantized.rows() == x.rows && x.quantized.cols() == weight.in, "[{}, {}] int8 rows where [{}, {}] are needed",
             x.quantized.rows(), x.quantized.cols(), x.rows, weight.in);
  } else if (weight.wants_rounded(x.rows)) {
    PM_CHECK(x.rounded && x.rounded.rows() == x.rows && x.rounded.cols() == weight.in, "[{}, {}] bf16 rows where [{}, {}] are needed",
             x.rounded.rows(), x.rounded.cols(), x.rows, weight.in);
  } else {
    PM_CHECK(x.floats != nullptr, "f32 rows are needed for a weight of {}", to_string(weight.source_dtype));
  }
}

PhaseShape phase_of(const ComputePool& pool, std::span<const PackedWeight* const> weights, int64_t units, int64_t rows) {
  PhaseShape phase{.units = units, .rows = rows, .threads = pool.threads(), .units_together = 1, .chunk_most = kRowChunk, .item_cost = kItemCost};
  for (const PackedWeight* weight : weights) {
    // By tiles units are multiplied side by side, a piece of k after the other: what a piece needs of x is then read once into the second-level
    // cache. Vector units ask for x too slowly to gain by it.
    if (!weight->wants_rounded(rows)) continue;
    phase.units_together = kUnitsTogether;
    if (!weight->has_bf16_panels()) continue;
    phase.chunk_most = kRowChunkMost;
    phase.item_cost = kItemCostOfBf16Panels;
  }
  return phase;
}

/// Calls body(begin, end, rows, after, scratch) until every unit has been computed for all rows. after(unit): what the thread multiplies when it has done
/// those before `unit`, as far as can be foreseen.
template <class Body>
void for_units(const PhaseName& name, ComputePool& pool, LinearScratch& scratch, const PhaseShape& phase, Body&& body) {
  const TaskPlan plan(phase);
  pool.run(name, plan.tasks(), [&](int64_t task, int thread) {
    auto& memory = *reinterpret_cast<Scratch*>(scratch.of(thread));
    plan.for_parts(task, [&](int64_t begin, int64_t end, int64_t row, int64_t row_end) {
      // Threads take turns at a phase's tasks.
      const auto after = [&](int64_t unit) { return unit < end ? unit : unit + (phase.threads - 1) * (end - begin); };
      body(begin, end, Rows{row, row_end}, after, memory);
    });
  });
}

/// From so many rows of x on outputs go past the caches.
constexpr int64_t kStreamedRows = 16;
/// What all threads read, as the rows of products, costs more than it saves where more threads than these fetch it from memory.
constexpr int kStreamReaders = 8;

/// Where a part's sums go. Count: of its outputs, constant where it is kUnit.
template <bool Streamed, class Count>
void write_rows(const LinearPart& part, int64_t begin, Count count, Rows rows, const float* sums) {
  for (int64_t row = rows.begin; row < rows.end; ++row, sums += kUnit) {
    float* out = part.out + row * part.out_stride + begin;
    float values[kUnit];
    std::copy_n(sums, +count, values);
    if (part.bias != nullptr)
      for (int64_t n = 0; n < count; ++n) values[n] += part.bias[begin + n];
    if constexpr (Streamed) stream_floats(values, count, out);
    else std::copy_n(values, +count, out);
  }
}

void write(const LinearPart& part, int64_t unit, const LinearInput& x, Rows rows, const float* sums) {
  constexpr std::integral_constant<int64_t, kUnit> whole;
  const int64_t begin = unit * kUnit, count = part.weight->out - begin;
  if (count < kUnit) return write_rows<false>(part, begin, count, rows, sums);
  if (x.rows < kStreamedRows || !can_stream(part.out, part.out_stride)) return write_rows<false>(part, begin, whole, rows, sums);
  write_rows<true>(part, begin, whole, rows, sums);
  stream_fence();
}

}  // namespace

LinearScratch::LinearScratch(int threads)
    : memory_(static_cast<std::byte*>(::operator new[](static_cast<size_t>(threads) * kBytes, std::align_val_t{64}))) {}

void linear(ComputePool& pool, LinearScratch& scratch, const LinearInput& x, std::span<const LinearPart> parts) {
  constexpr size_t kPartsMax = 8;
  PM_CHECK(parts.size() <= kPartsMax);
  if (x.rows == 0) return;
  std::array<int64_t, kPartsMax + 1> first{};  // unit of each part
  std::array<const PackedWeight*, kPartsMax> weights{};
  for (size_t i = 0; i < parts.size(); ++i) {
    check_input(*parts[i].weight, x);
    weights[i] = parts[i].weight;
    first[i + 1] = first[i] + units_of(*parts[i].weight);
  }
  const PhaseShape phase = phase_of(pool, {weights.data(), parts.size()}, first[parts.size()], x.rows);
  int64_t outputs = 0;
  for (const LinearPart& part : parts) outputs += part.weight->out;
  for_units({"linear", parts[0].weight->in, outputs}, pool, scratch, phase, [&](int64_t begin, int64_t end, Rows rows, const auto& after, Scratch& memory) {
    for (size_t i = 0; begin < end; ++i) {
      const int64_t stop = std::min(end, first[i + 1]), offset = first[i];
      const LinearPart& part = parts[i];
      if (begin < stop && streams_of(*part.weight, x) > 1) {
        multiply_streams({&part.weight, 1}, begin - offset, stop - offset, x, memory.sums);
        for (int64_t unit = begin; unit < stop; ++unit) write(part, unit - offset, x, rows, memory.sums + (unit - begin) * rows.count() * kUnit);
        begin = stop;
      }
      for (; begin < stop; begin = std::min(stop, begin + phase.units_together)) {
        std::array<Product, kUnitsTogether> products;
        const auto count = static_cast<size_t>(std::min(stop - begin, phase.units_together));
        for (size_t n = 0; n < count; ++n)
          products[n] = {part.weight, begin - offset + static_cast<int64_t>(n), memory.sums + static_cast<int64_t>(n) * kRowChunkMost * kUnit};
        multiply({products.data(), count}, x, rows, {part.weight, after(begin + static_cast<int64_t>(count)) - offset}, memory);
        for (size_t n = 0; n < count; ++n) write(part, products[n].unit, x, rows, products[n].sums);
      }
    }
  });
}

void linear_gated(ComputePool& pool, LinearScratch& scratch, const LinearInput& x, const PackedWeight& gate, const PackedWeight& up,
                  const GatedOut& out) {
  PM_CHECK(gate.out == up.out && gate.in == up.in);
  PM_CHECK(!out.quantized || (out.quantized.rows() == x.rows && out.quantized.cols() == gate.out));
  PM_CHECK(!out.rounded || (out.rounded.rows() == x.rows && out.rounded.cols() == gate.out));
  if (x.rows == 0) return;
  check_input(gate, x);
  check_input(up, x);
  const LinearKernels& kernels = gate.kernels();
  const bool paired = gate.packed_dtype() == up.packed_dtype() && streams_of(gate, x) > 1;
  const PackedWeight* const both[] = {&gate, &up};
  PhaseShape phase = phase_of(pool, both, units_of(gate), x.rows);
  phase.units_together = std::max<int64_t>(1, phase.units_together / 2);
  const auto sums_of = [](Scratch& memory, int64_t n) { return memory.sums + n * kRowChunkMost * kUnit; };
  const auto finish = [&](int64_t unit, Rows rows, float* const sums, const float* up_values) {
    const int64_t begin = unit * kUnit, count = std::min(kUnit, gate.out - begin);
    kernels.silu_mul(sums, up_values, rows.count() * kUnit);
    if (out.floats != nullptr)
      for (int64_t row = rows.begin; row < rows.end; ++row) std::copy_n(sums + (row - rows.begin) * kUnit, count, out.floats + row * out.floats_stride + begin);
    // The blocks of a tile of rows lie side by side.
    if (out.quantized) {
      static_assert(QuantizedRows::kTile == 8 && kChunkStep % QuantizedRows::kTile == 0);
      const int64_t rest = rows.count() % QuantizedRows::kTile, whole = rows.count() - rest;  // rows of whole tiles
      if (whole > 0) kernels.quantize(sums, whole, out.quantized.block(rows.begin, unit), 1, QuantizedRows::kTile * out.quantized.blocks());
      if (rest > 0) kernels.quantize(sums + whole * kUnit, rest, out.quantized.block(rows.begin + whole, unit), 1, 0);
    }
    if (out.rounded) round_part(pool, kernels, sums, kUnit, rows.count(), count, out.rounded, rows.begin, begin);
  };
  for_units({"linear, gated", gate.in, 2 * gate.out}, pool, scratch, phase, [&](int64_t begin, int64_t end, Rows rows, const auto& after, Scratch& memory) {
    if (paired) {
      multiply_streams(both, begin, end, x, memory.sums);
      const int64_t unit_sums = rows.count() * kUnit;
      for (int64_t unit = begin; unit < end; ++unit) finish(unit, rows, memory.sums + (unit - begin) * unit_sums, memory.sums + (unit - begin + end - begin) * unit_sums);
      return;
    }
    for (; begin < end; begin = std::min(end, begin + phase.units_together)) {
      const int64_t count = std::min(end - begin, phase.units_together);
      std::array<Product, kUnitsTogether> products;
      for (int64_t n = 0; n < 2 * count; ++n) products[static_cast<size_t>(n)] = {n % 2 == 0 ? &gate : &up, begin + n / 2, sums_of(memory, n)};
      multiply({products.data(), static_cast<size_t>(2 * count)}, x, rows, {&gate, after(begin + count)}, memory);
      for (int64_t n = 0; n < count; ++n) finish(begin + n, rows, sums_of(memory, 2 * n), sums_of(memory, 2 * n + 1));
    }
  });
}

void quantize_row(const LinearKernels& kernels, const float* x, const QuantizedRows& to, int64_t row, int64_t block, int64_t blocks) {
  kernels.quantize(x, blocks, to.block(row, block), to.stride(row), 8 * to.stride(row));
}

void quantize_rows(ComputePool& pool, const LinearKernels& kernels, const float* x, int64_t x_stride, const QuantizedRows& to) {
  // Few rows are cut along k: a piece is some 4,096 elements.
  constexpr int64_t kPiece = 128;
  const int64_t pieces = (to.blocks() + kPiece - 1) / kPiece;
  pool.run_ranges({"quantize", to.cols()}, to.rows() * pieces, 1 + kPiece / to.blocks(), [&](int64_t begin, int64_t end, int) {
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t row = piece / pieces, block = piece % pieces * kPiece;
      quantize_row(kernels, x + row * x_stride + block * QuantizedRows::kBlock, to, row, block, std::min(kPiece, to.blocks() - block));
    }
  });
}

void round_part(const ComputePool& pool, const LinearKernels& kernels, const float* x, int64_t x_stride, int64_t rows, int64_t cols, const RoundedRows& to, int64_t row,
                int64_t col) {
  const auto round = kernels.floats[static_cast<int>(DType::bf16)].round;
  PM_CHECK(round != nullptr, "{} has no products by tiles", to_string(kernels.isa));
  constexpr int64_t kRows = RoundedRows::kTileRows, kCols = RoundedRows::kTileCols, kRowBytes = kCols * 2;
  const int64_t piece = RoundedRows::piece_tiles(to.cols()), row_end = row + rows, col_end = col + cols;
  const bool streamed = to.rows() >= kStreamedRows && pool.threads() <= kStreamReaders;
  for (int64_t count; row < row_end; row += count, x += count * x_stride) {
    const int64_t row_tile = row / kRows, within = row % kRows;
    count = std::min(kRows - within, row_end - row);
    // Fewer rows than a tile has are as many there.
    const int64_t padded = row + count == to.rows() && to.rows() >= kRows ? kRows - within : count;
    for (int64_t at = col, end; at < col_end; at = end) {
      const int64_t tile = at / kCols;
      end = std::min(col_end, (tile / piece + 1) * piece * kCols);
      round(x + at - col, x_stride, count, padded, end - at, to.tile(row_tile, tile) + within * kRowBytes, to.stride(row_tile), streamed);
    }
  }
  if (streamed) stream_fence();
}

void round_rows(ComputePool& pool, const LinearKernels& kernels, const float* x, int64_t x_stride, const RoundedRows& to) {
  // Cut along k, so that few long rows are spread too; one row of some 4,096 elements is a task.
  constexpr int64_t kRows = RoundedRows::kTileRows;
  const int64_t piece = RoundedRows::piece_tiles(to.cols()) * RoundedRows::kTileCols, pieces = (to.cols() + piece - 1) / piece;
  pool.run_ranges({"round", to.cols()}, RoundedRows::row_tiles(to.rows()) * pieces, std::max<int64_t>(4, 16 / to.rows()), [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t row = item / pieces * kRows, col = item % pieces * piece;
      round_part(pool, kernels, x + row * x_stride + col, x_stride, std::min(kRows, to.rows() - row), std::min(piece, to.cols() - col), to, row, col);
    }
  });
}

}  // namespace pagemill
