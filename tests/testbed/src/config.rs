//! pgfanout's configuration file, as tests write it.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// A configuration: fields to be changed, then [`write`](Self::write).
///
/// The fields called `more` take lines of TOML that are added to their section as they are.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    directory: PathBuf,
    /// `[primary]`.
    pub primary: Section,
    /// `[broker]`; `None` leaves it out.
    pub broker: Option<BrokerSection>,
    /// One `[[replica]]` each.
    pub replicas: Vec<ReplicaSection>,
    /// Whole sections, added at the end.
    pub more: String,
}

/// A section with one connection string.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its `url`.
    pub url: String,
    /// More lines of it.
    pub more: String,
}

/// `[broker]`.
#[derive(Clone, Debug)]
pub struct BrokerSection {
    /// Its `urls`.
    pub urls: Vec<String>,
    /// Its `exchange`.
    pub exchange: String,
    /// More lines of it.
    pub more: String,
}

/// `[[replica]]`.
#[derive(Clone, Debug)]
pub struct ReplicaSection {
    /// Its `name`.
    pub name: String,
    /// Its `url`.
    pub url: String,
    /// More lines of it.
    pub more: String,
}

impl ConfigFile {
    pub(crate) fn new(
        directory: PathBuf,
        primary: String,
        broker: Option<(String, String)>,
        replicas: impl Iterator<Item = String>,
    ) -> Self {
        let replica = |(n, url)| ReplicaSection { name: format!("r{}", n + 1), url, more: String::new() };
        Self {
            directory,
            primary: Section { url: primary, more: String::new() },
            broker: broker.map(|(url, exchange)| BrokerSection {
                urls: vec![url],
                exchange,
                more: String::new(),
            }),
            replicas: replicas.enumerate().map(replica).collect(),
            more: String::new(),
        }
    }

    /// Adds lines to `[primary]`, such as `tables = ["public.*"]`.
    #[must_use]
    pub fn primary(mut self, lines: &str) -> Self {
        self.primary.more += &format!("{lines}\n");
        self
    }

    /// Adds lines to `[broker]`, such as `max_changes_per_message = 1`. Nothing where there is none.
    #[must_use]
    pub fn broker(mut self, lines: &str) -> Self {
        if let Some(broker) = &mut self.broker {
            broker.more += &format!("{lines}\n");
        }
        self
    }

    /// Keeps the first `count` replicas: the others may join later.
    #[must_use]
    pub fn replicas(mut self, count: usize) -> Self {
        self.replicas.truncate(count);
        self
    }

    /// Adds whole sections at the end.
    #[must_use]
    pub fn more(mut self, sections: &str) -> Self {
        self.more += &format!("{sections}\n");
        self
    }

    /// Writes it as `pgfanout.toml` into the world's directory, over an earlier one.
    #[must_use]
    pub fn write(&self) -> PathBuf {
        self.write_as("pgfanout.toml")
    }

    /// Writes it under another name into the world's directory.
    #[must_use]
    pub fn write_as(&self, name: &str) -> PathBuf {
        let path = self.directory.join(name);
        write_whole(&path, &self.text());
        path
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("[primary]\nurl = {:?}\n{}\n", self.primary.url, self.primary.more);
        if let Some(BrokerSection { urls, exchange, more }) = &self.broker {
            let _ = writeln!(text, "[broker]\nurls = {urls:?}\nexchange = {exchange:?}\n{more}");
        }
        for ReplicaSection { name, url, more } in &self.replicas {
            let _ = writeln!(text, "[[replica]]\nname = {name:?}\nurl = {url:?}\n{more}");
        }
        if !self.more.contains("[log]") {
            text += "[log]\nformat = \"json\"\nlevel = \"info\"\n\n";
        }
        text + &self.more
    }
}

/// Never half a file for a program that reads it at this moment.
fn write_whole(path: &Path, text: &str) {
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, text).and_then(|()| fs::rename(&unfinished, path)).expect("the directory is ours");
}
