// Sectors and bank conflicts, from what the threads of a block logged.
#include <algorithm>
#include <array>
#include <tuple>
#include <unordered_set>

#include "control.h"
#include "executor.h"

namespace emulated {

namespace {

thread_local Traffic traffic;
thread_local std::vector<std::pair<uint64_t, uint64_t>> large_ranges;  // sectors [first, second)
thread_local std::unordered_set<uint64_t> small_sectors;

struct Entry {
  AccessLog::Entry access;
  int lane;
};

auto key(const Entry& entry) {
  return std::tuple(entry.access.place.file, entry.access.place.line, entry.access.epoch, entry.access.turn, entry.access.kind, entry.access.bytes);
}

/// Distinct 32-byte sectors that one warp access touches.
std::vector<uint64_t> sectors(const Entry* first, const Entry* last) {
  std::vector<uint64_t> touched;
  for (const Entry* entry = first; entry != last; ++entry) {
    const uint64_t begin = entry->access.address / 32, end = (entry->access.address + entry->access.bytes - 1) / 32;
    for (uint64_t sector = begin; sector <= end; ++sector) touched.push_back(sector);
  }
  std::sort(touched.begin(), touched.end());
  touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
  return touched;
}

void count_read(const std::vector<uint64_t>& touched) {
  traffic.global_read_sectors += touched.size();
  for (const uint64_t sector : touched) {
    const bool large = std::any_of(large_ranges.begin(), large_ranges.end(), [&](const auto& range) { return sector >= range.first && sector < range.second; });
    if (large) ++traffic.large_read_sectors;
    else traffic.small_distinct_sectors += small_sectors.insert(sector).second;
  }
}

/// The hardware serves 128 bytes at a time: all lanes of a 4-byte access, 16 of an 8-byte one, 8 of a 16-byte one. A pass reads or
/// writes one word of each of the 32 banks; lanes of the same word share it.
void count_banks(const Entry* first, const Entry* last) {
  const int lanes_at_once = first->access.bytes >= 16 ? 8 : first->access.bytes >= 8 ? 16 : 32;
  for (int phase = 0; phase < 32 / lanes_at_once; ++phase) {
    std::array<std::vector<uint64_t>, 32> words;
    bool any = false;
    for (const Entry* entry = first; entry != last; ++entry) {
      if (entry->lane / lanes_at_once != phase) continue;
      any = true;
      const uint64_t begin = entry->access.address / 4, end = (entry->access.address + entry->access.bytes - 1) / 4;
      for (uint64_t word = begin; word <= end; ++word) {
        auto& bank = words[word % 32];
        if (std::find(bank.begin(), bank.end(), word) == bank.end()) bank.push_back(word);
      }
    }
    if (!any) continue;
    size_t passes = 1;
    for (const auto& bank : words) passes = std::max(passes, bank.size());
    const bool copied = first->access.kind == Access::shared_copied;
    ++(copied ? traffic.copied_accesses : traffic.shared_accesses);
    (copied ? traffic.copied_conflicts : traffic.shared_conflicts) += passes - 1;
  }
}

void account(const Entry* first, const Entry* last) {
  switch (first->access.kind) {
    case Access::global_read:
      count_read(sectors(first, last));
      for (const Entry* entry = first; entry != last; ++entry) traffic.global_read_bytes += entry->access.bytes;
      break;
    case Access::global_write: traffic.global_write_sectors += sectors(first, last).size(); break;
    case Access::shared_read: case Access::shared_write: case Access::shared_copied: count_banks(first, last); break;
  }
}

}  // namespace

void AccessLog::add(Access kind, const void* address, int bytes, Place place) {
  uint32_t turn = 0;
  for (auto entry = entries.rbegin(); entry != entries.rend() && entry->epoch == epoch; ++entry) {
    if (entry->place == place && entry->kind == kind) {
      turn = entry->turn + 1;
      break;
    }
  }
  entries.push_back({place, epoch, turn, kind, static_cast<uint8_t>(bytes), reinterpret_cast<uint64_t>(address)});
}

void account_block(Thread* threads, int count) {
  std::vector<Entry> entries;
  for (int warp = 0; warp * 32 < count; ++warp) {
    entries.clear();
    for (int lane = 0; lane < 32 && warp * 32 + lane < count; ++lane)
      for (const AccessLog::Entry& access : log_of(threads, warp * 32 + lane).entries) entries.push_back({access, lane});
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return key(a) < key(b); });
    for (size_t first = 0; first < entries.size();) {
      size_t last = first + 1;
      while (last < entries.size() && key(entries[last]) == key(entries[first])) ++last;
      account(entries.data() + first, entries.data() + last);
      first = last;
    }
  }
}

TrafficCounter::TrafficCounter() {
  counting = true;
  traffic = {};
  large_ranges.clear();
  small_sectors.clear();
}
TrafficCounter::~TrafficCounter() { counting = false; }
Traffic TrafficCounter::read() const { return traffic; }
void TrafficCounter::clear() {
  traffic = {};
  small_sectors.clear();
}
void TrafficCounter::large(const void* begin, size_t bytes) {
  const auto address = reinterpret_cast<uint64_t>(begin);
  large_ranges.emplace_back(address / 32, (address + bytes + 31) / 32);
}

}  // namespace emulated
