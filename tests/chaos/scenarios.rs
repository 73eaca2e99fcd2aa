//! Every scenario by name, and how they are run.

use super::arguments::Arguments;
use super::report::{Outcome, table};
use super::stage::Stage;
use super::{answers, kills, limits, load, redis, stop, upstream};
use futures::{FutureExt, StreamExt, stream};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

type Playing = Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

/// One line of the promises.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    play: fn(Rc<Stage>) -> Playing,
}

macro_rules! scenario {
    ($name:literal, $what:literal, $play:path) => {
        Scenario {
            name: $name,
            what: $what,
            play: |stage| Box::pin(async move { $play(&stage).await }),
        }
    };
}

/// In the order of the promises.
pub(crate) const ALL: &[Scenario] = &[
    scenario!(
        "sigkill",
        "processes are killed at random moments",
        kills::sigkill
    ),
    scenario!(
        "orphaned",
        "a process dies and never returns",
        kills::orphaned
    ),
    scenario!(
        "freeze",
        "a process sleeps through its lease and wakes up",
        kills::freeze
    ),
    scenario!(
        "poison",
        "one job kills every process that runs it",
        kills::poison
    ),
    scenario!(
        "terminate",
        "a stop under load, with time for what runs",
        stop::terminate
    ),
    scenario!(
        "impatient",
        "a stop without time: too much work, a second signal, a kill",
        stop::impatient
    ),
    scenario!(
        "redis-killed",
        "Redis dies again and again under load",
        redis::killed
    ),
    scenario!(
        "redis-states",
        "everything else that Redis can be",
        redis::states
    ),
    scenario!(
        "redis-full",
        "Redis is at maxmemory all the time",
        redis::full
    ),
    scenario!(
        "sentinel",
        "Redis fails over to another server",
        redis::failover
    ),
    scenario!("down", "Klaviyo is down for a while", upstream::down),
    scenario!(
        "unanswered",
        "one call in ten is accepted and not answered",
        upstream::unanswered
    ),
    scenario!(
        "limits",
        "three replicas are offered twice the account's limit",
        limits::shared
    ),
    scenario!(
        "bad-row",
        "one row of a thousand is wrong",
        answers::bad_row
    ),
    scenario!(
        "revoked",
        "the key is revoked, and works again",
        upstream::revoked
    ),
    scenario!(
        "forbidden",
        "the key may not do one thing",
        upstream::forbidden
    ),
    scenario!(
        "due",
        "very many jobs are due in the same millisecond",
        load::due
    ),
    scenario!(
        "mountains",
        "very many jobs wait, and very large ones",
        load::mountains
    ),
    scenario!("idle", "there is nothing to do", load::idle),
    scenario!("hostile", "answers that mean harm", answers::hostile),
];

/// Not part of the short form unless they are named: what they judge depends on a machine with nothing else to do. The
/// long form runs them alone.
const ALONE_ONLY: &[&str] = &["limits"];

/// Runs what was asked for, prints the table, and says whether everything was as required.
pub(crate) async fn run(arguments: &Arguments) -> bool {
    // A name may be meant for another test program: cargo hands it to all of them.
    for name in &arguments.names {
        if !ALL.iter().any(|scenario| scenario.name == *name) {
            println!("no scenario matches `{name}`; see --list");
        }
    }
    let is_named = |names: &[String], it: &Scenario| names.iter().any(|name| name == it.name);
    let is_wanted = |scenario: &&Scenario| {
        let belongs = arguments
            .size
            .pick(!ALONE_ONLY.contains(&scenario.name), true);
        (arguments.names.is_empty() && belongs || is_named(&arguments.names, scenario))
            && !is_named(&arguments.skipped, scenario)
    };
    if arguments.nothing || !ALL.iter().any(|scenario| is_wanted(&scenario)) {
        println!("nothing to run");
        return true;
    }
    println!("chaos: seed {}", arguments.seed);
    let start = Instant::now();
    let wanted = ALL.iter().enumerate().filter(|(_, it)| is_wanted(it));
    let playing = wanted.map(async |(index, scenario)| (index, play(*scenario, arguments).await));
    let mut outcomes: Vec<(usize, Outcome)> = stream::iter(playing)
        .buffer_unordered(arguments.at_once)
        .collect()
        .await;
    outcomes.sort_by_key(|(index, _)| *index);
    let outcomes: Vec<Outcome> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    println!("\n{}", table(&outcomes));
    let all_ok = outcomes.iter().all(Outcome::is_ok);
    println!(
        "{} in {:.0} s",
        if all_ok { "ok" } else { "FAILED" },
        start.elapsed().as_secs_f64()
    );
    all_ok
}

async fn play(scenario: Scenario, arguments: &Arguments) -> Outcome {
    let start = Instant::now();
    println!("{:<18} {}", scenario.name, scenario.what);
    let stage = Rc::new(Stage::new(arguments.size, arguments.seed));
    let playing = AssertUnwindSafe((scenario.play)(Rc::clone(&stage)));
    let stopped = match playing.catch_unwind().await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(_) => Some("the scenario itself panicked; see above".to_owned()),
    };
    let outcome = Outcome {
        name: scenario.name,
        figures: stage.figures(),
        stopped,
        took: start.elapsed(),
    };
    let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
    println!(
        "{:<18} {verdict} after {:.1} s",
        outcome.name,
        outcome.took.as_secs_f64()
    );
    outcome
}
