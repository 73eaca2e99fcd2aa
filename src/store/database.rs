//! The two databases behind one way to ask them.
//!
//! A query is a text with `$1`, which both understand, and values. It is not sqlx's `Any`: that knows neither NULL
//! blobs nor the types of the two.

use super::error::{Error, code};
use sqlx::database::HasStatementCache;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{
    ConnectOptions, Decode, Encode, PgPool, Postgres, Row as _, SqlSafeStr, SqlStr, Sqlite,
    SqlitePool, Type,
};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const CONNECTIONS_MAX: u32 = 4;
/// How long one waits for a free connection, and for the lock that another process holds.
const WAIT_MAX: Duration = Duration::from_secs(5);
const FIRST_CONTACT: Duration = Duration::from_secs(15);
const TRY_EVERY: Duration = Duration::from_millis(250);

/// A database that was reached. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Database {
    pub(super) pool: Pool,
}

#[derive(Clone, Debug)]
pub(super) enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Database {
    /// Connects, trying for 15 seconds. A `SQLite` file that is missing is created.
    ///
    /// # Errors
    /// [`Error::Address`] and [`Error::Unreachable`].
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let deadline = Instant::now() + FIRST_CONTACT;
        loop {
            match Self::try_connect(url, true).await {
                Err(Error::Unreachable(error))
                    if Instant::now() < deadline && could_pass(&error) =>
                {
                    sleep(TRY_EVERY).await;
                }
                result => return result,
            }
        }
    }

    /// Connects to a database that is there already, trying once.
    ///
    /// # Errors
    /// [`Error::Address`] and [`Error::Unreachable`].
    pub async fn look(url: &str) -> Result<Self, Error> {
        Self::try_connect(url, false).await
    }

    /// Returns the file behind the address of a `SQLite` database; `None` for any other address.
    pub fn file(url: &str) -> Option<PathBuf> {
        if !url.starts_with("sqlite:") {
            return None;
        }
        let options: SqliteConnectOptions = url.parse().ok()?;
        Some(options.get_filename().to_owned())
    }

    async fn try_connect(url: &str, create: bool) -> Result<Self, Error> {
        let pool = if url.starts_with("sqlite:") {
            let options: SqliteConnectOptions = url.parse().map_err(Error::Address)?;
            let options = options
                .create_if_missing(create)
                .journal_mode(SqliteJournalMode::Wal)
                // A power failure may take the newest rows of the audit along, never the file.
                .synchronous(SqliteSynchronous::Normal)
                .busy_timeout(WAIT_MAX)
                .foreign_keys(true)
                .disable_statement_logging();
            let pool = SqlitePoolOptions::new()
                .max_connections(CONNECTIONS_MAX)
                .acquire_timeout(WAIT_MAX);
            Pool::Sqlite(
                pool.connect_with(options)
                    .await
                    .map_err(Error::Unreachable)?,
            )
        } else {
            let options: PgConnectOptions = url.parse().map_err(Error::Address)?;
            let options = options
                .application_name("klaviyod")
                .disable_statement_logging();
            let pool = PgPoolOptions::new()
                .max_connections(CONNECTIONS_MAX)
                .acquire_timeout(WAIT_MAX);
            Pool::Postgres(
                pool.connect_with(options)
                    .await
                    .map_err(Error::Unreachable)?,
            )
        };
        Ok(Self { pool })
    }

    /// Closes all connections.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Postgres(pool) => pool.close().await,
            Pool::Sqlite(pool) => pool.close().await,
        }
    }

    pub(super) async fn read(&self, statement: Statement) -> sqlx::Result<Vec<Row>> {
        match &self.pool {
            Pool::Postgres(pool) => {
                let rows = statement.bound::<Postgres>().fetch_all(pool).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
            Pool::Sqlite(pool) => {
                let rows = statement.bound::<Sqlite>().fetch_all(pool).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
        }
    }

    /// Runs all of them or none, and returns how many rows they touched.
    pub(super) async fn write(&self, statements: Vec<Statement>) -> sqlx::Result<u64> {
        let mut touched = 0;
        match &self.pool {
            Pool::Postgres(pool) => {
                let mut transaction = pool.begin().await?;
                for statement in statements {
                    let query = statement.bound::<Postgres>();
                    touched += query.execute(&mut *transaction).await?.rows_affected();
                }
                transaction.commit().await?;
            }
            Pool::Sqlite(pool) => {
                // At once for writing: who begins by reading is refused when another wrote meanwhile.
                let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
                for statement in statements {
                    let query = statement.bound::<Sqlite>();
                    touched += query.execute(&mut *transaction).await?.rows_affected();
                }
                transaction.commit().await?;
            }
        }
        Ok(touched)
    }
}

/// One statement and its values.
#[derive(Debug)]
pub(super) struct Statement {
    sql: SqlStr,
    values: Vec<Value>,
    is_kept: bool,
}

/// A value of a statement.
#[derive(Debug)]
pub(super) enum Value {
    Blob(Option<Vec<u8>>),
    Int(Option<i64>),
    Text(Option<String>),
}

impl Statement {
    pub(super) fn new(sql: &'static str, values: impl IntoIterator<Item = Value>) -> Self {
        Self {
            sql: sql.into_sql_str(),
            values: values.into_iter().collect(),
            is_kept: true,
        }
    }

    /// A text made at run time, of constants only.
    pub(super) fn made(sql: SqlStr, values: Vec<Value>, is_kept: bool) -> Self {
        Self {
            sql,
            values,
            is_kept,
        }
    }

    fn bound<DB>(self) -> Query<'static, DB, DB::Arguments>
    where
        DB: sqlx::Database + HasStatementCache,
        Option<Vec<u8>>: for<'q> Encode<'q, DB> + Type<DB>,
        Option<i64>: for<'q> Encode<'q, DB> + Type<DB>,
        Option<String>: for<'q> Encode<'q, DB> + Type<DB>,
    {
        let mut query = sqlx::query::<DB>(self.sql).persistent(self.is_kept);
        for value in self.values {
            query = match value {
                Value::Blob(value) => query.bind(value),
                Value::Int(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
            };
        }
        query
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        // PostgreSQL refuses the zero byte in a text, and with it the whole batch; JSON allows it in an id.
        let text = if text.contains('\0') {
            text.replace('\0', "\u{fffd}")
        } else {
            text
        };
        Self::Text(Some(text))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::Text(None), Self::from)
    }
}

/// One row of an answer.
pub(super) enum Row {
    Postgres(PgRow),
    Sqlite(SqliteRow),
}

impl Row {
    pub(super) fn get<T>(&self, column: &'static str) -> sqlx::Result<T>
    where
        T: for<'r> Decode<'r, Postgres> + Type<Postgres>,
        T: for<'r> Decode<'r, Sqlite> + Type<Sqlite>,
    {
        match self {
            Self::Postgres(row) => row.try_get(column),
            Self::Sqlite(row) => row.try_get(column),
        }
    }
}

/// Whether trying again could help: a wrong password or a missing folder stays what it is.
fn could_pass(error: &sqlx::Error) -> bool {
    const CANNOT_OPEN: &str = "14";
    match error {
        sqlx::Error::Database(error) => {
            let code = code(&**error);
            // PostgreSQL: a refused login, a database that does not exist.
            !(code.starts_with("28") || code == "3D000" || code == CANNOT_OPEN)
        }
        sqlx::Error::Configuration(_) => false,
        _ => true,
    }
}
