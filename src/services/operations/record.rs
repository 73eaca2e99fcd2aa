//! Puts on record what operators did.
//!
//! What may take long is on record before it begins: a process that is killed on the way leaves a record that says
//! `begun` and not how it ended.

use super::Operations;
use crate::queue::{OperatorAction, RedisResult, record_action};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// An action that is on record as begun.
#[derive(Debug)]
pub(super) struct Begun {
    action: OperatorAction,
    id: String,
}

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Failed,
    Stopped,
}

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
        let action = self.action(action, target, touched, detail);
        record_action(&mut self.redis, &self.keys, &action).await?;
        Ok(())
    }

    /// Puts on record what is about to be done; `detail` is an object.
    pub(super) async fn begin(
        &mut self,
        action: &str,
        target: &str,
        mut detail: Value,
    ) -> RedisResult<Begun> {
        detail["state"] = json!("begun");
        let action = self.action(action, target, 0, detail);
        let id = record_action(&mut self.redis, &self.keys, &action).await?;
        Ok(Begun { action, id })
    }

    /// Completes the record of what was begun with how many jobs it touched, and with what else came of it.
    pub(super) async fn end(
        &mut self,
        Begun { mut action, id }: Begun,
        end: End,
        touched: u64,
        result: Option<(&str, Value)>,
    ) -> RedisResult<()> {
        action.detail["state"] = json!(end.as_str());
        action.detail["ended_at"] = json!(Timestamp::now());
        if let Some((name, result)) = result {
            action.detail[name] = result;
        }
        let action = OperatorAction {
            touched,
            began: Some(id),
            ..action
        };
        record_action(&mut self.redis, &self.keys, &action).await?;
        Ok(())
    }

    fn action(&self, action: &str, target: &str, touched: u64, detail: Value) -> OperatorAction {
        OperatorAction {
            at: Timestamp::now(),
            account: self.keys.account().to_owned(),
            actor: actor(),
            action: action.to_owned(),
            target: target.to_owned(),
            touched,
            detail,
            began: None,
        }
    }
}

impl End {
    /// How something ended that fails, or that stops when it is asked to.
    pub(super) fn of<T, E>(result: &Result<T, E>, stop: &CancellationToken) -> Self {
        match result {
            Err(_) => Self::Failed,
            Ok(_) if stop.is_cancelled() => Self::Stopped,
            Ok(_) => Self::Done,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// Who runs this process, as `user@host`.
fn actor() -> String {
    let or_unknown = |name: whoami::Result<String>| name.unwrap_or_else(|_| "unknown".to_owned());
    let (user, host) = (whoami::username(), whoami::hostname());
    format!("{}@{}", or_unknown(user), or_unknown(host))
}
