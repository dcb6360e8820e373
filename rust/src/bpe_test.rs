//! Merging against the `tokenizers` crate, which is the reference.

use super::*;
use ahash::AHashMap;
use tokenizers::models::bpe::BPE;
use tokenizers::Model;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }
}

/// A random vocabulary over `letters`: every merge joins two tokens that are already there.
fn vocabulary(random: &mut Random, letters: &str, count: usize) -> (Vec<String>, Vec<(String, String)>) {
    let mut tokens: Vec<String> = letters.chars().map(String::from).collect();
    let mut merges = Vec::new();
    while merges.len() < count {
        let left = tokens[random.below(tokens.len())].clone();
        let right = tokens[random.below(tokens.len())].clone();
        let merged = left.clone() + &right;
        if merged.len() <= 12 && !merges.contains(&(left.clone(), right.clone())) {
            if !tokens.contains(&merged) {
                tokens.push(merged);
            }
            merges.push((left, right));
        }
    }
    (tokens, merges)
}

#[test]
fn merging_equals_the_crates() {
    let mut random = Random(3);
    for round in 0..40 {
        let (tokens, pairs) = vocabulary(&mut random, "abcd", 5 + round * 2);
        let ids: AHashMap<String, u32> = (0u32..).zip(&tokens).map(|(id, token)| (token.clone(), id)).collect();
        let mut merges = Merges::with_capacity(pairs.len());
        for (left, right) in &pairs {
            merges.push(ids[left], ids[right], ids[&(left.clone() + right)]);
        }
        let reference = BPE::builder().vocab_and_merges(ids.clone(), pairs).build().unwrap();
        let mut scratch = Scratch::default();
        // Lengths on both sides of the switch from searching to a heap.
        for length in (1..60).chain([200, 1000]) {
            let text: String = (0..length).map(|_| ['a', 'b', 'c', 'd'][random.below(4)]).collect();
            let mut symbols: Vec<u32> = text.chars().map(|c| ids[&c.to_string()]).collect();
            merges.apply(&mut symbols, &mut scratch);
            let wanted: Vec<u32> = reference.tokenize(&text).unwrap().iter().map(|token| token.id).collect();
            assert_eq!(symbols, wanted, "{text}");
        }
    }
}
