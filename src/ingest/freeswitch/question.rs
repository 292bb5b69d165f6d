//! What is asked of `FreeSWITCH`, and how its answers are laid out.

use serde::Deserialize;

use super::codec::{BadCommand, argument, command};

/// Something to ask. The answers come in the order of the questions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// Are you there? (`status`)
    Alive,
    /// The SIP profiles.
    Profiles,
    /// The registrations of a profile.
    Registrations(String),
    /// The users of the directory.
    Users,
    /// All channels, briefly.
    Channels,
    /// One channel with its variables.
    Channel(String),
    /// The queues of `mod_callcenter`.
    Queues,
    /// Its agents.
    Agents,
    /// Which agents are in which queues.
    Tiers,
    /// The callers in one queue.
    Waiting(String),
}

impl Question {
    /// The command that asks it.
    ///
    /// # Errors
    /// When a name in it can't be sent.
    pub fn command(&self) -> Result<Vec<u8>, BadCommand> {
        match self {
            Self::Alive => command("api status"),
            Self::Profiles => command("api sofia status"),
            Self::Registrations(profile) => command(&format!("api sofia status profile {} reg", argument(profile)?)),
            Self::Users => command("api list_users"),
            Self::Channels => command("api show channels as json"),
            Self::Channel(uuid) => command(&format!("api uuid_dump {} json", argument(uuid)?)),
            Self::Queues => command("api callcenter_config queue list"),
            Self::Agents => command("api callcenter_config agent list"),
            Self::Tiers => command("api callcenter_config tier list"),
            Self::Waiting(queue) => command(&format!("api callcenter_config queue list members {}", argument(queue)?)),
        }
    }
}

/// A table of `|` columns whose first line names them. None when the answer is an error.
#[must_use]
pub(super) fn table(answer: &str) -> Option<Table<'_>> {
    if answer.starts_with("-ERR") || answer.starts_with("-USAGE") {
        return None;
    }
    let mut lines = answer.lines().map(|line| line.trim_end_matches('\r')).filter(|line| !line.is_empty());
    let columns = lines.next().filter(|line| !line.starts_with("+OK")).map(|line| line.split('|').collect());
    Some(Table { columns: columns.unwrap_or_default(), lines: lines.take_while(|line| *line != "+OK").collect() })
}

/// See [`table`].
#[derive(Debug)]
pub(super) struct Table<'a> {
    columns: Vec<&'a str>,
    lines: Vec<&'a str>,
}

impl<'a> Table<'a> {
    /// Whether it has these columns, or nothing at all: what says so little is taken at its word.
    pub fn has(&self, columns: &[&str]) -> bool {
        self.columns.is_empty() || columns.iter().all(|column| self.columns.contains(column))
    }

    /// The rows, each with its cells in the order of `columns`; a row that lacks one of them is left out. A column of free
    /// text may hold the separator itself: then the first of its pieces stands for it.
    pub fn rows<const N: usize>(&self, columns: [&str; N]) -> impl Iterator<Item = [&'a str; N]> {
        let places = columns.map(|column| self.columns.iter().position(|known| *known == column));
        let free = self.columns.iter().position(|column| FREE_TEXT.contains(column)).unwrap_or(usize::MAX);
        let width = self.columns.len();
        self.lines.iter().filter_map(move |line| {
            let cells: Vec<&str> = line.split('|').collect();
            let more = cells.len().checked_sub(width)?;
            let mut row = [""; N];
            for (cell, place) in row.iter_mut().zip(places) {
                let place = place?;
                *cell = cells.get(if place > free { place + more } else { place }).copied()?;
            }
            (more == 0 || free < width).then_some(row)
        })
    }
}

/// The running profiles that `sofia status` lists. None when the answer is something else.
#[must_use]
pub(super) fn profiles(answer: &str) -> Option<Vec<String>> {
    answer.contains("====").then_some(())?;
    let rows = answer.lines().filter_map(|line| {
        let mut cells = line.split('\t').map(str::trim);
        let (name, kind, _data, state) = (cells.next()?, cells.next()?, cells.next()?, cells.next()?);
        (kind == "profile" && state.starts_with("RUNNING")).then(|| name.to_owned())
    });
    Some(rows.take(PROFILES_MAX).collect())
}

/// The entries of a list of registrations, each as its `Name: value` lines. None when the answer is something else, such
/// as `Invalid Profile!`.
#[must_use]
pub(super) fn registrations(answer: &str) -> Option<Vec<Vec<(&str, &str)>>> {
    answer.contains("Registrations:").then_some(())?;
    let mut entries = Vec::new();
    for line in answer.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name == "Call-ID" {
            entries.push(Vec::new());
        }
        if let Some(entry) = entries.last_mut() {
            entry.push((name, value.trim()));
        }
    }
    Some(entries)
}

/// The channels of `show channels as json`: their unique ids. None when the answer is something else or cut short.
#[must_use]
pub(super) fn channels(answer: &str) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Shown {
        row_count: usize,
        #[serde(default)]
        rows: Vec<Row>,
    }
    #[derive(Deserialize)]
    struct Row {
        uuid: String,
    }
    let shown: Shown = serde_json::from_str(answer.trim()).ok()?;
    (shown.rows.len() == shown.row_count).then(|| shown.rows.into_iter().map(|row| row.uuid).collect())
}

const PROFILES_MAX: usize = 64;
const FREE_TEXT: [&str; 3] = ["contact", "moh_sound", "cid_name"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_by_the_names_of_its_columns() {
        let table = table("queue|agent|state|level|position\ns@d|201@d|Ready|1|2\nbroken|row\n+OK\n").unwrap();
        assert!(table.has(&["agent", "queue"]) && !table.has(&["contact"]));
        assert_eq!(table.rows(["agent", "level", "queue"]).collect::<Vec<_>>(), [["201@d", "1", "s@d"]]);
    }

    #[test]
    fn a_contact_with_alternatives_does_not_shift_what_follows() {
        let table = table("name|contact|status\n201@d|user/201@d|user/202@d|On Break\n+OK\n").unwrap();
        let rows: Vec<_> = table.rows(["name", "contact", "status"]).collect();
        assert_eq!(rows, [["201@d", "user/201@d", "On Break"]]);
    }

    #[test]
    fn an_empty_table_and_an_error_are_told_apart() {
        assert_eq!(table("+OK\n").unwrap().rows(["queue"]).count(), 0);
        assert!(table("-ERR callcenter_config Command not found!\n").is_none());
    }

    #[test]
    fn only_profiles_that_run_are_listed() {
        let answer = "   Name\t Type\t Data\tState\n====\n 127.0.0.1\t alias\t internal\tALIASED\n internal\tprofile\tsip:x\t\
            RUNNING (0)\n external\tprofile\tsip:y\tDOWN\n internal::trunk\tgateway\tsip:z\tNOREG\n====\n1 profile 1 alias\n";
        assert_eq!(profiles(answer).unwrap(), ["internal"]);
        assert_eq!(profiles("-ERR no reply"), None);
    }

    #[test]
    fn a_list_of_channels_that_is_cut_short_is_none() {
        assert_eq!(channels("{\"row_count\": 0}").unwrap(), Vec::<String>::new());
        assert_eq!(channels(r#"{"row_count":1,"rows":[{"uuid":"a","state":"x"}]}"#).unwrap(), ["a"]);
        assert_eq!(channels(r#"{"row_count":2,"rows":[{"uuid":"a"}]}"#), None);
        assert_eq!(channels("0 total."), None);
    }
}
