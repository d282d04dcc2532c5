//! Having the processes that run with a configuration read it anew, and hearing whether they did.
//!
//! The file lies on the machine where they run, so they are asked there, by sockets without a file whose names begin
//! with a digest of its path. So it works also where the primary is away, or where the file gives it another address;
//! one that stands by is asked, too; and a kill leaves nothing behind.

use std::{
    fs, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener as Bound, UnixStream as Connected},
    },
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use futures_util::future::join_all;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};

use crate::cli::Failure;

/// How long an answer may take: to read the file anew, each server is asked whether it fits, and before, an earlier
/// request may have to be done.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// How long whoever asked may take to read the answer.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// More than all problems of a configuration.
const LONGEST_ANSWER: u64 = 1 << 20;

/// After a failure to take a request, such as for want of files.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Somebody wants the configuration to be read anew, and waits for the answer.
#[derive(Debug)]
pub struct Request(oneshot::Sender<String>);

impl Request {
    /// Tells how that ended.
    pub fn answer(self, failure: Option<&Failure>) {
        let answer = match failure {
            None => "read\n".to_owned(),
            Some(Failure::Configuration(problems)) => format!("wrong\n{problems}\n"),
            Some(Failure::Failed(error)) => format!("failed\n{}\n", error.chain()),
        };
        // Whoever asked may be gone.
        let _ = self.0.send(answer);
    }
}

/// Hears requests for the file from now on, for as long as they are received.
///
/// # Errors
/// When no socket can be had.
pub fn listen(file: &Path) -> io::Result<mpsc::Receiver<Request>> {
    let name = format!("{}{:016x}", prefix(file)?, fastrand::u64(..));
    let bound = Bound::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    bound.set_nonblocking(true)?;
    let listener = UnixListener::from_std(bound)?;
    let ours = UnixStream::pair()?.0.peer_cred()?.uid();
    let (sender, receiver) = mpsc::channel(1);
    actix_rt::spawn(async move {
        while !sender.is_closed() {
            match listener.accept().await {
                Ok((asking, _)) => drop(actix_rt::spawn(serve(asking, ours, sender.clone()))),
                Err(_) => tokio::time::sleep(RETRY_INTERVAL).await,
            }
        }
    });
    Ok(receiver)
}

/// Who may end the process may have it read its file.
async fn serve(mut asking: UnixStream, ours: u32, requests: mpsc::Sender<Request>) -> io::Result<()> {
    let may = asking.peer_cred().is_ok_and(|peer| [0, ours].contains(&peer.uid()));
    let answer = if may {
        let (sender, answer) = oneshot::channel();
        let _ = requests.send(Request(sender)).await;
        answer.await.unwrap_or_else(|_| "failed\nit ends\n".to_owned())
    } else {
        "failed\nonly root and the user that it runs as may say so\n".to_owned()
    };
    // Whoever asked may not read it.
    tokio::time::timeout(WRITE_LIMIT, asking.write_all(answer.as_bytes())).await?
}

/// Has all processes here that run with this file read it anew, and prints what they answer.
pub async fn reload(file: &Path) -> ExitCode {
    let shown = file.display();
    let names = match names(file) {
        Ok(names) => names,
        Err(error) => {
            eprintln!("looking for processes that run with {shown}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let answers = join_all(names.iter().map(|name| ask(name))).await;
    let answers: Vec<(i32, String)> = answers.into_iter().flatten().collect();
    if answers.is_empty() {
        eprintln!("no process on this machine runs with {shown}: one that starts reads it then");
        return ExitCode::FAILURE;
    }
    let mut code = 0;
    for (process, answer) in answers {
        let (outcome, lines) = answer.split_once('\n').unwrap_or((&answer, ""));
        if outcome == "read" {
            println!("process {process} has read {shown} anew");
            continue;
        }
        code = code.max(if outcome == "wrong" { 2 } else { 1 });
        eprintln!("process {process} goes on as before:");
        for line in lines.lines() {
            // It may be anybody's who took such a name.
            eprintln!("{}", line.replace(char::is_control, "?"));
        }
    }
    ExitCode::from(code)
}

/// Which process answered what; nothing of one that has just ended.
async fn ask(name: &str) -> Option<(i32, String)> {
    let connected = Connected::connect_addr(&SocketAddr::from_abstract_name(name).ok()?).ok()?;
    connected.set_nonblocking(true).ok()?;
    let asking = UnixStream::from_std(connected).ok()?;
    let process = asking.peer_cred().ok()?.pid()?;
    let mut answer = String::new();
    let mut reading = asking.take(LONGEST_ANSWER);
    let answered = tokio::time::timeout(ANSWER_LIMIT, reading.read_to_string(&mut answer)).await;
    match answered {
        Ok(Ok(0)) => Some((process, "failed\nit ended".to_owned())),
        Ok(Ok(_)) => Some((process, answer)),
        Ok(Err(error)) => Some((process, format!("failed\nno answer: {error}"))),
        Err(_) => {
            Some((process, format!("failed\nno answer within {ANSWER_LIMIT:?}: its log says what it does")))
        }
    }
}

/// The sockets' names of the processes that run with a file.
fn names(file: &Path) -> io::Result<Vec<String>> {
    let prefix = prefix(file)?;
    let sockets = fs::read_to_string("/proc/net/unix")?;
    let named = sockets.lines().filter_map(|line| line.split_whitespace().last()?.strip_prefix('@'));
    let mut names: Vec<String> = named.filter(|name| name.starts_with(&prefix)).map(str::to_owned).collect();
    // A connection that waits to be taken is listed under the same name.
    names.sort();
    names.dedup();
    Ok(names)
}

/// The same however the file is named; but not what it links to, which may be replaced.
fn prefix(file: &Path) -> io::Result<String> {
    let directory = match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let path = directory.canonicalize()?.join(file.file_name().unwrap_or_default());
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    let hexadecimal: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("pgfanout/{hexadecimal}/"))
}
