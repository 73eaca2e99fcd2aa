//! `migrate`: brings the database up to this version; `--adopt` makes it the one that Redis belongs to.

use super::{Global, output};
use crate::config::Need;
use crate::queue::{Redis, adopt_deployment};
use crate::services::operations::Operations;
use crate::store::{Database, Migration, State, Store};
use output::Output;
use secrecy::ExposeSecret;
use serde_json::json;
use std::process::ExitCode;

#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Arguments {
    /// Change nothing; exit 1 when something is pending, 3 when there is no database yet
    #[arg(long, conflicts_with = "adopt")]
    check: bool,
    /// Make this database the one that Redis belongs to, because the one before is lost
    #[arg(long)]
    adopt: bool,
}

pub(super) async fn run(global: &Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = global.load(Need::Redis)?;
    let url = config.database_url.expose_secret();
    let database = if arguments.check {
        Database::look(url).await?
    } else {
        Database::connect(url).await?
    };
    let before = database.migrations().await?;
    if !arguments.check {
        database.migrate().await?;
    }
    print(global, &before, arguments.check)?;
    if arguments.adopt {
        let store = Store::open(database, config.hash_key.as_ref()).await?;
        let redis = Redis::at(config.redis_url.expose_secret())?;
        let mut redis = redis.connect().await?;
        // All accounts share the database, and there may be none that is called `default`.
        let account = config
            .account(&global.account)
            .or_else(|error| config.accounts.first().ok_or(error));
        let keys = account?.keys.clone();
        let before = adopt_deployment(&mut redis, &keys, store.deployment()).await?;
        let detail = json!({ "before": before });
        Operations::new(redis, keys)
            .record("deployment.adopt", store.deployment(), 0, detail)
            .await?;
        output::complain(&format!(
            "Redis now belongs to this database, {}",
            store.deployment()
        ));
    }
    let is_pending = before.iter().any(|it| it.state == State::Pending);
    Ok(if arguments.check && is_pending {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn print(global: &Global, migrations: &[Migration], check: bool) -> anyhow::Result<()> {
    let state = |migration: &Migration| match (migration.state, check) {
        (State::Applied, _) => "there",
        (State::Pending, true) => "pending",
        (State::Pending, false) => "applied",
    };
    match Output::or_fitting(global.output) {
        Output::Json => {
            let migrations: Vec<_> = migrations
                .iter()
                .map(|it| json!({"version": it.version, "description": it.description, "state": state(it)}))
                .collect();
            output::json(&migrations)
        }
        Output::Table => {
            let rows: Vec<Vec<String>> = migrations
                .iter()
                .map(|it| {
                    vec![
                        it.version.to_string(),
                        it.description.clone(),
                        state(it).to_owned(),
                    ]
                })
                .collect();
            output::table(&["VERSION", "DESCRIPTION", "STATE"], &rows)
        }
    }
}
