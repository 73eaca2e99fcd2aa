//! Brings the tables up to this version.
//!
//! Replicas may start at the same time: `PostgreSQL` takes turns by an advisory lock; with a `SQLite` file the one that
//! comes second fails at what the first has just done, looks again, and finds it done. Migrations that this version does
//! not know are left alone: the binary of the release before must run on the tables of the next.

use super::database::{Database, Pool};
use super::error::{Error, code};
use sqlx::Connection as _;
use sqlx::error::DatabaseError;
use sqlx::migrate::{Migrate, MigrateError, Migrator};
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::sleep;

static POSTGRES: Migrator = Migrator {
    ignore_missing: true,
    ..sqlx::migrate!("migrations/postgres")
};
static SQLITE: Migrator = Migrator {
    ignore_missing: true,
    ..sqlx::migrate!("migrations/sqlite")
};
/// Others that start at the same time.
const TRIES_MAX: usize = 40;

/// A migration of this version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its number.
    pub version: i64,
    /// What it brings.
    pub description: String,
    /// Whether the database has it.
    pub state: State,
}

/// Whether the database has a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has.
    Applied,
    /// It has not yet.
    Pending,
}

impl Database {
    /// Lists the migrations of this version, oldest first.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn migrations(&self) -> Result<Vec<Migration>, Error> {
        let applied = self
            .applied()
            .await
            .map_err(Error::query("read which migrations the database has"))?;
        let migrations = self.migrator().iter().map(|migration| Migration {
            version: migration.version,
            description: migration.description.to_string(),
            state: if applied.contains(&migration.version) {
                State::Applied
            } else {
                State::Pending
            },
        });
        Ok(migrations.collect())
    }

    /// Applies what is pending and returns it.
    ///
    /// # Errors
    /// [`Error::Migrate`].
    pub async fn migrate(&self) -> Result<Vec<Migration>, Error> {
        let mut pending = self.migrations().await?;
        pending.retain(|migration| migration.state == State::Pending);
        if pending.is_empty() {
            return Ok(pending);
        }
        for tried in 1.. {
            match self.apply().await {
                Ok(()) => break,
                Err(_) if tried < TRIES_MAX && self.is_shared_file() => {
                    sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(Error::Migrate(error)),
            }
        }
        Ok(pending)
    }

    /// A connection of its own, so that closing it frees the lock whatever happened.
    async fn apply(&self) -> Result<(), MigrateError> {
        match &self.pool {
            Pool::Postgres(pool) => {
                let mut connection = pool.acquire().await?.detach();
                let result = POSTGRES.run_direct(None, &mut connection, false).await;
                connection.close().await?;
                result
            }
            Pool::Sqlite(pool) => {
                let mut connection = pool.acquire().await?;
                SQLITE.run_direct(None, &mut *connection, false).await
            }
        }
    }

    async fn applied(&self) -> sqlx::Result<HashSet<i64>> {
        let listed = match &self.pool {
            Pool::Postgres(pool) => {
                let mut connection = pool.acquire().await?;
                connection
                    .list_applied_migrations(&POSTGRES.table_name)
                    .await
            }
            Pool::Sqlite(pool) => {
                let mut connection = pool.acquire().await?;
                connection.list_applied_migrations(&SQLITE.table_name).await
            }
        };
        match listed {
            Ok(listed) => Ok(listed.into_iter().map(|it| it.version).collect()),
            // A new database has no list.
            Err(MigrateError::Execute(sqlx::Error::Database(error))) if is_no_table(&*error) => {
                Ok(HashSet::new())
            }
            Err(MigrateError::Execute(error)) => Err(error),
            Err(error) => Err(sqlx::Error::Migrate(Box::new(error))),
        }
    }

    fn migrator(&self) -> &'static Migrator {
        match self.pool {
            Pool::Postgres(_) => &POSTGRES,
            Pool::Sqlite(_) => &SQLITE,
        }
    }

    fn is_shared_file(&self) -> bool {
        matches!(self.pool, Pool::Sqlite(_))
    }
}

fn is_no_table(error: &dyn DatabaseError) -> bool {
    // SQLite has one code for every mistake in a text, and a query of the list holds no other.
    matches!(&code(error)[..], "42P01" | "1")
}
