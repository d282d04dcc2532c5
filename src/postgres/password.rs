//! Where a password stands, and what it is at this moment.

use std::path::{Path, PathBuf};

use tokio_postgres::Config;

use super::pgpass;
use crate::secret::{self, Secret};

/// Where the password of a database stands. Files are read for each connection, so that a password may change
/// while we run.
#[derive(Clone, Debug)]
pub enum Password {
    /// In the connection string, if there is one.
    Given,
    /// In the first line of a file.
    File(PathBuf),
    /// In a file of libpq, if it has a line for the database.
    PgPass(PathBuf),
}

impl Password {
    /// What the file says now; none if the connection string is complete, or has to do without.
    ///
    /// # Errors
    /// What is wrong with the file, and the remedy.
    pub fn now(&self, config: &Config) -> Result<Option<Secret>, String> {
        match self {
            Self::Given => Ok(None),
            Self::File(file) => secret::read_password(file).map(Some),
            Self::PgPass(file) => pgpass::password(file, config),
        }
    }

    /// The file that is read.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Given => None,
            Self::File(file) | Self::PgPass(file) => Some(file),
        }
    }
}
