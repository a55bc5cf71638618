//! `--skip-COND`, `--warn-COND` and `--fail-COND`: what becomes of a condition. The later option counts,
//! but that a failure is stronger than a warning.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::restart::Conditions;

/// What becomes of a condition.
#[derive(Debug, Clone, Copy)]
enum Then {
    Skip,
    Warn,
    Fail,
}
use Then::{Fail, Skip, Warn};

const ANY: i64 = Conditions::PIDZERO | Conditions::MNTPROC | Conditions::MNTPTY;

/// All options, with their help texts.
const OPTIONS: [(&str, Then, i64, &str); 12] = [
    ("skip-any", Skip, ANY, "Say nothing about any of the conditions below"),
    ("warn-any", Warn, ANY, "Warn about each of them"),
    ("fail-any", Fail, ANY, "Fail on any of them"),
    ("skip-pidzero", Skip, Conditions::PIDZERO, "Say nothing about a pid number 0 (default)"),
    ("warn-pidzero", Warn, Conditions::PIDZERO, "Warn about a pid number 0 without --pidns"),
    ("fail-pidzero", Fail, Conditions::PIDZERO, "Fail on a pid number 0 without --pidns"),
    ("skip-mntproc", Skip, Conditions::MNTPROC, "Say nothing where /proc cannot be unmounted"),
    ("warn-mntproc", Warn, Conditions::MNTPROC, "Warn where /proc cannot be unmounted (default)"),
    ("fail-mntproc", Fail, Conditions::MNTPROC, "Fail where /proc cannot be unmounted"),
    ("skip-mntpty", Skip, Conditions::MNTPTY, "Say nothing where /dev/pts cannot be unmounted"),
    ("warn-mntpty", Warn, Conditions::MNTPTY, "Warn where /dev/pts cannot be unmounted (default)"),
    ("fail-mntpty", Fail, Conditions::MNTPTY, "Fail where /dev/pts cannot be unmounted"),
];

/// The conditions that the options come to.
#[derive(Debug)]
pub struct Chosen {
    pub warn: Conditions,
    pub fail: Conditions,
}

impl Chosen {
    fn apply(&mut self, then: Then, condition: i64) {
        match then {
            Skip => {
                self.warn.0 &= !condition;
                self.fail.0 &= !condition;
            }
            Warn => self.warn.0 |= condition,
            Fail => self.fail.0 |= condition,
        }
    }
}

impl Args for Chosen {
    fn augment_args(command: Command) -> Command {
        command.args(OPTIONS.map(|(name, _, _, help)| {
            Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Chosen::augment_args(command)
    }
}

impl FromArgMatches for Chosen {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Chosen, clap::Error> {
        let mut chosen = Chosen { warn: Conditions::USUAL, fail: Conditions(0) };
        chosen.update_from_arg_matches(matches)?;
        Ok(chosen)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let mut given: Vec<_> = OPTIONS
            .iter()
            .filter(|(name, ..)| matches.value_source(name) == Some(ValueSource::CommandLine))
            .filter_map(|&(name, then, of, _)| Some((matches.index_of(name)?, then, of)))
            .collect();
        given.sort_by_key(|(place, ..)| *place);
        for (_, then, condition) in given {
            self.apply(then, condition);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &str) -> (i64, i64) {
        let command = Chosen::augment_args(Command::new("x").no_binary_name(true));
        let matches = command.args_override_self(true).get_matches_from(words.split_whitespace());
        let chosen = Chosen::from_arg_matches(&matches).expect("conditions");
        (chosen.warn.0, chosen.fail.0)
    }

    #[test]
    fn the_later_option_counts() {
        assert_eq!(of(""), (6, 0));
        assert_eq!(of("--skip-any"), (0, 0));
        assert_eq!(of("--skip-any --warn-mntpty"), (4, 0));
        assert_eq!(of("--fail-any --skip-pidzero"), (2 | 4, 2 | 4));
        assert_eq!(of("--skip-pidzero --fail-any --warn-any"), (7, 7));
        assert_eq!(of("--warn-any --skip-mntproc --warn-any --warn-pidzero"), (7, 0));
        assert_eq!(of("--skip-mntproc --fail-mntproc --skip-mntproc"), (4, 0));
    }
}
