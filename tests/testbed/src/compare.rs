//! Whether tables of two databases are the same, byte for byte.

use tokio_postgres::Client;

use crate::{postgres::quote, world::Database};

/// How the text of values is to be printed on both sides, whatever a database or role sets.
const SETTINGS: &str = "set datestyle = 'ISO'; set intervalstyle = 'postgres'; set timezone = 'UTC';
    set extra_float_digits = 3; set bytea_output = 'hex'; set lc_monetary = 'C'; set xmlbinary = 'base64'";

/// The columns by name, with the function that prints them in binary where the bytes are comparable:
/// composite types, arrays of types that are not built in, and references to objects of the
/// database, in arrays too, print object ids, which differ between databases; some functions take no domains.
const COLUMNS: &str = r#"
    select a.attname,
           case when p.proname not in ('record_send')
                 and p.proname not like 'reg%' and t.typname not in ('refcursor', '_aclitem')
                 and (t.typtype <> 'd' or p.proname not in ('enum_send', 'range_send', 'multirange_send'))
                 and (p.proname <> 'array_send' or t.typelem between 1 and 16383 and t.typname not like '\_reg%')
                then array[n.nspname, p.proname] end
      from pg_catalog.pg_attribute a
      join pg_catalog.pg_type t on t.oid = a.atttypid
      left join pg_catalog.pg_proc p on p.oid = t.typsend
      left join pg_catalog.pg_namespace n on n.oid = p.pronamespace
     where a.attrelid = pg_catalog.to_regclass($1) and a.attnum > 0 and not a.attisdropped
     order by a.attname collate "C""#;

/// What a table holds, in few bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// How many rows.
    pub rows: i64,
    /// The hash of all of them, whatever their order: all columns by name, in text and binary.
    pub hash: String,
}

/// Makes the connection print values as every other connection prepared like this. [`digest`] needs it
/// where a database or role has settings of its own.
///
/// # Errors
/// The driver's, where the connection broke.
pub async fn pin_settings(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(SETTINGS).await
}

/// The digest of a table, named as in SQL, at the snapshot of the client's transaction if it is in one.
///
/// # Errors
/// Says that the table is not there, or what the server said.
pub async fn digest(client: &Client, table: &str) -> Result<Digest, String> {
    digest_of(client, table, &columns(client, table).await?).await
}

async fn digest_of(client: &Client, table: &str, columns: &[Column]) -> Result<Digest, String> {
    let (_, bytes) = row_expressions(columns);
    // A sum needs no order, and 128 bits of it no luck.
    let query = format!(
        "select count(*), concat(sum(hashtextextended(bytes, 0)), ' ', sum(hashtextextended(bytes, 1)))
           from (select ({bytes}) collate \"C\" bytes from {table} x) rows"
    );
    let row = client.query_one(&query, &[]).await.map_err(|error| format!("{table}: {error:?}"))?;
    Ok(Digest { rows: row.get(0), hash: row.get(1) })
}

struct Column {
    name: String,
    /// Schema and name of the function that prints it in binary.
    send: Option<Vec<String>>,
}

async fn columns(client: &Client, table: &str) -> Result<Vec<Column>, String> {
    let rows = client.query(COLUMNS, &[&table]).await.map_err(|error| format!("{table}: {error:?}"))?;
    if rows.is_empty() {
        return Err(format!("there is no table {table}"));
    }
    Ok(rows.iter().map(|row| Column { name: row.get(0), send: row.get(1) }).collect())
}

/// A row as text, and in binary: with the text too, for the columns that have no comparable binary form.
fn row_expressions(columns: &[Column]) -> (String, String) {
    let (mut values, mut bytes) = (Vec::new(), Vec::new());
    for column in columns {
        let value = format!("x.{}", quote(&column.name));
        if let Some([schema, function]) = column.send.as_deref() {
            bytes.push(format!("{}.{}({value})", quote(schema), quote(function)));
        }
        values.push(value);
    }
    let text = format!("row({})::text", values.join(", "));
    let binary = format!("{text} || row({})::text", bytes.join(", "));
    (text, binary)
}

/// Compares tables, named as in SQL, on two connections.
///
/// # Errors
/// Says which table differs and shows some of the rows that only one side has.
pub async fn same_tables(primary: &Client, replica: &Client, tables: &[&str]) -> Result<(), String> {
    same(primary, replica, tables, false).await
}

/// As [`same_tables`], but the replica may have columns that the primary does not have.
///
/// # Errors
/// As [`same_tables`].
pub async fn same_shared_columns(primary: &Client, replica: &Client, tables: &[&str]) -> Result<(), String> {
    same(primary, replica, tables, true).await
}

async fn same(primary: &Client, replica: &Client, tables: &[&str], shared: bool) -> Result<(), String> {
    for table in tables {
        let (mut ours, mut theirs) = (columns(primary, table).await?, columns(replica, table).await?);
        theirs.retain(|column| !shared || ours.iter().any(|other| other.name == column.name));
        // A server of another version may print an extension's type as text alone.
        for (ours, theirs) in ours.iter_mut().zip(&mut theirs) {
            if ours.send.is_none() || theirs.send.is_none() {
                (ours.send, theirs.send) = (None, None);
            }
        }
        let (here, there) =
            (digest_of(primary, table, &ours).await?, digest_of(replica, table, &theirs).await?);
        if here != there {
            let difference = difference((primary, &ours), (replica, &theirs), table).await?;
            return Err(format!("{table}: {here:?} on the primary, {there:?} on the replica\n{difference}"));
        }
    }
    Ok(())
}

/// Asserts that every replica holds the same rows as the primary.
///
/// # Panics
/// Where one does not: names replica and table and shows some of the rows that differ.
pub async fn assert_same_tables(primary: &Database, replicas: &[Database], tables: &[&str]) {
    let here = primary.look().await.expect("the primary is there");
    for replica in replicas {
        let there = replica.look().await.expect("the replica is there");
        same_tables(&here, &there, tables)
            .await
            .unwrap_or_else(|difference| panic!("{replica}: {difference}"));
    }
}

/// The first rows that only one of the sides has; of large tables only the first rows are compared.
async fn difference(
    (primary, ours): (&Client, &[Column]),
    (replica, theirs): (&Client, &[Column]),
    table: &str,
) -> Result<String, String> {
    let (here, there) = (rows(primary, table, ours).await?, rows(replica, table, theirs).await?);
    let only = |side: &str, rows: &[String], others: &[String]| {
        let missing = rows.iter().filter(|row| others.binary_search(row).is_err()).take(5);
        missing.map(|row| format!("  only on the {side}: {row:.300}\n")).collect::<String>()
    };
    Ok(only("primary", &here, &there) + &only("replica", &there, &here))
}

async fn rows(client: &Client, table: &str, columns: &[Column]) -> Result<Vec<String>, String> {
    let (text, _) = row_expressions(columns);
    let query = format!("select {text} from {table} x order by {text} collate \"C\" limit 100000");
    let rows = client.query(&query, &[]).await.map_err(|error| format!("{table}: {error:?}"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
