//! Byte-pair merging: lowest rank first, leftmost among equals, as in the `tokenizers` crate (a test compares them).

use ahash::AHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Up to this many symbols a linear search for the next merge beats a heap.
const SHORT: usize = 48;
const NONE: u32 = u32::MAX;

/// The merges of a vocabulary. Immutable once built.
#[derive(Default)]
pub struct Merges {
    /// (left id, right id) → rank
    ranks: AHashMap<(u32, u32), u32>,
    /// rank → id of the merged token
    merged: Vec<u32>,
}

/// Working memory of `Merges::apply`, reused between pieces.
#[derive(Default)]
pub struct Scratch {
    ranks: Vec<u32>,
    previous: Vec<u32>,
    next: Vec<u32>,
    queue: BinaryHeap<Reverse<u64>>,
}

impl Merges {
    pub fn with_capacity(count: usize) -> Merges {
        Merges {
            ranks: AHashMap::with_capacity(count),
            merged: Vec::with_capacity(count),
        }
    }

    /// Adds the merge with the next rank. A pair that is listed twice keeps the later rank, as in the crate.
    pub fn push(&mut self, left: u32, right: u32, merged: u32) {
        self.ranks.insert((left, right), self.merged.len() as u32);
        self.merged.push(merged);
    }

    #[inline]
    fn rank(&self, left: u32, right: u32) -> u32 {
        self.ranks.get(&(left, right)).copied().unwrap_or(NONE)
    }

    /// Merges `symbols` (token ids of one piece) in place until no pair can be merged.
    pub fn apply(&self, symbols: &mut Vec<u32>, scratch: &mut Scratch) {
        if symbols.len() <= SHORT {
            self.apply_short(symbols, &mut scratch.ranks);
        } else {
            self.apply_long(symbols, scratch);
        }
    }

    fn apply_short(&self, symbols: &mut Vec<u32>, ranks: &mut Vec<u32>) {
        ranks.clear();
        ranks.extend(symbols.windows(2).map(|pair| self.rank(pair[0], pair[1])));
        while let Some((at, &rank)) = ranks.iter().enumerate().min_by_key(|&(_, &rank)| rank) {
            if rank == NONE {
                break;
            }
            symbols[at] = self.merged[rank as usize];
            symbols.remove(at + 1);
            ranks.remove(at);
            if at > 0 {
                ranks[at - 1] = self.rank(symbols[at - 1], symbols[at]);
            }
            if at < ranks.len() {
                ranks[at] = self.rank(symbols[at], symbols[at + 1]);
            }
        }
    }

    /// O(n log n): the symbols form a linked list, and a heap holds every pair that could merge, stale ones included.
    fn apply_long(&self, symbols: &mut Vec<u32>, scratch: &mut Scratch) {
        let count = symbols.len();
        let Scratch { previous, next, queue, .. } = scratch;
        previous.clear();
        previous.extend((0..count).map(|i| (i as u32).wrapping_sub(1)));
        next.clear();
        next.extend((1..=count).map(|i| if i < count { i as u32 } else { NONE }));
        let entry = |rank: u32, at: u32| Reverse(u64::from(rank) << 32 | u64::from(at));
        let mut pairs = std::mem::take(queue).into_vec();
        pairs.clear();
        pairs.extend(symbols.windows(2).enumerate().filter_map(|(at, pair)| {
            let rank = self.rank(pair[0], pair[1]);
            (rank != NONE).then(|| entry(rank, at as u32))
        }));
        *queue = BinaryHeap::from(pairs);

        while let Some(Reverse(top)) = queue.pop() {
            let (rank, at) = ((top >> 32) as u32, top as u32 as usize);
            // A symbol that was merged into its left neighbour is marked with the id NONE.
            let right = next[at];
            if symbols[at] == NONE || right == NONE {
                continue;
            }
            if self.rank(symbols[at], symbols[right as usize]) != rank {
                continue;
            }
            symbols[at] = self.merged[rank as usize];
            symbols[right as usize] = NONE;
            let after = next[right as usize];
            next[at] = after;
            if after != NONE {
                previous[after as usize] = at as u32;
                let rank = self.rank(symbols[at], symbols[after as usize]);
                if rank != NONE {
                    queue.push(entry(rank, at as u32));
                }
            }
            let before = previous[at];
            if before != NONE {
                let rank = self.rank(symbols[before as usize], symbols[at]);
                if rank != NONE {
                    queue.push(entry(rank, before));
                }
            }
        }
        symbols.retain(|&id| id != NONE);
    }
}

#[cfg(test)]
#[path = "bpe_test.rs"]
mod tests;
