//! Waiting for something without sleeping for it.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

/// The longest pause between two looks.
const MOST: Duration = Duration::from_millis(250);

/// What a look at the state of things may return: whether it is as it should be, or what was seen.
pub trait Outcome {
    /// What the caller gets once it is.
    type Value;
    /// The value, or what was seen instead.
    ///
    /// # Errors
    /// What was seen, while it is not yet as it should be.
    fn seen(self) -> Result<Self::Value, String>;
}

impl Outcome for bool {
    type Value = ();
    fn seen(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "false".to_owned())
    }
}

impl<T, E: Debug> Outcome for Result<T, E> {
    type Value = T;
    fn seen(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:?}"))
    }
}

/// Looks again and again until `look` returns `true` or `Ok`, and returns what it returned.
///
/// # Panics
/// When that has not happened within `limit`: names `what` was awaited and what was last seen.
pub async fn eventually<O: Outcome>(
    limit: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> O,
) -> O::Value {
    let started = Instant::now();
    let mut last = "nothing: the first look has not come back".to_owned();
    let mut pause = Duration::from_millis(2);
    loop {
        let left = limit.saturating_sub(started.elapsed());
        let looked = Instant::now();
        match tokio::time::timeout(left, look()).await.map(Outcome::seen) {
            Ok(Ok(value)) => return value,
            Ok(Err(seen)) => last = seen,
            Err(_) => {} // the look hangs: the time is up
        }
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}; last seen: {last}");
        // A look that takes long costs much: what is looked at should come on meanwhile.
        tokio::time::sleep(pause.max(looked.elapsed().min(MOST))).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
