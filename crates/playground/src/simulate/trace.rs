//! The trace: one line for each thing that happened, and a hash over all of them.

use api::Timestamp;

/// FNV-1a over the lines: the same in every process and build.
#[derive(Debug, Clone)]
pub struct Trace {
    hash: u64,
    start: Timestamp,
    print: bool,
    pub lines: u64,
}

impl Trace {
    pub fn new(start: Timestamp, print: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, start, print, lines: 0 }
    }

    pub fn line(&mut self, now: Timestamp, text: &str) {
        self.lines += 1;
        for byte in text.bytes().chain(now.as_millisecond().to_le_bytes()) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.print {
            let elapsed = now.as_millisecond() - self.start.as_millisecond();
            println!("{:>8}.{:03}s  {text}", elapsed / 1000, elapsed % 1000);
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }
}
