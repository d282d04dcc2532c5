//! What a replica's tables have of their own: columns, in another order, triggers and rules that must not fire, and
//! policies that let no row through.

use super::{
    dice::Dice,
    schema::{Column, Table},
};

/// Which tables a replica has before it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum There {
    Nothing,
    /// The primary's.
    Same,
    /// Tables that differ as they may.
    Own,
}

/// What the triggers need.
pub(super) const REFUSING: &str = "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'a trigger of the replica fired'; END $$";

/// Gives each table what the replica has beside the primary's definition.
pub(super) fn add(dice: &mut Dice, tables: &mut [Table]) {
    for table in tables {
        let made = own(dice, table);
        table.replica_alone = made;
    }
}

fn own(dice: &mut Dice, table: &Table) -> Vec<String> {
    let name = &table.name;
    let mut made = Vec::new();
    if dice.once_in(2) {
        let default = *dice.pick(&["DEFAULT 7", "NOT NULL DEFAULT 1 + random() * 100", ""]);
        made.push(format!("ALTER TABLE {name} ADD \"its own\" int {default}"));
    }
    // What is dropped and added again comes last.
    for column in table.data.iter().filter(|_| dice.once_in(2)) {
        made.push(format!("ALTER TABLE {name} DROP COLUMN {}", column.name));
        made.push(format!("ALTER TABLE {name} ADD {}", Column::definition(column)));
    }
    if dice.once_in(2) {
        made.push(format!(
            "CREATE TRIGGER a_row BEFORE INSERT OR UPDATE OR DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION public.refuse()"
        ));
        made.push(format!(
            "CREATE TRIGGER b_statement AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {name} EXECUTE FUNCTION public.refuse()"
        ));
    }
    if dice.once_in(3) {
        let event = dice.pick(&["INSERT", "UPDATE", "DELETE"]);
        made.push(format!("CREATE RULE a_rule AS ON {event} TO {name} DO INSTEAD NOTHING"));
    }
    if dice.once_in(3) {
        made.push(format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"));
        made.push(format!("CREATE POLICY nobody ON {name} USING (false)"));
    }
    made
}
