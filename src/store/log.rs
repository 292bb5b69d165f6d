//! The log of bindings: lines of text, many to a row, appended by each commit. The latest line of a device counts.

use std::collections::{HashSet, VecDeque};
use std::io::Write as _;

use uuid::Uuid;

use super::commit::Item;
use super::contacts::{self, Contact};
use super::{Kind, Seq, StoreError};
use crate::model::DeviceId;

/// How far the log has come, who is in it, and which of it is on its way out.
#[derive(Debug, Default)]
pub struct Log {
    /// The last commit that wrote, or may have written, to it.
    pub(super) commit: u64,
    /// About how many lines it holds.
    pub(super) lines: u64,
    /// Nothing is left of it up to this row.
    pub(super) head: i64,
    /// Rows to be deleted; see [`Doomed`].
    pub(super) doomed: Option<Doomed>,
    /// What each commit wrote, the oldest first, but for those that are doomed. The database is not asked: reading it would
    /// keep the next commit waiting.
    commits: VecDeque<Commit>,
    /// Whose lines these are, in the same order.
    devices: VecDeque<DeviceId>,
}

#[derive(Debug)]
struct Commit {
    number: u64,
    /// Of one that failed these may be there or not, and are nobody's: its devices were noted as changed again.
    lines: u32,
    devices: u32,
}

/// The oldest rows up to `last`. What still counted in them was marked as changed, and is written anew, as is what had
/// changed without being stored: once `seq` is committed, nothing in them counts any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doomed {
    pub(super) last: i64,
    pub(super) lines: u64,
    pub(super) seq: Seq,
}

/// One line: the bindings of a device as they were at a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) device: DeviceId,
    /// Number of their last change.
    pub(super) seq: Seq,
    /// JSON, as [`contacts`] writes it.
    pub(super) contacts: &'a str,
}

impl Log {
    /// Notes a line that is there when we start. They come as they are read: the latest first.
    pub(super) fn found(&mut self, commit: u64, device: DeviceId) {
        self.commit = self.commit.max(commit);
        self.lines += 1;
        self.devices.push_front(device);
        match self.commits.front_mut() {
            Some(front) if front.number == commit => {
                front.lines += 1;
                front.devices += 1;
            }
            _ => self.commits.push_front(Commit { number: commit, lines: 1, devices: 1 }),
        }
    }

    /// Takes out the oldest commits that are worth a `look` each at their lines, with so many devices there are; none while
    /// every second line may count. So as many lines are written anew, at worst, as changes are. They are more the further
    /// the log is beyond that: little and often keeps no commit waiting, and yet it keeps up with whatever is written.
    /// Answers the last row they wrote, and how many lines.
    pub(super) fn take_oldest(&mut self, devices: usize, mut look: impl FnMut(DeviceId, u64)) -> Option<(i64, u64)> {
        let beyond = self.lines.saturating_sub(2 * devices as u64 + SLACK_LINES);
        if self.doomed.is_some() || beyond == 0 {
            return None;
        }
        let wanted = beyond.saturating_mul(4).clamp(TIDY_LINES_MIN, TIDY_LINES_MAX);
        let (mut last, mut lines) = (None, 0);
        while lines < wanted
            && let Some(commit) = self.commits.pop_front()
        {
            let devices = self.devices.drain(..(commit.devices as usize).min(self.devices.len()));
            devices.for_each(|device| look(device, commit.number));
            lines += u64::from(commit.lines);
            last = Some(row_id(commit.number, usize::MAX));
        }
        Some((last?, lines))
    }

    /// Notes what the latest commit wrote and deleted.
    pub(super) fn written(&mut self, items: &[Item]) {
        let before = self.devices.len();
        self.devices.extend(bound(items));
        self.note(self.devices.len() - before, self.devices.len() - before);
        if items.iter().any(|item| matches!(item, Item::Forget { .. }))
            && let Some(doomed) = self.doomed.take()
        {
            self.head = doomed.last;
            self.lines = self.lines.saturating_sub(doomed.lines);
        }
    }

    /// Notes that nobody knows how much of the latest commit is there. Its rows count like others, or what a long outage
    /// leaves behind would be deleted all at once.
    pub(super) fn failed(&mut self, items: &[Item]) {
        self.note(bound(items).count(), 0);
    }

    fn note(&mut self, lines: usize, devices: usize) {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        if lines > 0 {
            self.lines += lines as u64;
            self.commits.push_back(Commit { number: self.commit, lines: number(lines), devices: number(devices) });
        }
    }

    /// A number for the next attempt to write. Never one of an earlier attempt: of one whose outcome nobody knows the lines
    /// may be there, and must be the older ones.
    pub(super) fn next_commit(&mut self) -> u64 {
        self.commit += 1;
        self.commit
    }
}

/// The devices whose bindings are among `items`.
fn bound(items: &[Item]) -> impl Iterator<Item = DeviceId> {
    items.iter().filter_map(|item| match item {
        Item::Change { key, .. } if key.kind == Kind::Bindings => Some(DeviceId(key.id)),
        _ => None,
    })
}

/// The line of a device with these contacts.
#[must_use]
pub fn line<'a>(device: DeviceId, seq: Seq, contacts: impl Iterator<Item = Contact<'a>>) -> String {
    let mut line = Vec::with_capacity(LINE_BYTES);
    // Writing to memory can't fail.
    let _ = write!(line, "{} {} ", device.0.hyphenated(), seq.0);
    contacts::encode(contacts, &mut line);
    // Made of strings and numbers.
    String::from_utf8(line).unwrap_or_default()
}

/// The line that says that a device has no bindings any more.
pub(super) fn without_bindings(device: Uuid, seq: Seq) -> String {
    line(DeviceId(device), seq, std::iter::empty())
}

/// The lines of a row, which is named in the error when one is none.
pub(super) fn lines(id: i64, body: &str) -> impl DoubleEndedIterator<Item = Result<Line<'_>, StoreError>> {
    body.split('\n').map(move |text| {
        let mut parts = text.splitn(3, ' ');
        let device = parts.next().and_then(|device| Uuid::try_parse(device).ok());
        let seq = parts.next().and_then(|seq| seq.parse().ok());
        match (device, seq, parts.next()) {
            (Some(device), Some(seq), Some(contacts)) => Ok(Line { device: DeviceId(device), seq: Seq(seq), contacts }),
            _ => Err(StoreError::Corrupt {
                table: "bindings_log",
                row: id.to_string(),
                column: "body",
                detail: "a line is not a device, a number and contacts".into(),
            }),
        }
    })
}

/// The id of the row that begins with the item `index` of a commit.
pub(super) fn row_id(commit: u64, index: usize) -> i64 {
    let place = u64::try_from(index).unwrap_or(u64::MAX).min((1 << PLACE_BITS) - 1);
    i64::try_from((commit << PLACE_BITS) | place).unwrap_or(i64::MAX)
}

/// The commit that wrote a row.
pub(super) fn commit_of(id: i64) -> u64 {
    u64::try_from(id >> PLACE_BITS).unwrap_or(0)
}

/// Devices already met, when the log is read from its end.
pub(super) type Met = HashSet<DeviceId, foldhash::fast::RandomState>;

/// A commit has fewer items than this many bits can number.
const PLACE_BITS: u32 = 16;

/// Void lines that are not worth a look, however few devices there are: some megabytes.
const SLACK_LINES: u64 = 20_000;

/// Lines looked at together: from about what a few commits bring, a millisecond's work, to twenty times that.
const TIDY_LINES_MIN: u64 = 1_000;
const TIDY_LINES_MAX: u64 = 20_000;

/// Room for most phones' lines.
const LINE_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::sync::{Arc, Mutex, Weak};
    use std::time::Duration;

    use super::super::batch::{LogRows, Parameter, steps};
    use super::super::commit::{Sink, WriteError};
    use super::*;
    use crate::clock::Clock;
    use crate::model::{Tick, UnixMillis};
    use crate::store::pending::Span;
    use crate::store::{DirtyKey, Journal, Records, Row};

    #[test]
    fn lines_come_back_from_a_row_and_what_is_none_is_named() {
        let device = DeviceId(Uuid::from_u128(7));
        let body = [line(device, Seq(3), std::iter::empty()), without_bindings(device.0, Seq(u64::MAX))].join("\n");
        let read: Vec<Line<'_>> = lines(1, &body).map(Result::unwrap).collect();
        assert_eq!(read[0], Line { device, seq: Seq(3), contacts: "[]" });
        assert_eq!(read[1].seq, Seq(u64::MAX));
        for wrong in ["", "x", "00000000-0000-0000-0000-000000000007 x []", "00000000-0000-0000-0000-000000000007 1"] {
            let error = lines(42, wrong).next().map(|line| line.unwrap_err().to_string()).unwrap_or_default();
            assert!(error.contains("bindings_log") && error.contains("42"), "{error}");
        }
    }

    /// The bindings of a device have changed.
    fn change(n: u128) -> Item {
        Item::Change {
            key: DirtyKey { kind: Kind::Bindings, id: Uuid::from_u128(n) },
            row: None,
            span: Span { first: 0, last: 0, at: Tick(0) },
            place: 0,
        }
    }

    #[test]
    fn the_oldest_rows_are_looked_at_little_and_often_and_yet_it_does_not_grow() {
        // What a commit brings, and which of the lines looked at still count, in percent.
        for (brought, live, looked_at_once) in [(256, 0, 2_000), (256, 50, 4_000), (5_000, 50, 2 * TIDY_LINES_MAX)] {
            let (mut log, mut anew) = (Log::default(), 0);
            for _ in 0..5_000 {
                let mut items: Vec<Item> = (0..brought + anew).map(change).collect();
                anew = 0;
                items.extend(log.doomed.map(|doomed| Item::Forget { head: log.head, last: doomed.last }));
                log.next_commit();
                log.written(&items);
                if let Some((last, lines)) = log.take_oldest(40_000, |_, _| ()) {
                    assert!(lines <= looked_at_once, "{lines} at once when {brought} come and {live} % count");
                    anew = u128::from(lines) * live / 100;
                    log.doomed = Some(Doomed { last, lines, seq: Seq(0) });
                }
                assert!(log.lines < 150_000, "{} lines for 40 000 devices", log.lines);
            }
        }
    }

    #[test]
    fn what_an_outage_leaves_behind_goes_in_portions_too() {
        let (mut log, items) = (Log::default(), (0..5_000).map(change).collect::<Vec<_>>());
        for _ in 0..100 {
            log.next_commit();
            log.failed(&items);
        }
        log.next_commit();
        log.written(&items);
        let (mut portions, mut looked_at) = (0, 0);
        while let Some((last, lines)) = log.take_oldest(5_000, |_, _| looked_at += 1) {
            assert!(lines <= TIDY_LINES_MAX + 5_000, "{lines} at once");
            log.doomed = Some(Doomed { last, lines, seq: Seq(0) });
            log.next_commit();
            log.written(&[Item::Forget { head: log.head, last }]);
            portions += 1;
        }
        assert!(portions > 20 && looked_at <= 5_000, "{portions} portions, {looked_at} lines looked at");
        assert!(log.lines <= 2 * 5_000 + SLACK_LINES);
    }

    #[test]
    fn what_is_found_at_a_start_is_looked_at_from_the_oldest_on() {
        let mut log = Log::default();
        for (commit, device) in [(9, 1), (9, 2), (7, 2), (4, 3)] {
            log.found(commit, DeviceId(Uuid::from_u128(device)));
        }
        log.lines = u64::MAX;
        let mut looked = Vec::new();
        let oldest = log.take_oldest(0, |device, commit| looked.push((commit, device.0.as_u128())));
        assert_eq!((oldest, log.commit), (Some((row_id(9, usize::MAX), 4)), 9));
        assert_eq!(looked, [(4, 3), (7, 2), (9, 2), (9, 1)]);
        assert_eq!(log.take_oldest(0, |_, _| ()), None);
    }

    #[test]
    fn rows_are_in_the_order_of_commits_and_tell_theirs() {
        assert!(row_id(7, 9_999) < row_id(8, 0) && row_id(8, 0) < row_id(8, 1));
        assert_eq!([commit_of(row_id(7, 9_999)), commit_of(row_id(8, 0)), commit_of(17)], [7, 8, 0]);
    }

    /// Phones that are nothing but a number and the commit they were read for; none = the phone is gone.
    struct Phones {
        journal: Arc<Journal>,
        phones: Mutex<HashMap<Uuid, (Option<Seq>, u64)>>,
    }

    impl Phones {
        fn change(&self, n: u128, is_there: bool) -> Seq {
            let mut phones = self.phones.lock().unwrap();
            let key = DirtyKey { kind: Kind::Bindings, id: Uuid::from_u128(n) };
            let seq = self.journal.mark(key);
            phones.entry(key.id).or_default().0 = is_there.then_some(seq);
            seq
        }
    }

    impl Records for Phones {
        fn read(&self, key: DirtyKey, commit: u64) -> Option<Row> {
            let mut phones = self.phones.lock().unwrap();
            let (seq, read_for) = phones.get_mut(&key.id)?;
            *read_for = commit;
            seq.map(|seq| Row::Bindings { line: format!("{} {seq} [{{}}]", key.id), seq })
        }

        fn write_anew(&self, device: DeviceId, commit: u64) {
            let phones = self.phones.lock().unwrap();
            if phones.get(&device.0).is_some_and(|(seq, read_for)| seq.is_some() && *read_for == commit) {
                self.journal.mark(DirtyKey { kind: Kind::Bindings, id: device.0 });
            }
        }

        fn devices(&self) -> usize {
            0
        }
    }

    /// A table that fails every so often, before or after it has done what it was told.
    struct Flaky {
        rows: Arc<Mutex<BTreeMap<i64, String>>>,
        writes: u32,
    }

    impl Sink for Flaky {
        async fn write(&mut self, items: &[Item]) -> Result<(), WriteError> {
            self.writes += 1;
            if self.writes % 11 == 3 {
                return Err(WriteError::Unavailable("before".into()));
            }
            for step in steps(items, None, 200).unwrap().0 {
                let mut rows = self.rows.lock().unwrap();
                match step.parameter {
                    Parameter::Log(LogRows { ids, bodies }) => {
                        for (id, body) in ids.into_iter().zip(bodies) {
                            assert_eq!(rows.insert(id, body), None, "a row is written once");
                        }
                    }
                    Parameter::Range(head, last) => rows.retain(|id, _| *id <= head || *id > last),
                    Parameter::None | Parameter::Json(_) => {}
                }
            }
            if self.writes % 13 == 7 { Err(WriteError::Unavailable("after".into())) } else { Ok(()) }
        }
    }

    /// What a start would find: the latest line of each phone.
    fn found(rows: &BTreeMap<i64, String>) -> HashMap<Uuid, (Seq, bool)> {
        let lines = rows.iter().flat_map(|(id, body)| lines(*id, body).map(Result::unwrap));
        lines.map(|line| (line.device.0, (line.seq, line.contacts != "[]"))).collect()
    }

    #[tokio::test]
    async fn a_log_that_is_tidied_all_the_time_in_any_weather_keeps_what_was_acknowledged() {
        let untidy = Log { lines: u64::MAX / 2, ..Log::default() };
        let journal = Arc::new(Journal::new(Seq(0), untidy, Clock::manual(UnixMillis(0)), 1));
        let phones = Arc::new(Phones { journal: journal.clone(), phones: Mutex::default() });
        let (rows, records): (Arc<Mutex<_>>, Weak<Phones>) = (Arc::default(), Arc::downgrade(&phones));
        let sink = Flaky { rows: rows.clone(), writes: 0 };
        tokio::spawn(async move { journal.run(records, sink).await });
        // By phone, what somebody was told is stored.
        let mut told: HashMap<Uuid, (Seq, bool)> = HashMap::new();
        for round in 0..400_u128 {
            // Some change often, some were there first and never change again, some go.
            let changed: Vec<u128> = if round < 20 { vec![100 + round] } else { vec![round % 7, round * 5 % 11] };
            let mut last = Seq(0);
            let mut asked = Vec::new();
            for n in changed {
                let is_there = round < 20 || !(round + n).is_multiple_of(9);
                last = phones.change(n, is_there);
                asked.push((Uuid::from_u128(n), (last, is_there)));
            }
            if round % 3 == 1 {
                // Nobody waits for these.
                told.retain(|phone, _| asked.iter().all(|(changed, _)| changed != phone));
                continue;
            }
            phones.journal.committed(last, Duration::from_secs(20)).await.unwrap();
            told.extend(asked);
            let found = found(&rows.lock().unwrap());
            for (phone, (seq, is_there)) in &told {
                let kept = found.get(phone).filter(|(_, is_there)| *is_there).map(|(seq, _)| *seq);
                assert_eq!(kept, is_there.then_some(*seq), "round {round}: {phone}");
            }
        }
        let lines: usize = rows.lock().unwrap().values().map(|body| body.lines().count()).sum();
        assert!(lines < 100, "{lines} lines for 31 phones");
    }
}
