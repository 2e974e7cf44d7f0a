//! Uids and random-looking name endings, the same for the same seed.

/// The letters of generated names: no vowels, so that no word appears.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A seeded source of identities (splitmix64, which needs one word of state).
#[derive(Debug, Clone)]
pub struct Identities {
    state: u64,
}

impl Identities {
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A version 4 UUID.
    pub fn uid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            0x8000 | ((low >> 48) & 0x3fff),
            low & 0xffff_ffff_ffff
        )
    }

    /// The five letters after `generateName`.
    pub fn suffix(&mut self) -> String {
        let mut bits = self.next();
        let mut text = String::with_capacity(5);
        for _ in 0..5 {
            text.push(char::from(LETTERS[(bits % LETTERS.len() as u64) as usize]));
            bits /= LETTERS.len() as u64;
        }
        text
    }
}
