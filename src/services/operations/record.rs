//! Puts on record what operators did.

use super::Operations;
use crate::queue::{OperatorAction, RedisResult, record_action};
use jiff::Timestamp;
use serde_json::Value;

impl Operations {
    /// Puts on record what the operator who runs this process did: `action` such as `dlq.replay`, on `target`, which
    /// touched so many jobs. Neither `target` nor `detail` may hold anything of people.
    ///
    /// # Errors
    /// Redis' own.
    pub async fn record(
        &mut self,
        action: &str,
        target: &str,
        touched: u64,
        detail: Value,
    ) -> RedisResult<()> {
        let action = OperatorAction {
            at: Timestamp::now(),
            account: self.keys.account().to_owned(),
            actor: actor(),
            action: action.to_owned(),
            target: target.to_owned(),
            touched,
            detail,
        };
        record_action(&mut self.redis, &self.keys, &action).await
    }
}

/// Who runs this process, as `user@host`.
fn actor() -> String {
    let or_unknown = |name: whoami::Result<String>| name.unwrap_or_else(|_| "unknown".to_owned());
    let (user, host) = (whoami::username(), whoami::hostname());
    format!("{}@{}", or_unknown(user), or_unknown(host))
}
