//! The opened store, and the random id that tells one database from another.

use super::database::{Database, Statement};
use super::error::Error;
use super::hash::IdHasher;
use super::migrations::State;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

/// A database whose tables are those of this version.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) database: Database,
    deployment: String,
    hasher: IdHasher,
}

impl Store {
    /// Opens a migrated database. Ids are hashed with `hash_key`, else with the id of the deployment.
    ///
    /// # Errors
    /// [`Error::Behind`] if migrations are pending.
    pub async fn open(database: Database, hash_key: Option<&SecretString>) -> Result<Self, Error> {
        let migrations = database.migrations().await?;
        let pending = migrations.iter().filter(|it| it.state == State::Pending);
        match pending.count() {
            0 => {}
            pending => return Err(Error::Behind(pending)),
        }
        let deployment = deployment(&database)
            .await
            .map_err(Error::query("read the id of the deployment"))?;
        let key = hash_key.map_or(deployment.as_bytes(), |key| key.expose_secret().as_bytes());
        Ok(Self {
            hasher: IdHasher::new(key),
            database,
            deployment,
        })
    }

    /// The random id of this database.
    pub fn deployment(&self) -> &str {
        &self.deployment
    }

    /// What makes the hashes of the audit.
    pub fn hasher(&self) -> &IdHasher {
        &self.hasher
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.database.close().await;
    }
}

impl Database {
    /// Returns the id of the deployment without making one; the tables must be there.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn deployment(&self) -> Result<Option<String>, Error> {
        let failed = Error::query("read the id of the deployment");
        let rows = self.read(select()).await;
        let id = rows.and_then(|rows| rows.first().map(|row| row.get("id")).transpose());
        id.map_err(failed)
    }
}

fn select() -> Statement {
    Statement::new("SELECT id FROM deployment", [])
}

async fn deployment(database: &Database) -> sqlx::Result<String> {
    let id = format!("{:032x}", rand::random::<u128>());
    let now = Timestamp::now().as_millisecond();
    let insert = Statement::new(
        "INSERT INTO deployment (only_row, id, created_ms) VALUES (1, $1, $2) ON CONFLICT DO NOTHING",
        [id.into(), now.into()],
    );
    if let Some(row) = database.read(select()).await?.first() {
        return row.get("id");
    }
    database.write(vec![insert]).await?;
    let rows = database.read(select()).await?;
    rows.first().ok_or(sqlx::Error::RowNotFound)?.get("id")
}
