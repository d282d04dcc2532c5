//! Partitions, and how they leave and come back. They are where nothing is captured: what left is no table to be
//! compared.

use super::{
    dice::Dice,
    history::PINNED,
    schema::{Column, Table},
    statements::simple,
};

/// Makes them; the columns of one that is attached lie in another order, and one was dropped.
pub(super) fn make(table: &mut Table, dice: &mut Dice, place: usize, attached: bool) {
    let list = ["IN (0, 1, 2)", "IN (3, 4, -1, -2)", "DEFAULT"];
    let range = ["FROM (0) TO (6)", "FROM (6) TO (MAXVALUE)", "DEFAULT"];
    let hash =
        ["WITH (MODULUS 2, REMAINDER 0)", "WITH (MODULUS 4, REMAINDER 1)", "WITH (MODULUS 4, REMAINDER 3)"];
    let bounds = match &table.setup[0] {
        create if create.contains("PARTITION BY LIST") => list,
        create if create.contains("PARTITION BY RANGE") => range,
        _ => hash,
    };
    for (n, bound) in bounds.into_iter().enumerate() {
        let leaf = format!("audit.\"leaf {place}.{n}\"");
        let values = if bound == "DEFAULT" { bound.to_owned() } else { format!("FOR VALUES {bound}") };
        table.partitions.push((leaf.clone(), values.clone()));
        if attached && n == 1 {
            let mut columns = vec!["\"gone from here\" int".to_owned(), format!("{} int", table.number)];
            columns.extend(table.parent.iter().map(|(name, _)| format!("{name} int")));
            columns.extend(table.data.iter().rev().map(Column::definition));
            columns.extend(table.key.iter().rev().map(Column::definition));
            table.setup.extend([
                format!("CREATE TABLE {leaf} ({})", columns.join(", ")),
                format!("ALTER TABLE {leaf} DROP COLUMN \"gone from here\""),
                format!("ALTER TABLE {} ATTACH PARTITION {leaf} {values}", table.name),
            ]);
        } else if n == 0 && dice.once_in(3) {
            let column = table.integer().unwrap_or_default().to_owned();
            table.setup.extend([
                format!("CREATE TABLE {leaf} PARTITION OF {} {values} PARTITION BY HASH ({column})", table.name),
                format!("CREATE TABLE audit.\"leaf {place}.{n}a\" PARTITION OF {leaf} FOR VALUES WITH (MODULUS 2, REMAINDER 0)"),
                format!("CREATE TABLE audit.\"leaf {place}.{n}b\" PARTITION OF {leaf} FOR VALUES WITH (MODULUS 2, REMAINDER 1)"),
            ]);
            table.leaves.extend(["a", "b"].map(|part| format!("audit.\"leaf {place}.{n}{part}\"")));
            continue;
        } else {
            table.setup.push(format!("CREATE TABLE {leaf} PARTITION OF {} {values}", table.name));
        }
        table.leaves.push(leaf);
    }
}

/// The functions on the primary that have a partition of this table leave and come back, and note its rows: of that no
/// trigger hears. `note` is SQL that notes a row `r`, with the sign that is put in.
pub(super) fn functions(table: &Table, place: usize, note: impl Fn(i32) -> String) -> [String; 2] {
    let name = &table.name;
    let function = |act: &str, is_there: &str, sign: i32, alter: &str| {
        format!(
            "CREATE FUNCTION audit.{act}_{place}(leaf regclass, bound text) RETURNS void LANGUAGE plpgsql {PINNED} AS $f$ BEGIN
                LOCK TABLE {name};
                IF {is_there} EXISTS (SELECT FROM pg_inherits WHERE inhrelid = leaf) THEN
                    EXECUTE 'SELECT ' || $r${}$r$ || ' FROM ' || leaf || ' r';
                    EXECUTE 'ALTER TABLE ' || $r${name}$r$ || ' {alter} PARTITION ' || leaf || bound;
                END IF; END $f$",
            note(sign)
        )
    };
    [function("leave", "", -1, "DETACH"), function("come", "NOT", 1, "ATTACH")]
}

/// One leaves or comes back, or is written meanwhile.
pub(super) fn swing(dice: &mut Dice, table: &Table, place: usize) -> Option<String> {
    let (leaf, bound) = table.partitions.get(dice.many(0..3))?;
    let leave = format!("SELECT audit.leave_{place}($r${leaf}$r$, '')");
    let come = format!("SELECT audit.come_{place}($r${leaf}$r$, ' {bound}')");
    let apart = Table { name: leaf.clone(), leaves: Vec::new(), ..table.clone() };
    Some(match dice.many(0..4) {
        0 => leave,
        1 => format!("{leave}; {}; {}; {come}", simple(dice, &apart), simple(dice, &apart)),
        _ => come,
    })
}
