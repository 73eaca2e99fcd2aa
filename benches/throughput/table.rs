//! Prints what was found beside what was aimed for.

use crate::Lap;
use crate::measure::Measured;

const JOBS_PER_S_GOAL: f64 = 60_000.0;
const RATIO_GOAL: f64 = 0.3;

/// Prints the table; a goal that is missed is said, and fails nothing.
pub(crate) fn print(laps: &[(Lap, Measured)]) {
    let bare = laps
        .iter()
        .find(|(lap, _)| *lap == Lap::Bare)
        .map_or(f64::NAN, |(_, measured)| measured.jobs_per_s());
    println!();
    println!("                             CPU ms per 1,000 jobs");
    println!(
        "{:<12} {:>9} {:>6}  {:>7} {:>6} {:>6}  {:>7} {:>10}",
        "", "jobs/s", "ratio", "itself", "Redis", "sink", "RSS MB", "jobs/call"
    );
    for (lap, it) in laps {
        println!(
            "{:<12} {:>9.0} {:>6.2}  {:>7.2} {:>6.2} {:>6.2}  {:>7.1} {:>10}",
            name(*lap),
            it.jobs_per_s(),
            it.jobs_per_s() / bare,
            it.per_thousand(it.cpu_ms),
            it.per_thousand(it.redis_cpu_ms),
            it.per_thousand(it.sink_cpu_ms),
            it.rss_mb,
            if it.calls > 0.0 {
                format!("{:.0}", it.jobs / it.calls)
            } else {
                "-".to_owned()
            },
        );
    }
    println!();
    for (_, it) in laps.iter().filter(|(lap, _)| *lap == Lap::Daemon) {
        let (speed, ratio) = (it.jobs_per_s(), it.jobs_per_s() / bare);
        println!(
            "goal: bulk lane at least {JOBS_PER_S_GOAL} jobs/s: {speed:.0}, {}",
            verdict(speed >= JOBS_PER_S_GOAL)
        );
        println!(
            "goal: bulk lane at least {RATIO_GOAL} of the bare loop: {ratio:.2}, {}",
            verdict(ratio >= RATIO_GOAL)
        );
    }
}

fn name(lap: Lap) -> &'static str {
    match lap {
        Lap::Bare => "bare loop",
        Lap::Daemon => "bulk lane",
        Lap::Queue => "queue alone",
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}
