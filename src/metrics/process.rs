//! What the daemon takes up of its machine. Whatever the system does not tell is left out, never 0.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::model::UnixMillis;

/// Notes when the daemon started.
#[expect(clippy::cast_precision_loss, reason = "a gauge is floating point, and this century has no 2^52 milliseconds")]
pub fn started(at: UnixMillis) {
    metrics::gauge!("process_start_time_seconds").set(at.0 as f64 / 1000.0);
}

/// Sets the gauges of the process, and of the disk that `data_dir` is on. Asks the disk, so it may block.
#[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
pub fn report(data_dir: &Path) {
    if let Some(bytes) = resident_bytes() {
        metrics::gauge!("process_resident_memory_bytes").set(bytes as f64);
    }
    let used = clock_gettime(ClockId::ProcessCPUTime);
    metrics::counter!("process_cpu_seconds_total").absolute(used.tv_sec.unsigned_abs());
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // The one that lists them is among them.
        metrics::gauge!("process_open_fds").set(open.count().saturating_sub(1) as f64);
    }
    if let Some(max) = getrlimit(Resource::Nofile).current {
        metrics::gauge!("process_max_fds").set(max as f64);
    }
    if let Ok(disk) = rustix::fs::statvfs(data_dir) {
        metrics::gauge!("hookswitch_data_dir_free_bytes").set(disk.f_bavail.saturating_mul(disk.f_frsize) as f64);
    }
}

/// The second field of `proc_pid_statm(5)`, in pages.
fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(u64::try_from(rustix::param::page_size()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_and_its_disk_are_measured() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let folder = tempfile::tempdir().unwrap();
        metrics::with_local_recorder(&recorder, || {
            started(UnixMillis(1_790_000_000_500));
            report(folder.path());
        });
        let page = recorder.handle().render();
        let value = |name: &str| -> f64 {
            let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!((3.0..=value("process_max_fds")).contains(&value("process_open_fds")));
        assert!((value("process_start_time_seconds") - 1_790_000_000.5).abs() < 1e-3);
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("hookswitch_data_dir_free_bytes") > 0.0);
    }

    #[test]
    fn a_disk_that_is_not_there_is_left_out() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || report(Path::new("/nowhere/at/all")));
        assert!(!recorder.handle().render().contains("free_bytes"));
    }
}
