//! What the service manager is told, where one started us: systemd, or whoever sets `NOTIFY_SOCKET`
//! (sd_notify(3) describes it).
//!
//! It starts what needs us once we are ready, and kills and starts us anew when we give no sign of life for as
//! long as it allows: signs come from the thread that does all the work, so that they end when that stands still.
//! That thread never waits for the manager, as the common libraries for this do.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// How often and how many times something is told to a manager that has not yet taken what it was told before.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
const MAX_TRIES: u32 = 600;

/// Everything is started; replicas and broker may still be out of reach, and are waited for.
pub fn ready(replicas: usize) {
    tell(format!("READY=1\nSTATUS=replicating to {replicas} replicas"));
}

/// The configuration is read anew; [`ready`] follows.
pub fn reloading() {
    tell("RELOADING=1".to_owned());
}

/// The end begins.
pub fn stopping() {
    tell("STOPPING=1\nSTATUS=finishing what is under way".to_owned());
}

/// Gives signs of life from now on, if they are expected.
pub fn live() {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let (Some(socket), Some(limit)) = (env::var_os("NOTIFY_SOCKET"), number("WATCHDOG_USEC")) else { return };
    if is_ours {
        let interval = Duration::from_micros(limit) / 3;
        actix_rt::spawn(async move {
            loop {
                // One that is not taken is followed by another.
                let _ = send(&socket, "WATCHDOG=1");
                tokio::time::sleep(interval).await;
            }
        });
    }
}

fn tell(text: String) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return };
    actix_rt::spawn(async move {
        for _ in 0..MAX_TRIES {
            match send(&socket, &text) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                // Nobody may be listening any more: that is no reason to end.
                _ => return,
            }
        }
    });
}

fn send(socket: &OsStr, text: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sending = UnixDatagram::unbound()?;
    sending.set_nonblocking(true)?;
    sending.send_to_addr(text.as_bytes(), &address).map(drop)
}
