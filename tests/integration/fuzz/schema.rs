//! Random tables: keys and columns of every type, under every name.

use pgfanout_testbed::postgres::quote;

use super::{definition, dice::Dice, partitions, reactions, replica};
use crate::types::Type;

/// What they need, on both sides where the replica has tables of its own.
pub(super) const SURROUNDINGS: &str = r#"
    CREATE SCHEMA "odd.schema ""%";
    CREATE SCHEMA audit;
    CREATE COLLATION folding (PROVIDER = icu, LOCALE = 'und-u-ks-level2', DETERMINISTIC = false)"#;

/// Names as people, generators and other systems choose them, for tables and columns.
const NAMES: &[&str] = &[
    "plain",
    "Plain",
    "PLAIN",
    "two words",
    "quo\"te",
    "apos'trophe",
    "dot.ted",
    "100%",
    "%s %I $1",
    "🐎",
    "select",
    "user",
    "back\\slash",
    "tab\tname",
    " blank ",
    "ünï",
    "{b,r}",
    "a;--",
    "\"",
    "new",
    "old",
    "row",
    "xmin_",
    "n63456789012345678901234567890123456789012345678901234567890123",
];

/// Key columns of integers have these, and their negatives.
pub(super) const IDS: i32 = 16;

/// What a column may hold.
#[derive(Clone, Debug)]
pub(super) enum Values {
    /// Small integers.
    Integers,
    /// Of this type, these, in SQL; and whether NULL may be one.
    Of(String, Vec<String>, bool),
}

#[derive(Clone, Debug)]
pub(super) struct Column {
    /// Quoted, as all names here.
    pub(super) name: String,
    pub(super) values: Values,
    /// What its definition says after the type.
    pub(super) more: String,
}

impl Column {
    fn integers(name: String, more: &str) -> Self {
        Self { name, values: Values::Integers, more: more.to_owned() }
    }

    /// One of its values, in SQL.
    pub(super) fn value(&self, dice: &mut Dice) -> String {
        match &self.values {
            Values::Integers if dice.once_in(8) => (-dice.number(0..IDS)).to_string(),
            Values::Integers => dice.number(0..IDS).to_string(),
            Values::Of(of, _, true) if dice.once_in(6) => format!("NULL::{of}"),
            Values::Of(of, values, _) => format!("({})::{of}", dice.pick(values)),
        }
    }

    pub(super) fn of(&self) -> &str {
        match &self.values {
            Values::Integers => "int",
            Values::Of(of, ..) => of,
        }
    }

    pub(super) fn definition(&self) -> String {
        format!("{} {} {}", self.name, self.of(), self.more)
    }
}

/// A table, and what statements about it need to know.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) key: Vec<Column>,
    /// A column of small integers, which each table has.
    pub(super) number: String,
    /// A column of integers that are unique, and whether they may be so later.
    pub(super) unique: Option<(String, bool)>,
    /// A column that refers to the key of another table, or of this one.
    pub(super) parent: Option<(String, usize)>,
    pub(super) data: Vec<Column>,
    /// Columns that nobody writes.
    pub(super) generated: Vec<String>,
    pub(super) leaves: Vec<String>,
    /// Its own partitions, each with its bound.
    pub(super) partitions: Vec<(String, String)>,
    /// Whether its key may be unique later.
    pub(super) deferrable: bool,
    /// Whether it has a unique index instead of a primary key.
    pub(super) by_index: bool,
    /// Whether nothing makes its key one: rows may be equal.
    pub(super) keyless: bool,
    /// Whether a value for the key has to be insisted on.
    pub(super) identity: bool,
    /// What makes it, on the replica too where that has tables of its own.
    pub(super) setup: Vec<String>,
    /// A view through which it is written.
    pub(super) view: Option<String>,
    /// What is made on the primary alone, when all tables are there.
    pub(super) primary_alone: Vec<String>,
    /// What is made on the replica alone, where it has tables of its own.
    pub(super) replica_alone: Vec<String>,
}

impl Table {
    /// A table of a key and a number.
    pub(super) fn of_integers(name: &str, key: &str, number: &str, setup: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            key: vec![Column::integers(key.to_owned(), "")],
            number: number.to_owned(),
            unique: None,
            parent: None,
            data: Vec::new(),
            generated: Vec::new(),
            leaves: Vec::new(),
            partitions: Vec::new(),
            deferrable: false,
            by_index: false,
            keyless: false,
            identity: false,
            setup,
            view: None,
            primary_alone: Vec::new(),
            replica_alone: Vec::new(),
        }
    }

    /// The columns that are written.
    pub(super) fn columns(&self) -> Vec<String> {
        let key = self.key.iter().map(|column| column.name.clone());
        let unique = self.unique.iter().map(|(name, _)| name.clone());
        let parent = self.parent.iter().map(|(name, _)| name.clone());
        let data = self.data.iter().map(|column| column.name.clone());
        key.chain([self.number.clone()]).chain(unique).chain(parent).chain(data).collect()
    }

    /// All columns, as they are printed.
    pub(super) fn printed(&self) -> Vec<String> {
        [self.columns(), self.generated.clone()].concat()
    }

    pub(super) fn key_names(&self) -> Vec<String> {
        self.key.iter().map(|column| column.name.clone()).collect()
    }

    /// Whether its key is one integer.
    pub(super) fn is_plain(&self) -> bool {
        matches!(&self.key[..], [Column { values: Values::Integers, .. }])
    }

    fn can_be_referred_to(&self) -> bool {
        self.is_plain() && !self.deferrable && !self.by_index && !self.keyless && self.leaves.is_empty()
    }

    /// Whether something in it may be unique at the end of a transaction only.
    pub(super) fn is_unique_later(&self) -> bool {
        self.deferrable || self.unique.as_ref().is_some_and(|(_, deferrable)| *deferrable)
    }

    /// The column of integers in its key, if it has one.
    pub(super) fn integer(&self) -> Option<&str> {
        let integer = self.key.iter().find(|column| matches!(column.values, Values::Integers));
        integer.map(|column| &*column.name)
    }
}

fn typed(name: String, of: &Type, dice: &mut Dice, nullable: bool) -> Column {
    let values: Vec<String> = of.values.iter().map(|value| (*value).to_owned()).collect();
    let collations = ["", "", "COLLATE \"C\"", "COLLATE \"und-x-icu\"", "COLLATE public.folding"];
    let more = if of.name == "text" { *dice.pick(&collations) } else { "" }.to_owned();
    if nullable && of.has_array() && dice.once_in(4) {
        let element = |dice: &mut Dice| format!("({})::{}", dice.pick(&values), of.name);
        let array = |dice: &mut Dice| format!("ARRAY[{}, NULL, {}]", element(dice), element(dice));
        let arrays = (0..3).map(|_| array(dice)).chain(["'{}'".to_owned()]).collect();
        return Column { name, values: Values::Of(format!("{}[]", of.name), arrays, true), more };
    }
    Column { name, values: Values::Of(of.name.to_owned(), values, nullable), more }
}

/// Makes some tables of these types.
pub(super) fn tables(dice: &mut Dice, types: &[Type]) -> Vec<Table> {
    let mut names: Vec<&str> = NAMES.to_vec();
    let mut tables: Vec<Table> = Vec::new();
    for _ in 0..dice.many(3..8) {
        let schema = if dice.once_in(3) { "\"odd.schema \"\"%\"" } else { "public" };
        let name = format!("{schema}.{}", quote(dice.take(&mut names)));
        let table = table(dice, types, name, &tables);
        tables.push(table);
    }
    reactions::add(dice, &mut tables);
    replica::add(dice, &mut tables);
    tables
}

fn table(dice: &mut Dice, types: &[Type], name: String, others: &[Table]) -> Table {
    let mut names: Vec<&str> = NAMES.to_vec();
    let mut column = |dice: &mut Dice| quote(dice.take(&mut names));
    let partitioned = dice.once_in(5);
    let identity = !partitioned && dice.once_in(6);
    let key = key(dice, types, partitioned, identity, &mut column);
    let keyless = dice.once_in(5);
    let deferrable = !keyless && dice.once_in(6);
    let mut table = Table {
        name,
        key,
        number: column(dice),
        unique: (!partitioned && dice.once_in(3)).then(|| (column(dice), dice.once_in(2))),
        parent: None,
        data: (0..dice.many(0..5)).map(|_| typed(column(dice), dice.pick(types), dice, true)).collect(),
        generated: Vec::new(),
        leaves: Vec::new(),
        partitions: Vec::new(),
        deferrable,
        by_index: !deferrable && !keyless && dice.once_in(6),
        keyless,
        identity,
        setup: Vec::new(),
        view: None,
        primary_alone: Vec::new(),
        replica_alone: Vec::new(),
    };
    let mut parents: Vec<usize> = (0..others.len()).filter(|&n| others[n].can_be_referred_to()).collect();
    if table.can_be_referred_to() && !partitioned {
        parents.push(others.len());
    }
    if !parents.is_empty() && dice.once_in(2) {
        table.parent = Some((column(dice), *dice.pick(&parents)));
    }
    let attached = partitioned && dice.once_in(2);
    let mut more = Vec::new();
    if !attached && dice.once_in(4) {
        let doubled = column(dice);
        more.push(format!("{doubled} int GENERATED ALWAYS AS ({} * 2) STORED", table.number));
        table.generated.push(doubled);
    }
    if !partitioned && !identity && dice.once_in(6) {
        let counted = column(dice);
        more.push(format!("{counted} bigint GENERATED ALWAYS AS IDENTITY"));
        table.generated.push(counted);
    }
    let dropped = dice.once_in(4).then(|| column(dice));
    definition::create(&mut table, dice, others, &more, dropped.as_deref(), partitioned);
    if partitioned {
        partitions::make(&mut table, dice, others.len(), attached);
    }
    table
}

/// One integer, a value of another type, or some of both in any order.
fn key(
    dice: &mut Dice,
    types: &[Type],
    partitioned: bool,
    identity: bool,
    column: &mut impl FnMut(&mut Dice) -> String,
) -> Vec<Column> {
    // A domain over an enum has no operator = that a statement would find.
    let types: Vec<&Type> = types.iter().filter(|of| of.key && of.name != "mood_domain").collect();
    let mut key = Vec::new();
    if identity {
        let how = *dice.pick(&["GENERATED BY DEFAULT AS IDENTITY", "GENERATED ALWAYS AS IDENTITY"]);
        key.push(Column::integers(column(dice), how));
    } else if partitioned || !dice.once_in(3) {
        key.push(Column::integers(column(dice), "NOT NULL"));
    }
    let odd = *dice.pick(&[0, 0, 0, 1, 2]);
    for _ in 0..odd.max(usize::from(key.is_empty())) {
        let of = *dice.pick(&types);
        let mut odd = typed(column(dice), of, dice, false);
        odd.more += " NOT NULL";
        key.push(odd);
    }
    if dice.once_in(2) {
        key.reverse();
    }
    key
}
