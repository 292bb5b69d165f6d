//! Mutations of seeds, the same ones in each run.

/// Where the next mutation comes from: xorshift64*, which needs no crate and no clock.
pub struct Mutator(u64);

impl Default for Mutator {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Mutator {
    /// One of `seeds` with one to eight things wrong with it.
    pub fn mutated(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(8) {
            self.mutate(&mut input, seeds);
        }
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let end = (at + 1 + self.below(60)).min(input.len());
        match self.below(8) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
            1 => {
                let byte = self.byte();
                if let Some(there) = input.get_mut(at) {
                    *there = byte;
                }
            }
            2 => {
                let byte = self.byte();
                input.insert(at, byte);
            }
            3 => drop(input.drain(at.min(end)..end)),
            4 => {
                let part = input[at.min(end)..end].to_vec();
                let to = self.below(input.len() + 1);
                input.splice(to..to, part);
            }
            5 if self.below(4) == 0 => input.truncate(at),
            6 => {
                // Part of another one in the middle.
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len() + 1);
                let part = &other[from..(from + self.below(200)).min(other.len())];
                input.splice(at..at, part.iter().copied());
            }
            _ => {
                let word = WORDS[self.below(WORDS.len())];
                input.splice(at.min(end)..end, word.iter().copied());
            }
        }
    }

    fn byte(&mut self) -> u8 {
        const TELLING: &[u8] = b"\r\n \t\0\"\\<>;,:=@?/%*[]()-0123456789\xff\x7f\x80";
        if self.below(2) == 0 { TELLING[self.below(TELLING.len())] } else { self.next().to_le_bytes()[7] }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or_default() % bound.max(1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// What parsers trip over.
const WORDS: [&[u8]; 12] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"4294967296",
    b"18446744073709551616",
    b"-1",
    b"\r\n\t",
    b"\"",
    b"HEP3",
    b"Content-Length: 99999\r\n",
    b"\xc3\x28",
];
