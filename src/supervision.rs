//! What a service manager is told of us (systemd, `sd_notify(3)`): that we serve, reload, stop, and that we live.
//!
//! To live is more than to run: whoever serves listeners is asked now and then and must answer, and the watchdog is fed
//! only when all have. A database that is away is no reason to end: we serve without it, and say so in the status.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;

/// The service manager that has started us; nobody, when none has or it does not want to hear. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    line: Option<SyncSender<News>>,
    watchdog: Option<Duration>,
}

/// What must turn for us to be alive. Cloning it shares it.
#[derive(Clone, Debug)]
pub struct Liveness(Arc<Inner>);

/// Held by a loop that must turn; it answers when it is asked.
#[derive(Debug)]
pub struct Pulse {
    asked: watch::Receiver<u64>,
    mark: Arc<Mark>,
}

#[derive(Debug)]
enum News {
    Ready(String),
    Reloading,
    Stopping(String),
    Status(String),
    Alive,
}

#[derive(Debug)]
struct Inner {
    asked: watch::Sender<u64>,
    marks: Mutex<Vec<(String, Weak<Mark>)>>,
}

/// The number of the question that a loop answered last.
#[derive(Debug, Default)]
struct Mark(AtomicU64);

impl Supervisor {
    /// As `$NOTIFY_SOCKET` and `$WATCHDOG_USEC` say.
    #[must_use]
    pub fn from_environment() -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none_or(|path| path.is_empty()) {
            return Self::default();
        }
        let (line, news) = sync_channel::<News>(NEWS_MAX);
        // A thread of its own: a manager that does not read must hold up nobody here.
        let told = std::thread::Builder::new().name("supervision".into()).spawn(move || {
            for news in news {
                if let Err(error) = news.tell() {
                    tracing::warn!(%error, ?news, "the service manager can't be told");
                }
            }
        });
        if let Err(error) = told {
            tracing::error!(%error, "the service manager can't be told anything: no thread");
            return Self::default();
        }
        Self { line: Some(line), watchdog: sd_notify::watchdog_enabled().filter(|within| !within.is_zero()) }
    }

    /// Whether anybody hears what is said here.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.line.is_some()
    }

    /// Within which time it wants to hear again that we live, or ends us.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// We serve, or serve again after a reload.
    pub fn ready(&self, status: &str) {
        self.say(News::Ready(status.to_owned()));
    }

    /// What was configured is read again; [`Self::ready`] follows.
    pub fn reloading(&self) {
        self.say(News::Reloading);
    }

    /// We end.
    pub fn stopping(&self, status: &str) {
        self.say(News::Stopping(status.to_owned()));
    }

    /// A line for people.
    pub fn status(&self, status: &str) {
        self.say(News::Status(status.to_owned()));
    }

    /// We live. Feeds the watchdog.
    pub fn alive(&self) {
        self.say(News::Alive);
    }

    fn say(&self, news: News) {
        // Full, the manager has not read for long; it hears the next of these.
        let _ = self.line.as_ref().map(|line| line.try_send(news));
    }
}

impl News {
    fn tell(&self) -> std::io::Result<()> {
        match self {
            Self::Ready(status) => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]),
            Self::Reloading => sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?]),
            Self::Stopping(status) => sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status(status)]),
            Self::Status(status) => sd_notify::notify(&[NotifyState::Status(status)]),
            Self::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        }
    }
}

impl Liveness {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner { asked: watch::Sender::new(0), marks: Mutex::default() }))
    }

    /// A loop called `name` must turn from now on.
    #[must_use]
    pub fn enrol(&self, name: String) -> Pulse {
        let mark = Arc::new(Mark::default());
        let mut marks = self.0.marks.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that who is asked next is in the list.
        let asked = self.0.asked.subscribe();
        mark.0.store(*asked.borrow(), Ordering::Release);
        marks.push((name, Arc::downgrade(&mark)));
        Pulse { asked, mark }
    }

    /// Asks all loops and waits until each has answered, at most `wait`.
    ///
    /// # Errors
    /// The names of those that did not, or that are gone.
    pub async fn check(&self, wait: Duration) -> Result<(), Vec<String>> {
        self.0.asked.send_modify(|number| *number += 1);
        let looks = u32::try_from(wait.as_millis() / LOOK_EVERY.as_millis()).unwrap_or(u32::MAX);
        for _ in 0..looks {
            if self.silent().is_empty() {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let silent = self.silent();
        if silent.is_empty() { Ok(()) } else { Err(silent) }
    }

    fn silent(&self) -> Vec<String> {
        let asked = *self.0.asked.borrow();
        let marks = self.0.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let is_silent = |mark: &Weak<Mark>| mark.upgrade().is_none_or(|mark| mark.0.load(Ordering::Acquire) < asked);
        marks.iter().filter(|(_, mark)| is_silent(mark)).map(|(name, _)| name.clone()).collect()
    }
}

impl Default for Liveness {
    fn default() -> Self {
        Self::new()
    }
}

impl Pulse {
    /// Waits until it is asked, and answers. Safe to drop before it is ready.
    pub async fn beat(&mut self) {
        if self.asked.changed().await.is_err() {
            // Nobody is left who could ask.
            return std::future::pending().await;
        }
        let asked = *self.asked.borrow_and_update();
        self.mark.0.store(asked, Ordering::Release);
    }
}

/// What waits for a manager that does not read.
const NEWS_MAX: usize = 64;
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_loops_must_turn_and_those_that_do_not_are_named() {
        let liveness = Liveness::new();
        assert_eq!(liveness.check(Duration::ZERO).await, Ok(()), "nothing has to turn");
        let (mut turns, stands) = (liveness.enrol("turns".into()), liveness.enrol("stands".into()));
        let turning = tokio::spawn(async move {
            loop {
                turns.beat().await;
            }
        });
        assert_eq!(liveness.check(Duration::from_millis(200)).await, Err(vec!["stands".to_owned()]));
        let mut stands = stands;
        let both = tokio::spawn(async move {
            loop {
                stands.beat().await;
            }
        });
        assert_eq!(liveness.check(Duration::from_secs(20)).await, Ok(()));
        both.abort();
        let _ = both.await;
        // Gone is as bad as standing still.
        assert_eq!(liveness.check(Duration::from_millis(200)).await, Err(vec!["stands".to_owned()]));
        turning.abort();
    }
}
