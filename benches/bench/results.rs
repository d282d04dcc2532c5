//! What was measured, and how it is told.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

use super::{goals::GOALS, plot, stage::System};

/// A workload and what of it is measured, such as ("B1", "4 clients: tps").
type Measure = (&'static str, String);

/// A course over time: seconds and values.
pub(crate) type Course = Vec<(f64, f64)>;

/// All measurements.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// A value for each round.
    values: BTreeMap<Measure, BTreeMap<System, Vec<f64>>>,
    /// Of the last round.
    courses: BTreeMap<Measure, BTreeMap<System, Course>>,
}

impl Results {
    pub(crate) fn add(&mut self, workload: &'static str, what: &str, system: System, value: f64) {
        let systems = self.values.entry((workload, what.to_owned())).or_default();
        systems.entry(system).or_default().push(value);
        eprintln!("  {workload} {what}, {system}: {}", short(value));
    }

    pub(crate) fn course(&mut self, workload: &'static str, what: &str, system: System, course: Course) {
        self.courses.entry((workload, what.to_owned())).or_default().insert(system, course);
    }

    /// Prints the table: medians, the spread, and ratios within rounds against what is to be reached.
    pub(crate) fn print(&self) {
        let heads = System::ALL.map(|system| format!("{:>20}", system.name()));
        println!("{:4} {:44}{}", "", "", heads.join(""));
        for ((workload, what), systems) in &self.values {
            let cells = System::ALL.map(|system| systems.get(&system).map_or(String::new(), |v| cell(v)));
            let cells = cells.map(|cell| format!("{cell:>20}"));
            println!("{workload:4} {what:44}{}", cells.join(""));
            for (text, value, reached) in self.judged(workload, what) {
                println!(
                    "{:4}   {text}: {}  {}",
                    "",
                    short(value),
                    if reached { "reached" } else { "MISSED" }
                );
            }
        }
    }

    /// The goals of a measure: what is to be reached, what was, and whether that will do.
    fn judged(&self, workload: &str, what: &str) -> Vec<(String, f64, bool)> {
        let Some(systems) = self.values.get(&(leak(workload), what.to_owned())) else { return Vec::new() };
        let goals = GOALS.iter().filter(|goal| goal.workload == workload && what.ends_with(goal.what));
        goals
            .filter_map(|goal| {
                let subject = systems.get(&goal.subject)?;
                let values = match goal.against {
                    Some(yardstick) => {
                        let pairs = subject.iter().zip(systems.get(&yardstick)?);
                        pairs.map(|(subject, yardstick)| subject / yardstick).collect()
                    }
                    None => subject.clone(),
                };
                let value = median(&values);
                Some((goal.to_string(), value, goal.is_reached_by(value)))
            })
            .collect()
    }

    /// Writes `results.json` and the plots into a directory.
    pub(crate) fn write(&self, directory: impl AsRef<Path>) {
        let directory = directory.as_ref();
        fs::create_dir_all(directory).expect("the directory can be made");
        fs::write(directory.join("results.json"), format!("{:#}\n", self.json())).expect("it can be written");
        for ((workload, what), systems) in &self.courses {
            let name: String =
                what.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            let svg = plot::svg(&format!("{workload} {what}"), systems);
            fs::write(directory.join(format!("{workload}-{name}.svg")), svg).expect("it can be written");
        }
        println!("figures and plots: {}", directory.display());
    }

    pub(crate) fn json(&self) -> Value {
        let measures = self.values.iter().map(|((workload, what), systems)| {
            let values: BTreeMap<_, _> = systems
                .iter()
                .map(|(system, values)| (system.name(), json!({ "median": median(values), "rounds": values })))
                .collect();
            let goals = self.judged(workload, what);
            let goals = goals.into_iter().map(
                |(goal, value, reached)| json!({ "goal": goal, "value": value, "reached": reached }),
            );
            json!({ "workload": workload, "what": what, "systems": values, "goals": goals.collect::<Vec<_>>() })
        });
        json!({ "measures": measures.collect::<Vec<_>>() })
    }
}

/// Workloads are constants: the one of this name.
fn leak(workload: &str) -> &'static str {
    super::WORKLOADS.into_iter().find(|name| *name == workload).unwrap_or_default()
}

fn cell(values: &[f64]) -> String {
    let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    match values.len() {
        1 => short(values[0]),
        _ => format!("{} [{}..{}]", short(median(values)), short(low), short(high)),
    }
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// The value below which so much of them lies.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
