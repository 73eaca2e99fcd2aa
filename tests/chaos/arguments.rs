//! What may stand behind `cargo test --test chaos --`.

use super::stage::Size;

const USAGE: &str =
    "usage: cargo test --test chaos -- [NAME...] [--long] [--seed N] [--at-once N] [--list]";

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
}

impl Arguments {
    pub(crate) fn read(mut given: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self {
            list: false,
            size: Size::Short,
            seed: rand::random::<u32>().into(),
            at_once: 0,
            names: Vec::new(),
        };
        let number = |given: &mut dyn Iterator<Item = String>| {
            let text = given.next().ok_or(USAGE)?;
            text.parse::<u64>().map_err(|_| USAGE.to_owned())
        };
        while let Some(argument) = given.next() {
            match argument.as_str() {
                "--list" => arguments.list = true,
                "--long" => arguments.size = Size::Long,
                "--seed" => arguments.seed = number(&mut given)?,
                "--at-once" => {
                    arguments.at_once = usize::try_from(number(&mut given)?).unwrap_or(1);
                }
                // What cargo and its likes hand to every test program.
                "--nocapture" | "--quiet" | "-q" | "--show-output" => {}
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
