//! What a replay says about a job, and how that travels with it.
//!
//! It is written behind the lane's name (`live+2.1700000000000.noflow`), because every place a job can be in, also the
//! delayed set, has carried that text from the first version on: no other layout changes, and a daemon that does not
//! know the mark delivers the job on the live lane. The payload stays byte for byte what the application wrote.

use jiff::Timestamp;
use std::fmt;

const MARK: char = '+';
/// Ends the mark of a job whose events start no flows.
pub(crate) const WITHOUT_FLOWS_MARK: &str = ".noflow";

/// What the last replay said about a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// How often it was replayed.
    pub times: u32,
    /// When last: its age counts from then.
    pub at: Timestamp,
    /// Whether its events start no flows, whatever the job itself says.
    pub without_flows: bool,
}

impl Replayed {
    /// Reads the mark behind a lane's name; `None` when there is none, or none that can be read.
    pub(crate) fn of_lane(text: &str) -> Option<Self> {
        let mut parts = text.split_once(MARK)?.1.split('.');
        let times = parts.next()?.parse().ok()?;
        let at = Timestamp::from_millisecond(parts.next()?.parse().ok()?).ok()?;
        Some(Self {
            times,
            at,
            without_flows: text.ends_with(WITHOUT_FLOWS_MARK),
        })
    }
}

impl fmt::Display for Replayed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            times,
            at,
            without_flows,
        } = self;
        write!(formatter, "{MARK}{times}.{}", at.as_millisecond())?;
        if *without_flows {
            formatter.write_str(WITHOUT_FLOWS_MARK)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_replay_says_is_read_as_it_was_written() {
        for without_flows in [true, false] {
            let replayed = Replayed {
                times: 3,
                at: Timestamp::from_millisecond(1_700_000_000_000).unwrap(),
                without_flows,
            };
            assert_eq!(
                Replayed::of_lane(&format!("backfill{replayed}")),
                Some(replayed)
            );
        }
    }

    #[test]
    fn a_lane_without_a_mark_or_with_nonsense_was_never_replayed() {
        for lane in ["", "live", "live+", "live+x.1", "live+1", "live+1.x", "+"] {
            assert_eq!(Replayed::of_lane(lane), None, "{lane}");
        }
    }
}
