//! What operators did.

use super::database::{Statement, Value};
use super::deployment::Store;
use super::error::Error;
use jiff::Timestamp;

/// What an operator did, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The account.
    pub account: String,
    /// The record's place in the outbox, by which it is kept once.
    pub stream_id: String,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// On what.
    pub target: String,
    /// How many jobs it touched.
    pub touched: u64,
    /// What else is worth knowing, in JSON.
    pub detail: String,
}

impl Store {
    /// Keeps what operators did. What is kept already is left alone.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn keep_actions(&self, actions: &[Action]) -> Result<(), Error> {
        self.write_actions(
            actions,
            "INSERT INTO operator_actions (account, stream_id, at_ms, actor, action, target, touched, detail) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (account, stream_id) DO NOTHING",
        )
        .await
    }

    /// Keeps how actions ended: what was kept when they began is completed.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn complete_actions(&self, actions: &[Action]) -> Result<(), Error> {
        self.write_actions(
            actions,
            "INSERT INTO operator_actions (account, stream_id, at_ms, actor, action, target, touched, detail) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (account, stream_id) \
             DO UPDATE SET touched = excluded.touched, detail = excluded.detail",
        )
        .await
    }

    async fn write_actions(&self, actions: &[Action], sql: &'static str) -> Result<(), Error> {
        let insert = |action: &Action| {
            Statement::new(
                sql,
                [
                    action.account.as_str().into(),
                    action.stream_id.as_str().into(),
                    action.at.as_millisecond().into(),
                    action.actor.as_str().into(),
                    action.action.as_str().into(),
                    action.target.as_str().into(),
                    i64::try_from(action.touched).unwrap_or(i64::MAX).into(),
                    action.detail.as_str().into(),
                ],
            )
        };
        let inserts = actions.iter().map(insert).collect();
        let written = self.database.write(inserts).await;
        written
            .map(|_| ())
            .map_err(Error::query("keep what operators did"))
    }

    /// Returns what operators of an account did, newest first.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn actions(&self, account: &str, limit: u32) -> Result<Vec<Action>, Error> {
        let select = Statement::new(
            "SELECT account, stream_id, at_ms, actor, action, target, touched, detail FROM operator_actions \
             WHERE account = $1 ORDER BY at_ms DESC, entry DESC LIMIT $2",
            [Value::from(account), i64::from(limit).into()],
        );
        let rows = self.database.read(select).await;
        let actions = rows.and_then(|rows| {
            rows.iter()
                .map(|row| {
                    let at = Timestamp::from_millisecond(row.get("at_ms")?);
                    Ok(Action {
                        account: row.get("account")?,
                        stream_id: row.get("stream_id")?,
                        at: at.unwrap_or(Timestamp::UNIX_EPOCH),
                        actor: row.get("actor")?,
                        action: row.get("action")?,
                        target: row.get("target")?,
                        touched: u64::try_from(row.get::<i64>("touched")?).unwrap_or(0),
                        detail: row.get("detail")?,
                    })
                })
                .collect()
        });
        actions.map_err(Error::query("read what operators did"))
    }
}
