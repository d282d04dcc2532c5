//! Which tables the operator's patterns mean, and whether they can be replicated.

use tokio_postgres::Row;

use crate::{error::Result, pattern::Pattern, postgres::Session};

/// A table that the patterns mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its oid on the primary.
    pub relation: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// The columns of its key; empty if nothing names its rows.
    pub key: Vec<String>,
    /// Which of the patterns names it: the first exact one, or else the first.
    pub pattern: usize,
    /// Why it can't be replicated: the table, the reason and the remedy.
    pub refusal: Option<String>,
}

/// What the patterns mean in one database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// By schema and name.
    pub candidates: Vec<Candidate>,
    /// The patterns that mean no table at all, whether excluded or not.
    pub unmatched: Vec<usize>,
    /// The exclusions that mean no table at all.
    pub unmatched_exclusions: Vec<usize>,
}

/// Finds the tables that `tables` mean and `exclude` do not. Patterns with wildcards mean tables and
/// partition roots; an exact name also means what can't be replicated, to be told so. Needs no
/// installation.
///
/// # Errors
/// When the primary does not answer.
pub async fn resolve(primary: &Session, tables: &[Pattern], exclude: &[Pattern]) -> Result<Resolved> {
    let statement =
        concat!(include_str!("../../sql/primary/candidate.sql"), "\nORDER BY n.nspname, c.relname");
    let rows = primary.query("looking for tables", statement, &[]).await?;
    let relations: Vec<_> = rows.iter().map(Relation::read).collect();
    Ok(choose(&relations, tables, exclude))
}

/// Anything that looks like a table.
struct Relation {
    candidate: Candidate,
    /// It stands for its own rows, for good: a wildcard means it.
    is_table: bool,
}

impl Relation {
    fn read(row: &Row) -> Self {
        let candidate = Candidate {
            relation: row.get("relation"),
            schema: row.get("schema_name"),
            table: row.get("table_name"),
            key: row.get("key_columns"),
            pattern: 0,
            refusal: row.get::<_, Option<&str>>("refusal").map(|refusal| format!("table {refusal}")),
        };
        let plain = ["r", "p"].contains(&row.get::<_, &str>("kind"));
        let passing = row.get::<_, bool>("is_leaf") || row.get::<_, bool>("is_temporary");
        Self { candidate, is_table: plain && !passing }
    }

    fn is_meant_by(&self, pattern: &Pattern) -> bool {
        (self.is_table || pattern.is_exact())
            && pattern.matches(&self.candidate.schema, &self.candidate.table)
    }
}

fn choose(relations: &[Relation], tables: &[Pattern], exclude: &[Pattern]) -> Resolved {
    let unmatched = |patterns: &[Pattern]| {
        let without = |pattern| !relations.iter().any(|relation| relation.is_meant_by(pattern));
        patterns.iter().enumerate().filter(|(_, pattern)| without(pattern)).map(|(at, _)| at).collect()
    };
    let candidates = relations
        .iter()
        .filter(|relation| !exclude.iter().any(|pattern| relation.is_meant_by(pattern)))
        .filter_map(|relation| {
            let mut meaning: Vec<_> =
                (0..tables.len()).filter(|&at| relation.is_meant_by(&tables[at])).collect();
            meaning.sort_by_key(|&at| !tables[at].is_exact());
            Some(Candidate { pattern: *meaning.first()?, ..relation.candidate.clone() })
        });
    Resolved {
        candidates: candidates.collect(),
        unmatched: unmatched(tables),
        unmatched_exclusions: unmatched(exclude),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(table: &str, is_table: bool) -> Relation {
        let candidate = Candidate {
            relation: 1,
            schema: "public".to_owned(),
            table: table.to_owned(),
            key: Vec::new(),
            pattern: 0,
            refusal: None,
        };
        Relation { candidate, is_table }
    }

    fn patterns(sources: &[&str]) -> Vec<Pattern> {
        sources.iter().map(|source| Pattern::parse(source).expect("a pattern")).collect()
    }

    #[test]
    fn a_wildcard_means_tables_and_a_name_means_anything() {
        let relations = [relation("users", true), relation("a_view", false), relation("secrets", true)];
        let resolved = choose(&relations, &patterns(&["*", "a_view", "x.*"]), &patterns(&["sec*", "none"]));
        let names: Vec<_> =
            resolved.candidates.iter().map(|found| (found.table.as_str(), found.pattern)).collect();
        assert_eq!(names, [("users", 0), ("a_view", 1)]);
        assert_eq!(resolved.unmatched, [2]);
        assert_eq!(resolved.unmatched_exclusions, [1]);
    }
}
