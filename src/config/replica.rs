//! `[[replica]]`

use super::{
    ExistingRows, OnTableError, Primary, Replica,
    postgres_url::{self, targets},
    section::Section,
};
use crate::postgres::Database;

const EXISTING_ROWS: [(&str, ExistingRows); 2] =
    [("refuse", ExistingRows::Refuse), ("replace", ExistingRows::Replace)];

const ON_TABLE_ERROR: [(&str, OnTableError); 2] =
    [("halt", OnTableError::Halt), ("isolate", OnTableError::Isolate)];

/// Of the bytes of a name: what PostgreSQL and log readers take for a short one.
const MAX_NAME_BYTES: usize = 63;

/// The queue of messages that were refused has this name.
const RESERVED: &str = "rejected";

/// All `[[replica]]` sections, and that they differ from each other and from the primary.
pub(super) fn read(sections: &[Section<'_>], primary: Option<&Primary>) -> Vec<Replica> {
    let mut replicas: Vec<Replica> = Vec::new();
    for section in sections {
        let Some(replica) = replica(section) else { continue };
        let document = section.document;
        if replicas.iter().any(|other| other.name == replica.name) {
            let why =
                format!("{:?} is the name of another replica too; give each a name of its own", replica.name);
            document.refuse(&section.path("name"), why);
        }
        let others = replicas.iter().map(|other| &other.database);
        let mut others = primary.map(|primary| &primary.database).into_iter().chain(others);
        if let Some(other) = others.find(|other| is_same(other, &replica.database)) {
            let why = format!("leads to the same database as {}; each must be one of its own", other.name);
            document.refuse(&section.path("url"), why);
        }
        replicas.push(replica);
    }
    replicas
}

fn replica(section: &Section<'_>) -> Option<Replica> {
    let given = section.text("name");
    let database = postgres_url::read(section, "replica");
    let existing_rows = section.choice("existing_rows", &EXISTING_ROWS).unwrap_or(ExistingRows::Refuse);
    let on_table_error = section.choice("on_table_error", &ON_TABLE_ERROR).unwrap_or(OnTableError::Halt);
    section.finish();
    if let Some(name) = &given
        && let Err(why) = check_name(&name.value)
    {
        section.document.refuse(&name.key, why);
    }
    let mut database = database?;
    let name = given.map_or_else(|| name_of(&database), |text| text.value);
    database.name = format!("replica {name}");
    Some(Replica { name, database, existing_rows, on_table_error })
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.-".contains(c)
}

/// Whether a replica may be called so.
///
/// # Errors
/// What was found, and what is expected.
pub fn check_name(name: &str) -> Result<(), String> {
    if !(1..=MAX_NAME_BYTES).contains(&name.len()) || !name.chars().all(is_allowed) {
        return Err(format!("found {name:?}, expected 1 to {MAX_NAME_BYTES} of A-Z a-z 0-9 _ . -"));
    }
    if name == RESERVED {
        return Err(format!("found {name:?}, but that queue is for refused messages; choose another name"));
    }
    Ok(())
}

/// The name of a replica that was given none: where it is, which stays the same when sections move.
fn name_of(database: &Database) -> String {
    let target = targets(&database.config).into_iter().next();
    let whole = target.map(|(host, port, database)| format!("{host}-{port}-{database}")).unwrap_or_default();
    whole.chars().map(|c| if is_allowed(c) { c } else { '_' }).take(MAX_NAME_BYTES).collect()
}

fn is_same(one: &Database, other: &Database) -> bool {
    let others = targets(&other.config);
    targets(&one.config).iter().any(|target| others.contains(target))
}
