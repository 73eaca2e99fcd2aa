//! What all daemons of an account must agree on: which barriers keep calls from leaving, and who may probe.
//!
//! A barrier is shut by one bad answer (or, for a group, by several) and opened by one good probe. Each process
//! keeps its own barriers and never waits for another; a [`Fleet`] carries what one learns to the rest and hands
//! out the one probe. The trait is declared here so that this module need not know how. [`Alone`] is a fleet of one.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::gate::Outcome;
use super::operation::{Group, Operation};

/// How soon to ask again for a probe that was just asked for, or for a place on a ramp.
pub(crate) const SOON: Duration = Duration::from_millis(50);
/// How soon to ask again while a probe is under way.
const PROBING: Duration = Duration::from_secs(1);
/// A wish for a probe that nobody answered, or a probe that nobody took, is forgotten after this.
const STALE: Duration = Duration::from_secs(5);

/// Something that keeps calls from leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Barrier {
    /// The private key: 401 shuts it for every call.
    Credentials,
    /// The breaker of a group: it is shut while Klaviyo is down.
    Group(Group),
    /// The gate of an operation: 403, 405, 410 or 415 shut it.
    Operation(Operation),
}

impl Barrier {
    /// Lists every barrier, the credentials first.
    pub fn all() -> impl Iterator<Item = Self> {
        let groups = Group::ALL.into_iter().map(Self::Group);
        let operations = Operation::ALL.into_iter().map(Self::Operation);
        std::iter::once(Self::Credentials)
            .chain(groups)
            .chain(operations)
    }

    /// Returns the name for people and telemetry.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Group(group) => group.name(),
            Self::Operation(operation) => operation.name(),
        }
    }

    /// Tells people that it was shut: an alert where a person must act.
    pub fn tell_shut(self, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let name = self.name();
        match self {
            Self::Credentials => tracing::error!(
                gate = name,
                "closed gate: Klaviyo refuses the private key and nothing is delivered; replace the key, or set it in its file"
            ),
            Self::Operation(_) => tracing::error!(
                gate = name,
                "closed gate: Klaviyo refuses this operation; look at the key's scopes, the account's plan and the revision"
            ),
            Self::Group(_) => tracing::warn!(
                group = name,
                delay_ms,
                "tripped: Klaviyo does not answer, or with 5xx"
            ),
        }
    }

    /// Tells people that it is open again.
    pub fn tell_open(self) {
        let name = self.name();
        match self {
            Self::Credentials | Self::Operation(_) => {
                tracing::info!(gate = name, "opened gate: Klaviyo accepts us again");
            }
            Self::Group(_) => tracing::info!(
                group = name,
                "recovered: a probe succeeded, calls follow more and more"
            ),
        }
    }
}

/// The other daemons of the account. Nothing here waits: what is told travels by itself.
///
/// What comes back arrives as [`Heard`] through [`Client::hear`](super::Client::hear). Whoever implements this also
/// tells people, once for the fleet, with [`Barrier::tell_shut`] and [`Barrier::tell_open`].
pub trait Fleet: Send + Sync + fmt::Debug {
    /// This process shut a barrier; the first probe may leave after `delay`.
    fn shut(&self, barrier: Barrier, delay: Duration);

    /// A probe is wanted. True if it may leave at once; else [`Heard::MayProbe`] may follow.
    fn ask_probe(&self, barrier: Barrier) -> bool;

    /// A probe ended; `None` if its call was never made. A next one may leave after `delay`.
    fn probed(&self, barrier: Barrier, outcome: Option<Outcome>, delay: Duration);

    /// What shut a barrier may be mended: the next probe need not wait for its time.
    fn hurry(&self, barrier: Barrier);
}

/// What a process hears from its fleet about a barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is open.
    Open,
    /// It is shut, and nobody here may probe before this time.
    Shut {
        /// When to ask again.
        until: Instant,
    },
    /// The fleet's one probe is this process's to make.
    MayProbe,
}

/// A fleet of one.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Fleet for Alone {
    fn shut(&self, barrier: Barrier, delay: Duration) {
        barrier.tell_shut(delay);
    }

    fn ask_probe(&self, _: Barrier) -> bool {
        true
    }

    fn probed(&self, barrier: Barrier, outcome: Option<Outcome>, _: Duration) {
        if outcome == Some(Outcome::Good) {
            barrier.tell_open();
        }
    }

    fn hurry(&self, _: Barrier) {}
}

/// A barrier while it is shut: when and by whom it may be probed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shut {
    pub(crate) until: Instant,
    probe: Probe,
}

#[derive(Clone, Copy, Debug)]
enum Probe {
    Nobodys,
    Asked(Instant),
    Granted(Instant),
    UnderWay,
}

impl Shut {
    pub(crate) fn new(until: Instant) -> Self {
        Self {
            until,
            probe: Probe::Nobodys,
        }
    }

    /// Says whether a probe may leave, asking the fleet for one when its time has come.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        barrier: Barrier,
        fleet: &dyn Fleet,
    ) -> Result<(), Instant> {
        match self.probe {
            Probe::UnderWay => return Err(self.until.max(now + PROBING)),
            Probe::Granted(at) if now < at + STALE => return Ok(()),
            _ if now < self.until => return Err(self.until),
            Probe::Asked(at) if now < at + STALE => return Err(now + SOON),
            Probe::Nobodys | Probe::Asked(_) | Probe::Granted(_) => {}
        }
        if fleet.ask_probe(barrier) {
            return Ok(());
        }
        self.probe = Probe::Asked(now);
        Err(now + SOON)
    }

    /// A probe leaves.
    pub(crate) fn leave(&mut self) {
        self.probe = Probe::UnderWay;
    }

    /// The probe that left was never made.
    pub(crate) fn return_probe(&mut self) {
        self.probe = Probe::Nobodys;
    }

    pub(crate) fn hear_shut(&mut self, until: Instant) {
        if let Probe::Nobodys | Probe::Asked(_) = self.probe {
            *self = Self::new(until);
        }
    }

    pub(crate) fn hear_may_probe(&mut self, now: Instant) {
        if let Probe::Nobodys | Probe::Asked(_) = self.probe {
            self.probe = Probe::Granted(now);
        }
    }

    /// Until when no call of this process can leave; none when one may be tried as a probe.
    pub(crate) fn closed(&self, now: Instant) -> Option<Instant> {
        match self.probe {
            Probe::UnderWay => Some(self.until.max(now + PROBING)),
            Probe::Granted(_) => None,
            Probe::Nobodys | Probe::Asked(_) => (self.until > now).then_some(self.until),
        }
    }
}
