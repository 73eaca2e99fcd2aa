//! The names of everything producers and the daemon share in Redis.
//!
//! All keys of an account carry `{<account>}`, so that they lie on one Cluster slot and one script may combine them.
//! Claims are stored under the SHA-1 of their text: ids may say who bought what, and keys are seen by operators.

use crate::invalid::{Invalid, code};

/// The consumer group of the daemon on every stream.
pub const GROUP: &str = "klaviyod";
/// The prefix of an installation that did not choose its own.
pub const PREFIX_DEFAULT: &str = "klaviyod";
/// The account of a single-account installation.
pub const ACCOUNT_DEFAULT: &str = "default";

/// A lane of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Read first.
    Urgent,
    /// The usual one.
    #[default]
    Live,
    /// Read with what the other lanes leave; events start no flows.
    Backfill,
}

impl Lane {
    /// All lanes, in the order in which they are read.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Live, Self::Backfill];

    /// Returns the lane's stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Live => "live",
            Self::Backfill => "backfill",
        }
    }

    /// Finds a lane by its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.as_str() == name)
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Urgent => ":urgent",
            Self::Live => "",
            Self::Backfill => ":backfill",
        }
    }
}

/// The keys of one account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keys {
    account: String,
    base: String,
}

impl Keys {
    /// Creates the keys of an account.
    ///
    /// # Errors
    /// [`Invalid`] if the account is not 1 to 64 of `a-z`, `0-9`, `_` and `-`, or if the prefix is empty or holds
    /// braces or spaces.
    pub fn new(prefix: &str, account: &str) -> Result<Self, Invalid> {
        let in_account = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')
        };
        if !(1..=64).contains(&account.len()) || !account.bytes().all(in_account) {
            return Err(Invalid::new(
                code::ACCOUNT,
                "an account name has 1 to 64 characters of a-z, 0-9, _ and -",
            ));
        }
        let in_prefix = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}');
        if prefix.is_empty() || !prefix.bytes().all(in_prefix) {
            return Err(Invalid::new(
                code::PREFIX,
                "a key prefix is printable ASCII without spaces and braces",
            ));
        }
        Ok(Self {
            account: account.to_owned(),
            base: format!("{prefix}:{{{account}}}"),
        })
    }

    /// Returns the name of the account.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// Returns what all keys of the account begin with, without the last colon.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Returns the stream of a queue's lane.
    pub fn queue(&self, queue: &str, lane: Lane) -> String {
        format!("{}:{queue}{}", self.base, lane.suffix())
    }

    /// Returns the sorted set of a queue's delayed jobs, by due time in milliseconds.
    pub fn delayed(&self, queue: &str) -> String {
        format!("{}:{queue}:delayed", self.base)
    }

    /// Returns the stream of a queue's dead jobs.
    pub fn dead(&self, queue: &str) -> String {
        format!("{}:{queue}:dead", self.base)
    }

    /// Returns the key that holds the id of the installation's database; all accounts of a prefix share it.
    pub fn deployment(&self) -> String {
        let prefix = self.base.rsplit_once(":{").map_or("", |(prefix, _)| prefix);
        format!("{prefix}:deployment")
    }

    /// Returns the stream of what operators did, until the database has it.
    pub fn operator_actions(&self) -> String {
        format!("{}:operator-actions", self.base)
    }

    /// Returns the key that claims `text`, as [`crate::Job::claim`] returns it.
    pub fn claim(&self, text: &str) -> String {
        self.claim_of_hash(&claim_hash(text))
    }

    /// Returns the key of a claim by the hash that stands on the entry as `claim`.
    pub fn claim_of_hash(&self, hash: &str) -> String {
        format!("{}:claim:{hash}", self.base)
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self::new(PREFIX_DEFAULT, ACCOUNT_DEFAULT).expect("the defaults are valid")
    }
}

/// Returns the hash of a claim's text: SHA-1 in hexadecimal, as `redis.sha1hex` computes it.
pub fn claim_hash(text: &str) -> String {
    // A script is known to Redis by the SHA-1 of its text; its client computes just that.
    redis::Script::new(text).get_hash().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_interface() {
        let keys = Keys::default();
        assert_eq!(
            keys.queue("event-tracking", Lane::Live),
            "klaviyod:{default}:event-tracking"
        );
        assert_eq!(
            keys.queue("consent", Lane::Urgent),
            "klaviyod:{default}:consent:urgent"
        );
        assert_eq!(
            keys.queue("event-tracking", Lane::Backfill),
            "klaviyod:{default}:event-tracking:backfill"
        );
        assert_eq!(keys.delayed("lists"), "klaviyod:{default}:lists:delayed");
        assert_eq!(keys.dead("lists"), "klaviyod:{default}:lists:dead");
        assert_eq!(keys.deployment(), "klaviyod:deployment");
        let other = Keys::new("shop:klaviyod", "eu").expect("both are valid");
        assert_eq!(other.deployment(), "shop:klaviyod:deployment");
    }

    #[test]
    fn a_claim_is_the_sha_1_of_its_text_and_never_the_text() {
        assert_eq!(
            claim_hash("abc"),
            "a9993e364706816aba3e25717850c26c9cd0d89d"
        );
        assert_eq!(
            Keys::default().claim("abc"),
            "klaviyod:{default}:claim:a9993e364706816aba3e25717850c26c9cd0d89d"
        );
    }

    #[test]
    fn an_account_name_that_would_break_a_key_is_refused() {
        for bad in ["", "Shop", "a}b", "a:b", "a b", &"a".repeat(65)] {
            assert!(Keys::new("klaviyod", bad).is_err(), "{bad}");
        }
        assert!(Keys::new("", "default").is_err() && Keys::new("a{b", "default").is_err());
        assert!(Keys::new("shop:klaviyod", "eu_2-b").is_ok());
    }
}
