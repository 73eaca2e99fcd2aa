//! What becomes of a job. Nothing else decides that a job dies.

use crate::klaviyo::Recovery;
use crate::queue::{Reason, Verdict};
use crate::services::{Failure, Outcome};
use std::time::Duration;

/// How long a job waits for a person: a gate is closed meanwhile.
const OPERATOR_DELAY: Duration = Duration::from_secs(10);

pub(crate) fn verdict(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Accepted => Verdict::Delivered,
        Outcome::Expired => Verdict::Bury(Reason::expired()),
        Outcome::Failed(failure) => match failure.recovery {
            Recovery::Retry => Verdict::Retry(reason(failure)),
            Recovery::RetryAfter(delay) => Verdict::Snooze(delay),
            Recovery::Operator => Verdict::Snooze(OPERATOR_DELAY),
            Recovery::Never => Verdict::Bury(reason(failure)),
        },
        Outcome::Invalid(invalid) => Verdict::Bury(Reason::from(&invalid)),
        Outcome::Later(delay) => Verdict::Snooze(delay),
    }
}

fn reason(failure: Failure) -> Reason {
    Reason {
        code: failure.code,
        status: failure.status,
        detail: failure.detail,
        pointer: failure.pointer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(recovery: Recovery) -> Outcome {
        Outcome::Failed(Failure {
            recovery,
            code: "klaviyo.x",
            status: None,
            detail: "x".into(),
            pointer: None,
        })
    }

    #[test]
    fn waiting_costs_no_attempt_and_never_kills() {
        let wait = Duration::from_secs(3);
        assert_eq!(
            verdict(failed(Recovery::RetryAfter(wait))),
            Verdict::Snooze(wait)
        );
        assert_eq!(
            verdict(failed(Recovery::Operator)),
            Verdict::Snooze(OPERATOR_DELAY)
        );
    }

    #[test]
    fn only_what_can_never_work_dies() {
        assert!(matches!(verdict(failed(Recovery::Never)), Verdict::Bury(_)));
        assert!(matches!(
            verdict(failed(Recovery::Retry)),
            Verdict::Retry(_)
        ));
        assert!(matches!(verdict(Outcome::Expired), Verdict::Bury(_)));
    }
}
