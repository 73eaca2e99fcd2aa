//! What may stand behind `cargo test --test chaos --`.

use super::stage::Size;

const USAGE: &str =
    "usage: cargo test --test chaos -- [NAME...] [--long] [--seed N] [--at-once N] [--list]";

/// What cargo hands to every test program, and what changes nothing here.
const OF_CARGO: [&str; 11] = [
    "--bench",
    "--ensure-time",
    "--exact",
    "--exclude-should-panic",
    "--include-ignored",
    "--no-capture",
    "--nocapture",
    "--quiet",
    "--show-output",
    "--test",
    "-q",
];
/// The same, with a value behind it or behind `=`.
const OF_CARGO_WITH_VALUE: [&str; 7] = [
    "--color",
    "--format",
    "--logfile",
    "--shuffle-seed",
    "--skip",
    "--test-threads",
    "-Z",
];

/// How the suite is to run.
#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    pub(crate) list: bool,
    pub(crate) size: Size,
    /// Where chance begins, so that a run can be repeated.
    pub(crate) seed: u64,
    pub(crate) at_once: usize,
    /// Which scenarios; all of them if none is named.
    pub(crate) names: Vec<String>,
    /// Which scenarios are left out.
    pub(crate) skipped: Vec<String>,
    /// Whether what was asked for is nothing at all.
    pub(crate) nothing: bool,
}

impl Arguments {
    pub(crate) fn read(mut given: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self {
            list: false,
            size: Size::Short,
            seed: rand::random::<u32>().into(),
            at_once: 0,
            names: Vec::new(),
            skipped: Vec::new(),
            nothing: false,
        };
        let number = |given: &mut dyn Iterator<Item = String>| {
            let text = given.next().ok_or(USAGE)?;
            text.parse::<u64>().map_err(|_| USAGE.to_owned())
        };
        while let Some(argument) = given.next() {
            let (name, mut value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            if OF_CARGO_WITH_VALUE.contains(&name) {
                let value = value.take().or_else(|| given.next()).ok_or(USAGE)?;
                match name {
                    "--skip" => arguments.skipped.push(value),
                    "--test-threads" => arguments.at_once = value.parse().map_err(|_| USAGE)?,
                    _ => {}
                }
                continue;
            }
            match argument.as_str() {
                "--list" => arguments.list = true,
                "--long" => arguments.size = Size::Long,
                "--seed" => arguments.seed = number(&mut given)?,
                "--at-once" => {
                    arguments.at_once = usize::try_from(number(&mut given)?).unwrap_or(1);
                }
                // No scenario is ignored, so there is nothing to run.
                "--ignored" => arguments.nothing = true,
                flag if OF_CARGO.contains(&flag) => {}
                name if name.starts_with('-') => return Err(USAGE.to_owned()),
                name => arguments.names.push(name.to_owned()),
            }
        }
        if arguments.at_once == 0 {
            // Full sizes are figures: nothing else may run beside them.
            arguments.at_once = arguments.size.pick(3, 1);
        }
        Ok(arguments)
    }
}
