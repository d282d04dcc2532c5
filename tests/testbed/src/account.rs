//! Who runs the servers: PostgreSQL refuses to run as root.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

/// An ordinary user of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// Whom the servers run as: `postgres`, or else `nobody`, where we are root; `None`, meaning
    /// ourselves, everywhere else.
    #[must_use]
    pub fn for_servers() -> Option<Self> {
        let ourselves = fs::metadata("/proc/self").expect("/proc is mounted").uid();
        if ourselves != 0 {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
        let found = ["postgres", "nobody"].iter().find_map(|name| find(&users, name));
        Some(found.expect("the machine has a user postgres or nobody"))
    }

    /// Makes `command` run as this user, without any of root's groups.
    pub fn run(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives a file or directory, without what is in it, to this user.
    pub fn own(self, path: &Path) {
        chown(path, Some(self.uid), Some(self.gid))
            .unwrap_or_else(|error| panic!("giving away {}: {error}", path.display()));
    }

    /// Gives a directory and all that is in it to this user.
    pub fn own_all(self, directory: &Path) {
        self.own(directory);
        for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() { self.own_all(&entry) } else { self.own(&entry) }
        }
    }
}

fn find(users: &str, name: &str) -> Option<Account> {
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let number = |field: usize| line.split(':').nth(field)?.parse().ok();
    Some(Account { uid: number(2)?, gid: number(3)? })
}
