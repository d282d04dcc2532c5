//! What each table was at every snapshot: triggers note on the primary which rows came and went, and a replica has
//! to show the sum of what is visible at its position, which does not depend on any order.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use pgfanout_testbed::world::Database;
use tokio_postgres::{Client, error::SqlState};

use super::{
    failure::{Failure, Kind},
    partitions,
    schema::Table,
    script::{CLIENTS, Case},
};

/// A row: the place of its table, its key, all of it.
pub(super) type Line = (i32, String, String);

/// How often each row is there.
pub(super) type Lines = BTreeMap<Line, i64>;

/// The counters that each transaction raises, one at its beginning and one at its end, come after the tables.
const WITNESSES: [(i32, &str); 2] = [(1001, "public.witness_a"), (1002, "public.witness_b")];

/// What every function here prints alike, whatever the writer's session sets.
pub(super) const PINNED: &str = "SET datestyle = 'ISO' SET intervalstyle = 'postgres' SET timezone = 'UTC'
    SET extra_float_digits = 3 SET bytea_output = 'hex' SET lc_monetary = 'C' SET xmlbinary = 'base64'
    SET search_path = public, pg_catalog";

/// A long row is told by its beginning and its hash.
fn short(text: &str) -> String {
    format!("CASE WHEN length({text}) > 300 THEN left({text}, 100) || md5({text}) ELSE {text} END")
}

fn row(of: &str, columns: &[String]) -> String {
    let columns: Vec<_> = columns.iter().map(|column| format!("{of}.{column}")).collect();
    format!("ROW({})::text", columns.join(", "))
}

fn witness(name: &str) -> Table {
    let key = format!("CREATE TABLE {name} (client int PRIMARY KEY, number int NOT NULL)");
    let fill = format!("INSERT INTO {name} SELECT n, 0 FROM generate_series(0, {}) n", CLIENTS - 1);
    Table::of_integers(name, "client", "number", vec![key, fill])
}

fn tables(case: &Case) -> Vec<(i32, Table)> {
    let place = |place: usize| i32::try_from(place).expect("there are few");
    let tables = case.made.iter().map(|&n| (place(n), case.tables[n].clone()));
    tables.chain(WITNESSES.map(|(place, name)| (place, witness(name)))).collect()
}

/// The statements that make the history on the primary, and the witnesses.
pub(super) fn setup(case: &Case) -> Vec<String> {
    let mut statements = vec![
        "CREATE TABLE audit.history (xid xid8 NOT NULL DEFAULT pg_current_xact_id(), place int NOT NULL,
            key text NOT NULL, line text NOT NULL, sign int NOT NULL)"
            .to_owned(),
        format!(
            "CREATE FUNCTION audit.note(place int, key text, line text, sign int) RETURNS void LANGUAGE sql AS
                $$ INSERT INTO audit.history (place, key, line, sign) SELECT $1, {}, {}, $4 $$",
            short("$2"),
            short("$3")
        ),
    ];
    statements.extend(WITNESSES.map(|(_, name)| witness(name).setup[0].clone()));
    for (place, table) in tables(case) {
        let note = |of: &str, sign: i32| {
            let (key, line) = (row(of, &table.key_names()), row(of, &table.printed()));
            format!("audit.note({place}, {key}, {line}, {sign})")
        };
        statements.push(format!(
            "CREATE FUNCTION audit.note_{place}() RETURNS trigger LANGUAGE plpgsql {PINNED} AS $f$ BEGIN
                IF tg_op = 'TRUNCATE' THEN
                    -- A partition that left keeps this trigger.
                    IF coalesce(pg_partition_root(tg_relid), tg_relid) <> $r${}$r$::regclass THEN RETURN NULL; END IF;
                    EXECUTE 'SELECT ' || $r${}$r$ || ' FROM ONLY ' || tg_relid::regclass || ' r';
                    RETURN NULL;
                END IF;
                IF tg_op <> 'INSERT' THEN PERFORM {}; END IF;
                IF tg_op <> 'DELETE' THEN PERFORM {}; END IF;
                RETURN NULL; END $f$",
            table.name,
            note("r", -1),
            note("old", -1),
            note("new", 1)
        ));
        statements.push(format!(
            "CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION audit.note_{place}()",
            table.name
        ));
        let leaves = if table.leaves.is_empty() { vec![table.name.clone()] } else { table.leaves.clone() };
        for leaf in leaves {
            statements.push(format!(
                "CREATE TRIGGER note_truncate BEFORE TRUNCATE ON {leaf} EXECUTE FUNCTION audit.note_{place}()"
            ));
            statements.extend(["note", "note_truncate"].map(|name| always(&leaf, name)));
        }
        if !table.partitions.is_empty() {
            // What comes back has the triggers of its root.
            statements.push(always(&table.name, "note"));
            let place = usize::try_from(place).expect("it was one");
            statements.extend(partitions::functions(&table, place, |sign| note("r", sign)));
        }
    }
    statements.extend(WITNESSES.map(|(_, name)| witness(name).setup[1].clone()));
    statements
}

/// Also for sessions in replica role.
fn always(table: &str, trigger: &str) -> String {
    format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")
}

/// What a replica shows in one statement, and so at one moment.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) snapshot: String,
    pub(super) lines: Lines,
}

/// The look, unless tables stand apart from each other, as while they are copied.
pub(super) async fn look(case: &Case, replica: &Database) -> Result<Option<Look>, Failure> {
    let tables = tables(case);
    let lines: Vec<_> = tables
        .iter()
        .map(|(place, table)| {
            let (key, line) = (row("r", &table.key_names()), row("r", &table.printed()));
            let lines = format!("SELECT {key} AS k, {line} AS l FROM {} r", table.name);
            format!("SELECT {place} AS place, {} AS key, {} AS line FROM ({lines}) o", short("k"), short("l"))
        })
        .collect();
    let joined = "SELECT count(*) FILTER (WHERE snapshot IS NULL) FROM pgfanout.replicated_table";
    // The position's row is there also where all tables are empty.
    let query = format!(
        "SELECT p.snapshot::text, ({joined}) = {} AS joined, t.place, t.key, t.line FROM pgfanout.position p \
         LEFT JOIN ({}) t ON true",
        tables.len(),
        lines.join(" UNION ALL ")
    );
    let rows = match replica.look().await {
        Ok(client) => client.query(&query, &[]).await,
        Err(error) => Err(error),
    };
    let rows = match rows {
        Ok(rows) => rows,
        // Not yet made, or a TRUNCATE of several tables and we were in each other's way, or the server is gone for now.
        Err(error) if error.code().is_none_or(|code| PASSING.contains(code)) => return Ok(None),
        Err(error) => return Err(Failure::new(Kind::Bench, format!("a look: {error:?}"))),
    };
    let Some(first) = rows.first().filter(|row| row.get("joined")) else { return Ok(None) };
    let mut lines = Lines::new();
    for row in rows.iter().filter(|row| row.get::<_, Option<i32>>("place").is_some()) {
        *lines.entry((row.get("place"), row.get("key"), row.get("line"))).or_default() += 1;
    }
    Ok(Some(Look { snapshot: first.get(0), lines }))
}

const PASSING: [SqlState; 8] = [
    SqlState::ADMIN_SHUTDOWN,
    SqlState::CRASH_SHUTDOWN,
    SqlState::CANNOT_CONNECT_NOW,
    SqlState::T_R_DEADLOCK_DETECTED,
    SqlState::UNDEFINED_TABLE,
    SqlState::UNDEFINED_COLUMN,
    SqlState::UNDEFINED_OBJECT,
    SqlState::INVALID_SCHEMA_NAME,
];

/// What the primary was at a snapshot.
pub(super) async fn at(primary: &Client, snapshot: &str) -> Result<Lines, Failure> {
    let query = "SELECT place, key, line, sum(sign) FROM audit.history
        WHERE pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
        GROUP BY place, key, line HAVING sum(sign) <> 0";
    let rows = primary.query(query, &[&snapshot]).await.map_err(Failure::bench)?;
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1), row.get(2)), row.get(3))).collect())
}

/// When rows of this one's key came and went, by transaction.
pub(super) async fn past(primary: &Client, line: &Line) -> Result<(String, Vec<u64>), Failure> {
    let query = "SELECT coalesce(string_agg(concat(E'\\n    transaction ', xid, ': ', to_char(sign, 'SG9'), ' ', line),
            '' ORDER BY ctid), ''), coalesce(array_agg(DISTINCT xid::text), '{}') FROM audit.history WHERE place = $1 AND key = $2";
    let row = primary.query_one(query, &[&line.0, &line.1]).await.map_err(Failure::bench)?;
    let ids: Vec<&str> = row.get(1);
    Ok((row.get(0), ids.into_iter().map(|id| id.parse().expect("a transaction's id")).collect()))
}

/// What capture logged of these transactions, as far as it was not trimmed.
pub(super) async fn logged(primary: &Database, transactions: &[u64]) -> String {
    let query = "SELECT coalesce(string_agg(concat(E'\\n    in ', xid, ' of table ', table_id, ': ', operation, ' ', key),
            ''), '') FROM
            (SELECT * FROM pgfanout.changelog WHERE xid::text = ANY ($1) ORDER BY ctid LIMIT 200) l";
    let ids: Vec<String> = transactions.iter().map(u64::to_string).collect();
    let logged = match primary.look().await {
        Ok(primary) => primary.query_one(query, &[&ids]).await,
        Err(error) => Err(error),
    };
    match logged {
        Ok(row) => format!("\nwhat was logged of them:{}", row.get::<_, &str>(0)),
        Err(error) => format!("\nwhat was logged of them is not known: {error:?}"),
    }
}

/// When the primary had a row: whether before a snapshot, and whether only after it.
pub(super) async fn when(primary: &Client, line: &Line, snapshot: &str) -> Result<When, Failure> {
    let query =
        "SELECT coalesce(bool_or(pg_visible_in_snapshot(xid, $1::text::pg_snapshot)), false), count(*) > 0
        FROM audit.history WHERE place = $2 AND line = $3 AND sign > 0";
    let row = primary.query_one(query, &[&snapshot, &line.0, &line.2]).await.map_err(Failure::bench)?;
    Ok(match (row.get(0), row.get(1)) {
        (true, _) => When::Before,
        (_, true) => When::After,
        _ => When::Never,
    })
}

/// See [`when`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Before,
    After,
    Never,
}

impl Look {
    /// The counters of a witness, by client.
    pub(super) fn counters(&self, which: usize) -> Vec<&str> {
        let place = WITNESSES[which].0;
        self.lines.keys().filter(|line| line.0 == place).map(|line| &*line.2).collect()
    }

    /// The lowest transaction that may be in progress, and the lowest one to come.
    pub(super) fn ends(&self) -> (u64, u64) {
        let mut ends = self.snapshot.split(':').map(|end| end.parse().expect("a pg_snapshot"));
        (ends.next().unwrap_or(0), ends.next().unwrap_or(0))
    }
}

/// Rows, for a failure.
pub(super) struct Shown<'a>(pub(super) &'a [&'a Line]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (place, _, line) in self.0.iter().take(8) {
            let _ = write!(text, "\n    table {place}: {line}");
        }
        f.write_str(&text)
    }
}
