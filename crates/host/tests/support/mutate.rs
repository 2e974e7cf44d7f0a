//! Broken input from good input: a corpus of real bytes, and the ways in which bytes go wrong.
//!
//! Beside the coverage-guided fuzzing of `cargo xtask fuzz`, which takes a C++ compiler and its time: this runs in
//! every test run, and is the same from run to run. `IRONRAIL_FUZZ` says how many inputs a target is given; a longer
//! run takes another seed with `IRONRAIL_FUZZ_SEED`.

/// Numbers that spread; not for anything that must be hard to guess.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap_or(0)
    }
}

/// What parsers stumble over.
const WORDS: [&[u8]; 14] = [
    b"\0",
    b"\n",
    b"\"",
    b"{",
    b"[]",
    b"null",
    b"-1",
    b"18446744073709551616",
    b"1e999",
    b"../../",
    b"\xff\xfe",
    b"\\u0000",
    b"0000:ff:1f.8",
    b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Gives the target so many inputs (fewer where one is dear): each of the corpus as it is, then with one to four things
/// wrong. A panic of the target is the finding; the input is printed by the test's name and number.
pub fn run(corpus: &[&[u8]], dear: u64, mut target: impl FnMut(&[u8])) {
    let mut random = Random(number("IRONRAIL_FUZZ_SEED", 20_261_122));
    corpus.iter().for_each(|good| target(good));
    for round in 0..number("IRONRAIL_FUZZ", 4000) / dear {
        let mut bytes = corpus[random.below(corpus.len())].to_vec();
        for _ in 0..=random.below(4) {
            wrong(&mut bytes, corpus, &mut random);
        }
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target(&bytes)));
        if let Err(panic) = outcome {
            println!("input {round}: {shown:?}\n{bytes:?}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn wrong(bytes: &mut Vec<u8>, corpus: &[&[u8]], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    match random.below(7) {
        0 => bytes.truncate(at),
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => drop(bytes.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
        3 => {
            let end = (at + random.below(16)).min(bytes.len());
            bytes.drain(at..end);
        }
        4 => {
            let end = (at + random.below(64)).min(bytes.len());
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        5 => {
            let other = corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = [0, 0x7f, 0x80, 0xff, b'"', b':', b'-'][random.below(7)];
            }
        }
    }
}
