//! How many files the daemon may have open: each connection is one.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit (`ulimit -n`) to the hard one. The soft one is low for the sake of programs that use `select(2)`;
/// with it the default of many systems, 1024, would be the number of phones that can connect. Answers what to tell of it once
/// we serve: a start that fails says in one line why, and no more.
pub fn raise_limit() -> impl FnOnce() {
    let was = getrlimit(Resource::Nofile);
    let mut now = was;
    now.current = was.maximum;
    let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |files| files.to_string());
    let raised = setrlimit(Resource::Nofile, now);
    move || match raised {
        Ok(()) => tracing::info!(
            open_files_max = shown(now.current),
            before = shown(was.current),
            "connections are bounded by the open files the system grants"
        ),
        Err(error) => {
            tracing::warn!(%error, open_files_max = shown(was.current), "the system does not let us open more files");
        }
    }
}
