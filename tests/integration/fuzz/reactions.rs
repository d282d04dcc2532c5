//! What the primary does by itself where it is written: triggers that change the row or write others, rules, and
//! views that take what is said to them.

use pgfanout_testbed::postgres::quote;

use super::{
    dice::Dice,
    schema::{IDS, Table},
    statements::{overriding, simple},
};

/// Gives some of the tables triggers, rules and views, which know the others.
pub(super) fn add(dice: &mut Dice, tables: &mut [Table]) {
    for place in 0..tables.len() {
        let mut made = Vec::new();
        if dice.once_in(6) {
            made.extend(count_up(&tables[place], place));
        }
        // PostgreSQL keeps the old value of a generated column (seen in 15) where a row that is moved to another partition
        // is changed by a trigger before it is inserted there.
        let may_be_stale = !tables[place].leaves.is_empty() && !tables[place].generated.is_empty();
        if dice.once_in(5) && !may_be_stale {
            made.extend(change_row(dice, &tables[place], place));
        }
        if dice.once_in(4) {
            let others = [0; 2].map(|_| dice.many(0..tables.len()));
            made.extend(write_others(dice, &tables[place], place, others.map(|other| &tables[other])));
        }
        if dice.once_in(5) {
            let other = dice.many(0..place.max(1));
            made.push(rule(dice, &tables[place], (place > 0).then(|| &tables[other])));
        }
        if dice.once_in(3) {
            let view = format!("public.{}", quote(&format!("view {place}")));
            made.extend(self::view(dice, &tables[place], place, &view));
            tables[place].view = Some(view);
        }
        tables[place].primary_alone = made;
    }
}

/// Names in statements are columns, also where a table has one that is called `new` or `old`.
fn function(name: &str, body: &str) -> String {
    format!(
        "CREATE FUNCTION public.{name}() RETURNS trigger LANGUAGE plpgsql AS $user$
        #variable_conflict use_column
        BEGIN {body} END $user$"
    )
}

fn same_key(table: &Table, one: &str, other: &str) -> String {
    let same: Vec<_> = table.key_names().iter().map(|name| format!("{one}{name} = {other}.{name}")).collect();
    same.join(" AND ")
}

/// A trigger that writes the row once more: what it does is logged before what fired it.
fn count_up(table: &Table, place: usize) -> [String; 2] {
    let (name, number, same) = (&table.name, &table.number, same_key(table, "t.", "new"));
    // Of thousands of equal rows each would write all.
    let few = match table.keyless {
        true => format!("AND (SELECT count(*) FROM {name} t WHERE {same}) < 20"),
        false => String::new(),
    };
    let body = format!(
        "IF pg_trigger_depth() = 1 {few} THEN UPDATE {name} t SET {number} = t.{number} + 1 WHERE {same}; END IF; RETURN NULL;"
    );
    let function = function(&format!("count_up_{place}"), &body);
    let fires = format!("AFTER INSERT OR UPDATE ON {name} FOR EACH ROW");
    [function, format!("CREATE TRIGGER a_user {fires} EXECUTE FUNCTION public.count_up_{place}()")]
}

/// A trigger that changes the row before it is written, or has it not written.
fn change_row(dice: &mut Dice, table: &Table, place: usize) -> [String; 2] {
    let number = &table.number;
    let mut body = match dice.many(0..3) {
        0 => format!("IF new.{number} % 7 = 3 THEN RETURN NULL; END IF; "),
        1 => format!("new.{number} := new.{number} * 2 + 1; "),
        _ => format!("new.{number} := coalesce(new.{number}, 0) % 50; "),
    };
    // The key too; a partitioned table may not take it, as the row would be of another partition.
    for column in table.key.iter().filter(|_| !table.identity).chain(&table.data) {
        if dice.once_in(4) {
            let value = column.value(dice);
            body += &format!("IF new.{number} % 3 = 1 THEN new.{} := {value}; END IF; ", column.name);
        }
    }
    let function = function(&format!("change_row_{place}"), &(body + "RETURN new;"));
    let events = dice.pick(&["INSERT", "UPDATE", "INSERT OR UPDATE"]);
    let fires = format!("BEFORE {events} ON {} FOR EACH ROW", table.name);
    [function, format!("CREATE TRIGGER b_user {fires} EXECUTE FUNCTION public.change_row_{place}()")]
}

/// A trigger that writes other rows and other tables.
fn write_others(dice: &mut Dice, table: &Table, place: usize, others: [&Table; 2]) -> [String; 2] {
    let (when, each) = (*dice.pick(&["BEFORE", "AFTER", "AFTER"]), *dice.pick(&["ROW", "STATEMENT"]));
    let events = match (when, each) {
        // Before it, what is written may be emptied by it, and no trigger of the history would see that.
        ("AFTER", "STATEMENT") => "INSERT OR UPDATE OR DELETE OR TRUNCATE",
        _ => *dice.pick(&["INSERT", "UPDATE", "DELETE", "INSERT OR UPDATE OR DELETE"]),
    };
    // What rows do at every depth would not end soon.
    let depth = if each == "ROW" { 2 } else { 3 };
    let statements = others.map(|other| simple(dice, other)).join("; ");
    let forgiven = match dice.once_in(3) {
        true => "",
        false => "EXCEPTION WHEN integrity_constraint_violation THEN NULL;",
    };
    let row = if each == "ROW" {
        "IF tg_op <> 'DELETE' THEN RETURN new; END IF; RETURN old;"
    } else {
        "RETURN NULL;"
    };
    let body =
        format!("IF pg_trigger_depth() < {depth} THEN BEGIN {statements}; {forgiven} END; END IF; {row}");
    let function = function(&format!("write_others_{place}"), &body);
    let fires = format!("{when} {events} ON {} FOR EACH {each}", table.name);
    [function, format!("CREATE TRIGGER c_user {fires} EXECUTE FUNCTION public.write_others_{place}()")]
}

/// A rule that writes another table besides, or keeps a row from being written. That other table comes before this one,
/// so that rules lead to an end.
fn rule(dice: &mut Dice, table: &Table, other: Option<&Table>) -> String {
    let Table { name, number, .. } = table;
    let event = *dice.pick(&["INSERT", "UPDATE", "DELETE"]);
    let row = if event == "INSERT" { "new" } else { "old" };
    let when = format!("{row}.{number} % 4 = {}", dice.number(0..4));
    let act = other.map(|other| simple(dice, other));
    // A rule takes no constant of this type, and has tables of these names itself.
    let taken = |act: &String| ["regrole", ".\"new\"", ".\"old\""].iter().all(|what| !act.contains(what));
    match act.filter(taken) {
        Some(act) if dice.once_in(2) => format!("CREATE RULE a_rule AS ON {event} TO {name} DO ALSO {act}"),
        Some(act) if dice.once_in(2) => {
            format!("CREATE RULE a_rule AS ON {event} TO {name} WHERE {when} DO INSTEAD {act}")
        }
        _ => format!("CREATE RULE a_rule AS ON {event} TO {name} WHERE {when} DO INSTEAD NOTHING"),
    }
}

/// A view of some or all rows, columns in another order, that PostgreSQL writes through, or rules or a trigger do.
fn view(dice: &mut Dice, table: &Table, place: usize, view: &str) -> Vec<String> {
    let Table { name, number, .. } = table;
    let mut columns = table.columns();
    columns.reverse();
    let list = columns.join(", ");
    let given: Vec<_> = columns.iter().map(|column| format!("new.{column}")).collect();
    // A value for one that is always generated would not be taken.
    let mut written = columns.clone();
    written.retain(|column| !table.key.iter().any(|key| key.name == *column && key.more.contains("ALWAYS")));
    let set: Vec<_> = written.iter().map(|column| format!("{column} = new.{column}")).collect();
    let insert = format!("INSERT INTO {name} ({list}) {} VALUES ({})", overriding(table), given.join(", "));
    let update = format!("UPDATE {name} t SET {} WHERE {}", set.join(", "), same_key(table, "t.", "old"));
    let delete = format!("DELETE FROM {name} t WHERE {}", same_key(table, "t.", "old"));
    let mut made = vec![format!("CREATE VIEW {view} AS SELECT {list} FROM {name}")];
    match dice.many(0..4) {
        0 => {}
        1 => made[0] += &format!(" WHERE {number} <= {} WITH CHECK OPTION", dice.number(0..4 * IDS)),
        2 => {
            made.extend([("INSERT", insert), ("UPDATE", update), ("DELETE", delete)].map(|(event, act)| {
                format!("CREATE RULE a_{event} AS ON {event} TO {view} DO INSTEAD {act}")
            }))
        }
        _ => {
            let body = format!(
                "IF tg_op = 'INSERT' THEN {insert}; RETURN new; END IF; IF tg_op = 'UPDATE' THEN {update}; RETURN new; END IF;
                {delete}; RETURN old;"
            );
            made.push(function(&format!("instead_{place}"), &body));
            made.push(format!(
                "CREATE TRIGGER a_user INSTEAD OF INSERT OR UPDATE OR DELETE ON {view} FOR EACH ROW
                EXECUTE FUNCTION public.instead_{place}()"
            ));
        }
    }
    made
}
