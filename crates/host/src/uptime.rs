//! The time since the boot, and waits that end by it: a clock is set by administrators and by NTP, forward and back,
//! and a wait that goes by it ends at once or not for an hour.

use crate::seam::Host;
use api::Timestamp;
use std::time::Duration;

const FILE: &str = "/proc/uptime";

/// The time since the boot; Err: the sentence that says why nobody knows.
pub fn read(host: &dyn Host) -> Result<Duration, String> {
    let bytes = host.read(FILE).map_err(|refusal| format!("cannot {refusal}"))?;
    let text = String::from_utf8_lossy(&bytes);
    let told = text.split_whitespace().next().unwrap_or_default();
    parse(told).ok_or_else(|| format!("{FILE} says {told:?}, which is no time"))
}

/// Seconds and hundredths (fs/proc/uptime.c, uptime_proc_show).
fn parse(told: &str) -> Option<Duration> {
    let (seconds, hundredths) = told.split_once('.')?;
    let hundredths: u64 = hundredths.parse().ok().filter(|hundredths| *hundredths < 100)?;
    Duration::from_secs(seconds.parse().ok()?).checked_add(Duration::from_millis(hundredths * 10))
}

/// How long something is still waited for. The time begins with the first question, so that who waits for nothing reads
/// nothing.
#[derive(Debug)]
pub struct Patience {
    limit: Duration,
    began: Option<Duration>,
}

impl Patience {
    pub fn new(limit: Duration) -> Self {
        Self { limit, began: None }
    }

    /// What is left of it; none when it is over.
    pub fn left(&mut self, host: &dyn Host) -> Option<Duration> {
        // Where there is no such file the clock has to do.
        let by_clock = || host.now().duration_since(Timestamp::UNIX_EPOCH).unsigned_abs();
        let now = read(host).unwrap_or_else(|_| by_clock());
        let waited = now.saturating_sub(*self.began.get_or_insert(now));
        self.limit.checked_sub(waited).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Broken, SimHost};
    use crate::testing::worker;

    #[test]
    fn a_wait_ends_by_the_time_since_the_boot_whatever_the_clock_says() {
        let host = SimHost::new(worker());
        let mut patience = Patience::new(Duration::from_secs(5));
        let mut left = vec![patience.left(&host)];
        for clock in ["1970-01-01T10:00:00Z", "1970-01-01T00:00:01Z"] {
            host.machine().set_clock(clock.parse().unwrap());
            left.push(patience.left(&host));
        }
        for wait in [4900, 100] {
            host.wait(&[], Duration::from_millis(wait));
            left.push(patience.left(&host));
        }
        let whole = Some(Duration::from_secs(5));
        assert_eq!(left, [whole, whole, whole, Some(Duration::from_millis(100)), None]);
    }

    #[test]
    fn what_is_no_time_is_named() {
        let host = SimHost::new(worker());
        assert_eq!(read(&host), Ok(Duration::from_secs(60)));
        for told in ["", "?", "1.100", "-1.00", "99999999999999999999.00"] {
            let broken = Broken::Says(told.to_owned());
            host.machine().broken.insert(FILE.to_owned(), broken);
            let why = read(&host).unwrap_err();
            assert_eq!(why, format!("/proc/uptime says {told:?}, which is no time"));
        }
    }
}
