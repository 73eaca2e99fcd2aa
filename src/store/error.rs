//! What can go wrong with the database.

use sqlx::error::DatabaseError;

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the address of a database.
    #[error(
        "`database.url` is not an address; write sqlite://klaviyod.db or postgres://user@host/name"
    )]
    Address(#[source] sqlx::Error),
    /// It did not answer for 15 seconds, or it refuses us.
    #[error("failed to reach the database; check KLAVIYOD_DATABASE_URL and that the server runs")]
    Unreachable(#[source] sqlx::Error),
    /// Its tables are older than this program.
    #[error("the database lacks {0} migrations of this version; run `klaviyod migrate`")]
    Behind(usize),
    /// A migration failed.
    #[error("failed to apply the migrations of the database")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// It took too long to answer.
    #[error("failed to get an answer of the database in time")]
    NoAnswer,
    /// A query failed.
    #[error("failed to {doing}")]
    Query {
        /// What for.
        doing: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
}

impl Error {
    /// Whether the database was not reached at all.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }

    /// Whether the same can never be stored: trying again is in vain.
    pub fn is_about_data(&self) -> bool {
        let Self::Query { source, .. } = self else {
            return false;
        };
        match source {
            sqlx::Error::Database(error) => match &code(&**error)[..] {
                // SQLite: too big, constraint, mismatch.
                "18" | "19" | "20" => true,
                // PostgreSQL: data exception, integrity constraint violation.
                code => code.len() == 5 && (code.starts_with("22") || code.starts_with("23")),
            },
            sqlx::Error::Encode(_) => true,
            _ => false,
        }
    }

    pub(super) fn query(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Query { doing, source }
    }
}

/// The code of an error: five characters of `PostgreSQL`, or the number of `SQLite` without its extension.
pub(super) fn code(error: &dyn DatabaseError) -> String {
    let code = error.code().unwrap_or_default();
    match code.parse::<u32>() {
        Ok(number) if code.len() < 5 => (number & 0xff).to_string(),
        _ => code.into_owned(),
    }
}
