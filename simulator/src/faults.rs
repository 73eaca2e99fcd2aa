//! Faults on request: what the next requests of an operation shall run into.
//!
//! Faults are taken in the order in which they were pushed. An outage is a switch, not a script: while it is on,
//! every operation answers 503.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::hostile::HostileBody;
use crate::operation::Operation;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// Klaviyo's name of the operation; `None` is any.
    #[serde(default)]
    pub operation: Option<String>,
    /// How many requests it hits.
    #[serde(default = "once")]
    pub times: u32,
    pub kind: FaultKind,
}

fn once() -> u32 {
    1
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FaultKind {
    /// An error document with this status; nothing changes.
    Status {
        status: u16,
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// A gateway's page instead of a document; nothing changes.
    Html { status: u16 },
    /// The connection closes without an answer; nothing changes.
    Cut,
    /// The request is carried out, then the connection closes without an answer.
    CutAfterAccept,
    /// The request is carried out, then the answer breaks off after this many bytes.
    Truncate { bytes: u32 },
    /// The answer comes this much later.
    Delay { ms: u64 },
    /// Another fault, this much later.
    After { ms: u64, kind: Box<Self> },
    /// Another fault for every n-th of the requests only; the others are answered as usual.
    Every { nth: u32, kind: Box<Self> },
    /// The request is carried out, and never answered; the connection stays open.
    Silence,
    /// An answer that means harm. With a status of success the request is carried out.
    Hostile {
        status: u16,
        body: HostileBody,
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// 400 with a pointer to this row of a bulk body; `field` is the rest of the pointer.
    RejectRow {
        index: usize,
        #[serde(default)]
        field: Option<String>,
    },
}

#[derive(Debug, Default)]
pub struct Faults {
    script: Mutex<Vec<Fault>>,
    outage: AtomicBool,
}

impl Faults {
    pub fn push(&self, fault: Fault) {
        self.script
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(fault);
    }

    /// Forgets the script and ends an outage.
    pub fn clear(&self) {
        self.script
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.set_outage(false);
    }

    pub fn set_outage(&self, outage: bool) {
        self.outage.store(outage, Ordering::SeqCst);
    }

    /// The faults that are still to come.
    pub fn pending(&self) -> Vec<Fault> {
        self.script
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn take(&self, operation: Operation) -> Option<FaultKind> {
        if self.outage.load(Ordering::SeqCst) {
            return Some(FaultKind::Status {
                status: 503,
                retry_after: None,
            });
        }
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        let hits = |fault: &Fault| {
            fault
                .operation
                .as_deref()
                .is_none_or(|name| name == operation.name())
        };
        let index = script
            .iter()
            .position(|fault| fault.times > 0 && hits(fault))?;
        let mut kind = script[index].kind.clone();
        let left = script[index].times;
        script[index].times -= 1;
        if script[index].times == 0 {
            script.remove(index);
        }
        while let FaultKind::Every { nth, kind: inner } = kind {
            if !left.is_multiple_of(nth) {
                return None;
            }
            kind = *inner;
        }
        Some(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_hits_its_operation_as_often_as_asked_and_no_other() {
        let faults = Faults::default();
        let fault: Fault = serde_json::from_str(
            r#"{"operation":"create_event","times":2,"kind":{"type":"status","status":503,"retry_after":"3"}}"#,
        )
        .unwrap();
        faults.push(fault);
        assert_eq!(faults.take(Operation::GetLists), None);
        assert!(faults.take(Operation::CreateEvent).is_some());
        assert!(faults.take(Operation::CreateEvent).is_some());
        assert_eq!(faults.take(Operation::CreateEvent), None);
    }

    #[test]
    fn a_fault_for_every_nth_request_spares_the_others() {
        let faults = Faults::default();
        faults.push(Fault {
            operation: None,
            times: 6,
            kind: FaultKind::Every {
                nth: 3,
                kind: Box::new(FaultKind::Cut),
            },
        });
        let hits = (0..9).filter(|_| faults.take(Operation::GetLists).is_some());
        assert_eq!(hits.count(), 2);
    }
}
