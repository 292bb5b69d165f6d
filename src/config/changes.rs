//! What of a configuration takes effect when it is read again, and what needs a restart.

use std::collections::BTreeMap;
use std::fmt;

use super::Config;
use super::read::{Tree, Value};

/// What was written for each key, by its path. Never shown: some of it is secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Written(BTreeMap<String, String>);

impl Config {
    /// What runs when `new` was read while `self` runs, and the keys that changed: those that have taken effect, and those
    /// that need a restart and are as they were.
    #[must_use]
    pub fn reload(&self, new: Self) -> (Self, Changes) {
        let mut changes = Changes::default();
        for key in self.written.differing(&new.written) {
            let list = if self.may_change(&key, &new) { &mut changes.taken } else { &mut changes.waiting };
            list.push(key);
        }
        let mut running = self.clone();
        for key in &changes.taken {
            running.written.copy(key, &new.written);
        }
        running.log.level = new.log.level;
        running.limits = super::Limits { receive_buffer_kib: self.limits.receive_buffer_kib, ..new.limits };
        running.limits.keepalives_per_second_max = self.limits.keepalives_per_second_max;
        running.limits.keepalives_under_way_max = self.limits.keepalives_under_way_max;
        running.retention = new.retention;
        running.registrar.expires_default_s = new.registrar.expires_default_s;
        running.registrar.expires_min_s = new.registrar.expires_min_s;
        running.registrar.expires_max_s = new.registrar.expires_max_s;
        running.registrar.expires_deviation_percent = new.registrar.expires_deviation_percent;
        running.registrar.contacts_max = new.registrar.contacts_max;
        for listener in &mut running.listeners {
            let key = format!("listeners.{}.networks", listener.name);
            let now = new.listeners.iter().find(|now| now.name == listener.name);
            if let Some(now) = now.filter(|_| changes.taken.contains(&key)) {
                listener.networks.clone_from(&now.networks);
            }
        }
        (running, changes)
    }

    /// Whether a change of `key` takes effect without a restart.
    fn may_change(&self, key: &str, new: &Self) -> bool {
        if let Some(name) = key.strip_prefix("listeners.").and_then(|rest| rest.strip_suffix(".networks")) {
            // Who may send and whether passwords are asked for are judged together: the one without the other might let in
            // anybody.
            let prefix = format!("listeners.{name}.");
            let same = |key: &String| !key.starts_with(&prefix) || key.strip_prefix(&prefix) == Some("networks");
            let is_there = |config: &Self| config.listeners.iter().any(|listener| listener.name == name);
            return is_there(self) && is_there(new) && self.written.differing(&new.written).iter().all(same);
        }
        let is_limit = key.starts_with("limits.") || key.starts_with("retention.");
        (is_limit && !AT_START.contains(&key)) || TAKEN.contains(&key)
    }
}

/// The keys that changed when the configuration was read again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Which have taken effect.
    pub taken: Vec<String>,
    /// Which need a restart.
    pub waiting: Vec<String>,
}

impl Written {
    pub(super) fn of(tree: &Tree) -> Self {
        let mut written = Self::default();
        written.note("", tree);
        written
    }

    fn note(&mut self, path: &str, tree: &Tree) {
        for (name, spot) in tree {
            let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match &spot.value {
                Value::Table(tree) if !tree.is_empty() => self.note(&key, tree),
                // An empty section says something only where its name does.
                Value::Table(_) if !NAMED.contains(&path) => {}
                value => {
                    self.0.insert(key, text(value));
                }
            }
        }
    }

    fn differing(&self, other: &Self) -> Vec<String> {
        let gone = self.0.keys().filter(|key| !other.0.contains_key(*key));
        let other = other.0.iter().filter(|(key, text)| self.0.get(*key) != Some(text)).map(|(key, _)| key);
        let mut keys: Vec<String> = gone.chain(other).cloned().collect();
        keys.sort_unstable();
        keys
    }

    fn copy(&mut self, key: &str, from: &Self) {
        match from.0.get(key) {
            Some(text) => self.0.insert(key.to_owned(), text.clone()),
            None => self.0.remove(key),
        };
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// One text for each value.
fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::List(items) => items.iter().map(|item| text(&item.value) + ",").collect(),
        Value::Table(tree) => {
            let pairs: Vec<_> = tree.iter().map(|(name, spot)| format!("{name:?}={}", text(&spot.value))).collect();
            pairs.join(";")
        }
        Value::Other(kind) => (*kind).to_owned(),
    }
}

/// Sections whose sections have names of the operator's.
const NAMED: [&str; 2] = ["listeners", "feeds"];
/// Limits of what is made once, at the start.
const AT_START: [&str; 3] =
    ["limits.receive_buffer_kib", "limits.keepalives_per_second_max", "limits.keepalives_under_way_max"];
/// What else takes effect, apart from listeners' networks.
const TAKEN: [&str; 6] = [
    "log.level",
    "registrar.expires_default_s",
    "registrar.expires_min_s",
    "registrar.expires_max_s",
    "registrar.expires_deviation_percent",
    "registrar.contacts_max",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Config {
        Config::parse(text, std::iter::empty()).unwrap()
    }

    #[test]
    fn what_may_change_changes_and_what_needs_a_restart_is_named_until_there_is_one() {
        let old =
            read("[log]\nlevel = \"info\"\n[http]\nlisten = [\"127.0.0.1:1\"]\n[limits]\nreceive_buffer_kib = 64\n");
        let text = "# moved\n\n[limits]\ndevices_max = 7\nreceive_buffer_kib = 128\n[http]\nlisten = [\"127.0.0.1:2\"]\n\
                    [registrar]\nexpires_max_s = 8000\n";
        let (running, changes) = old.reload(read(text));
        assert_eq!(changes.taken, ["limits.devices_max", "log.level", "registrar.expires_max_s"]);
        assert_eq!(changes.waiting, ["http.listen", "limits.receive_buffer_kib"]);
        assert_eq!((running.limits.devices_max, running.limits.receive_buffer_kib), (7, 64));
        assert_eq!((running.registrar.expires_max_s, &running.http.listen), (8000, &old.http.listen));
        let (again, changes) = running.reload(read(text));
        assert!(changes.taken.is_empty());
        assert_eq!(changes.waiting, ["http.listen", "limits.receive_buffer_kib"]);
        assert_eq!(again.limits, running.limits);
    }

    #[test]
    fn networks_alone_may_change_and_not_together_with_what_they_guard() {
        let guarded = "[listeners.registrar]\nbind = [\"udp:0.0.0.0:5060\"]\nnetworks = [\"192.0.2.0/24\"]\n";
        let old = read(guarded);
        let (running, changes) = old.reload(read(&guarded.replace("192.0.2.0/24", "198.51.100.0/24")));
        assert_eq!(changes.taken, ["listeners.registrar.networks"]);
        assert!(running.listeners[0].admits("198.51.100.7".parse().unwrap()));
        let open = guarded.replace("networks = [\"192.0.2.0/24\"]", "auth = \"digest\"");
        let (running, changes) = old.reload(read(&open));
        assert_eq!(changes.waiting, ["listeners.registrar.auth", "listeners.registrar.networks"]);
        assert!(
            !running.listeners[0].admits("198.51.100.7".parse().unwrap()),
            "without a password nobody else gets in"
        );
        let (_, changes) = old.reload(read(&format!("{guarded}[listeners.mirror]\nnetworks = [\"192.0.2.1\"]\n")));
        assert_eq!(changes.waiting, ["listeners.mirror.networks"]);
    }

    #[test]
    fn what_was_written_is_never_shown() {
        let written = read("[database]\nurl = \"postgres://a:secret@b/c\"\n").written;
        let shown = format!("{written:?}");
        assert!(shown.contains("database.url") && !shown.contains("secret"), "{shown}");
    }
}
