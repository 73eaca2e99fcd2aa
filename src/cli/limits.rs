//! `limits`: the budget of each operation of Klaviyo, and what keeps it closed.

use super::{Global, output};
use crate::services::operations::{BarrierState, OperationLimits};
use output::Output;
use std::process::ExitCode;

const HEADER: [&str; 10] = [
    "OPERATION",
    "PER SECOND",
    "MINUTE",
    "DAY",
    "USED",
    "SHARE",
    "NEXT FREE",
    "CLOSED",
    "GATE",
    "BREAKER",
];

pub(super) async fn run(global: &Global) -> anyhow::Result<ExitCode> {
    let limits = global.operations().await?.limits().await?;
    match Output::or_fitting(global.output) {
        Output::Json => output::json(&limits)?,
        Output::Table => {
            let rows: Vec<Vec<String>> = limits.iter().map(row).collect();
            output::table(&HEADER, &rows)?;
            if limits.iter().any(|it| it.credentials != BarrierState::Open) {
                output::line(
                    "Klaviyo refuses the private key: nothing leaves until it is replaced.",
                )?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(limits: &OperationLimits) -> Vec<String> {
    let count = |limit: Option<u32>| limit.map_or_else(|| "-".to_owned(), |it| it.to_string());
    let share = limits.share.map(|share| format!("{:.0} %", share * 100.0));
    let closed = match &limits.closed_reason {
        Some(reason) => format!("{} ({reason})", seconds(limits.closed_ms)),
        None => "-".to_owned(),
    };
    vec![
        limits.operation.to_owned(),
        count(limits.second),
        count(limits.minute),
        count(limits.day),
        limits.used_minute.to_string(),
        share.unwrap_or_else(|| "-".to_owned()),
        match limits.next_free_ms {
            0 => "now".to_owned(),
            ms => seconds(ms),
        },
        closed,
        state(limits.gate).to_owned(),
        state(limits.breaker).to_owned(),
    ]
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a wait in tenths of a second, for people"
)]
fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1000.0)
}

fn state(state: BarrierState) -> &'static str {
    match state {
        BarrierState::Open => "open",
        BarrierState::Shut => "shut",
        BarrierState::Probing => "probing",
    }
}
