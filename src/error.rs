//! What can go wrong, by place and consequence, and how it is told in a log line.

use std::{
    error::Error as StdError,
    fmt::{self, Write as _},
    time::Duration,
};

use tokio_postgres::error::SqlState;

/// Every failure of a stage.
///
/// `doing` says what was attempted, as a phrase that continues "while …".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A database refused a statement, or the link to it broke.
    #[error("{database}: {doing}")]
    Postgres {
        /// Which database: `primary`, or `replica NAME`.
        database: String,
        /// What was attempted.
        doing: String,
        /// The driver's error.
        source: tokio_postgres::Error,
    },
    /// The broker refused an operation, or the link to it broke.
    #[error("broker: {doing}")]
    Broker {
        /// What was attempted.
        doing: String,
        /// The driver's error.
        source: lapin::Error,
    },
    /// No answer within the time limit: the outcome is unknown and the connection is given up.
    #[error("{doing}: no answer within {limit:?}")]
    Timeout {
        /// What was attempted.
        doing: String,
        /// How long we waited.
        limit: Duration,
    },
    /// The link is gone, noticed without an error of the driver.
    #[error("{0}")]
    Disconnected(String),
    /// The state of a database does not fit, and only an operator can mend it: the text names the
    /// thing, the place and the remedy. Tried again at the longest delay until it fits.
    #[error("{0}")]
    Unfit(String),
    /// A failure that lies with one table of a replica.
    #[error(transparent)]
    OfTable(Box<OfTable>),
    /// The broker accepts no messages for now.
    #[error("broker: it accepts no messages: it is short of memory or disk")]
    Blocked,
    /// The root ends: nothing is wrong.
    #[error("ending")]
    Ending,
    /// Another process does this work.
    #[error("{0}")]
    StandBy(String),
    /// Nothing is to be applied to the replica until `pgfanout resume`.
    #[error("the replica is paused")]
    Paused,
}

/// A failure, and the table with which it lies.
#[derive(Debug)]
pub struct OfTable {
    /// Its number on the primary.
    pub id: i32,
    /// Its schema and its name.
    pub table: (String, String),
    error: Error,
}

impl fmt::Display for OfTable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(out)
    }
}

impl StdError for OfTable {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

/// The result of a stage's work.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Builds the adapter for `map_err` that says where and what was attempted.
    pub fn postgres(database: &str, doing: &str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Postgres { database: database.to_owned(), doing: doing.to_owned(), source }
    }

    /// Builds the adapter for `map_err` for the broker.
    pub fn broker(doing: &str) -> impl FnOnce(lapin::Error) -> Self {
        move |source| Self::Broker { doing: doing.to_owned(), source }
    }

    /// Builds the adapter for `map_err` that says with which table of a replica it lies.
    pub fn of_table<'a>(id: i32, schema: &'a str, table: &'a str) -> impl FnOnce(Self) -> Self + use<'a> {
        move |error| match error {
            Self::OfTable(_) => error,
            // Somebody dropped, renamed or moved it just now: the next look at it tells which, and the remedy.
            _ if error.misses(schema, table) => Self::Disconnected(error.chain()),
            _ => Self::OfTable(Box::new(OfTable { id, table: (schema.to_owned(), table.to_owned()), error })),
        }
    }

    /// Whether a database says that there is no table of this name, rather than another one that a trigger looks for.
    fn misses(&self, schema: &str, table: &str) -> bool {
        let missing = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];
        self.sqlstate().is_some_and(|state| missing.contains(state))
            && self.answer().is_some_and(|answer| {
                let message = answer.message();
                message.contains(&format!("\"{schema}.{table}\""))
                    || message.contains(&format!("\"{schema}\""))
            })
    }

    /// The table of a replica with which it lies, if it does not pass by itself.
    #[must_use]
    pub fn refused_table(&self) -> Option<&OfTable> {
        match self {
            Self::OfTable(of) if self.is_refusal() => Some(of),
            _ => None,
        }
    }

    /// Whether a replica does not take what the primary has, until somebody mends that.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.needs_operator() && !self.is_of("primary")
    }

    /// The SQLSTATE, if a database said one.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&SqlState> {
        match self {
            Self::Postgres { source, .. } => source.code(),
            Self::OfTable(of) => of.error.sqlstate(),
            _ => None,
        }
    }

    /// What a database answered, if it did.
    #[must_use]
    pub fn answer(&self) -> Option<&tokio_postgres::error::DbError> {
        match self {
            Self::Postgres { source, .. } => source.as_db_error(),
            Self::OfTable(of) => of.error.answer(),
            _ => None,
        }
    }

    /// Whether it is an answer of this database.
    #[must_use]
    pub fn is_of(&self, name: &str) -> bool {
        match self {
            Self::Postgres { database, .. } => database == name,
            Self::OfTable(of) => of.error.is_of(name),
            _ => false,
        }
    }

    /// Whether the broker sent what cannot be read, and so would send it to every connection.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        let Self::Broker { source, .. } = self else { return false };
        match source.kind() {
            lapin::ErrorKind::ParsingError(_) => true,
            // Told by our own watch on the link.
            lapin::ErrorKind::IOError(error) => error.kind() == std::io::ErrorKind::InvalidData,
            _ => false,
        }
    }

    /// Whether waiting cannot mend it: an operator has to act, so that trying again fast is futile.
    #[must_use]
    pub fn needs_operator(&self) -> bool {
        match self {
            Self::Unfit(_) => true,
            Self::OfTable(of) => of.error.needs_operator(),
            Self::Postgres { source, .. } => source.code().is_some_and(|state| needs_operator(state.code())),
            _ => false,
        }
    }

    /// What an operator is told who has to act: the chain and, where a replica refused what the primary has
    /// taken, what to do.
    #[must_use]
    pub fn halt(&self) -> String {
        match self {
            Self::OfTable(of) => of.error.halt(),
            Self::Postgres { database, .. } if database != "primary" => format!(
                "{}; nothing of it was applied: mend what refuses it there (a constraint, trigger, policy, type or right \
                 that the primary does not have), and it goes on by itself",
                self.chain()
            ),
            _ => self.chain(),
        }
    }

    /// The whole chain of causes in one line, without row values: of a database's answer the
    /// SQLSTATE, message, table, column and constraint, never the DETAIL.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let answer = error.downcast_ref::<tokio_postgres::error::DbError>();
            let _ = match answer {
                Some(answer) => write!(text, ": {}", describe(answer)),
                // Some errors say their causes themselves.
                None if text.ends_with(&error.to_string()) => Ok(()),
                None => write!(text, ": {error}"),
            };
            cause = error.source();
        }
        text
    }
}

/// A database's answer without the parts that may hold row values.
fn describe(answer: &tokio_postgres::error::DbError) -> String {
    // Data exceptions (class 22) quote the offending value in the message itself, and what a function
    // raises (class P0) may hold anything.
    let message = match answer.code().code().get(..2) {
        Some("22") => "a value was not accepted",
        Some("P0") => "a function raised an exception, whose text is in the server's log",
        _ => answer.message(),
    };
    let mut text = format!("{message} (SQLSTATE {}", answer.code().code());
    let places =
        [("table", answer.table()), ("column", answer.column()), ("constraint", answer.constraint())];
    for (name, place) in places {
        if let Some(place) = place {
            let _ = write!(text, ", {name} {place}");
        }
    }
    text.push(')');
    text
}

/// The classes of SQLSTATE that pass by themselves: connection (08), rollback (40), resources (53),
/// object state such as a lock that was not to be had (55), operator intervention (57), system (58).
/// The default is that somebody has to look.
fn needs_operator(sqlstate: &str) -> bool {
    !matches!(sqlstate.get(..2), Some("08" | "40" | "53" | "55" | "57" | "58"))
}
