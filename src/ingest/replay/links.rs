//! The links file: who has which phone, so that a replay can say who would have got a popup. TOML or JSON.

use std::collections::BTreeMap;

use serde::Deserialize;
use uuid::Uuid;

use crate::model::{
    AccountId, AccountSettings, Member, MemberKind, MemberState, NumberPlan, PopOn, Queue, QueueId, QueueLogin,
    QueueRule, UnixMillis, User, UserId,
};

/// What a links file says. Nothing in it is required.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Links {
    /// How numbers read and what pops when.
    pub account: AccountLines,
    /// The PBX.
    pub pbx: PbxLines,
    /// People.
    pub users: Vec<UserLines>,
    /// Phones about which there is more to say than their links.
    pub devices: Vec<DeviceLines>,
    /// Call queues.
    pub queues: Vec<QueueLines>,
}

/// The account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountLines {
    /// As `number_plan` of `/v1/accounts`.
    pub number_plan: NumberPlan,
    /// As `settings` of `/v1/accounts`.
    pub settings: AccountSettings,
}

/// The PBX.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PbxLines {
    /// Addresses and networks its SIP comes from, where the capture itself does not show that.
    pub networks: Vec<String>,
    /// How SIP shows that a call is a queue call.
    pub queue_rules: Vec<RuleLines>,
}

/// One way to tell a queue call; the queue goes by its name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "match", rename_all = "snake_case", deny_unknown_fields)]
pub enum RuleLines {
    /// The caller dialled this number.
    Dialled {
        /// The number.
        number: String,
        /// The queue.
        queue: String,
    },
    /// A header names the queue, or has this value.
    Header {
        /// Header name.
        name: String,
        /// What it must say.
        value: Option<String>,
        /// The queue it means.
        queue: Option<String>,
    },
    /// The caller's display name starts with this.
    NamePrefix {
        /// The prefix.
        prefix: String,
        /// The queue.
        queue: String,
    },
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserLines {
    /// What colleagues call them; unique in the file.
    pub name: String,
    /// Popups on; the default here, unlike in the daemon.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Do not disturb.
    #[serde(default)]
    pub dnd: bool,
    /// When direct calls pop.
    #[serde(default)]
    pub pop_on: PopOn,
    /// Their phones, by user part.
    #[serde(default)]
    pub devices: Vec<String>,
    /// Names of the queues whose calls notify them.
    #[serde(default)]
    pub queues: Vec<String>,
}

/// A phone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceLines {
    /// User part of its address-of-record.
    pub user: String,
    /// The number colleagues dial, when it is not the user part.
    pub extension: Option<String>,
    /// A name a person can recognise.
    pub label: Option<String>,
    /// Whether it takes part in popups.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueLines {
    /// Its name on the PBX.
    pub name: String,
    /// The number callers dial.
    pub number: Option<String>,
    /// The phones in it, by user part.
    #[serde(default)]
    pub members: Vec<String>,
}

/// Why a links file is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinksError {
    /// It is no TOML, no JSON, or has a key nobody knows; the text says where.
    #[error("{0}")]
    Text(String),
    /// A queue is named that the file does not list.
    #[error("{by} names the queue {queue:?}, which is none of the file's queues")]
    UnknownQueue {
        /// Who names it.
        by: String,
        /// The name.
        queue: String,
    },
    /// Two users or two queues have one name.
    #[error("two {what} are called {name:?}")]
    Twice {
        /// Users or queues.
        what: &'static str,
        /// The name.
        name: String,
    },
}

impl Links {
    /// Reads a file's text: JSON when it begins with a brace, else TOML.
    ///
    /// # Errors
    /// [`LinksError`], which names line and key or the name in question.
    pub fn parse(text: &str) -> Result<Self, LinksError> {
        let links: Self = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| LinksError::Text(error.to_string()))?
        } else {
            toml::from_str(text).map_err(|error| LinksError::Text(error.to_string().trim_end().to_owned()))?
        };
        links.queue_ids()?;
        links.rules()?;
        links.users(AccountId(Uuid::nil()))?;
        Ok(links)
    }

    /// Queue ids by name, in lower case.
    pub(super) fn queue_ids(&self) -> Result<BTreeMap<String, QueueId>, LinksError> {
        let mut ids = BTreeMap::new();
        for (queue, n) in self.queues.iter().zip(1..) {
            if ids.insert(queue.name.to_lowercase(), QueueId(id(b'q', n))).is_some() {
                return Err(LinksError::Twice { what: "queues", name: queue.name.clone() });
            }
        }
        Ok(ids)
    }

    /// The queues; `device` finds or makes the device of a user part.
    pub(super) fn queues(
        &self,
        account: AccountId,
        pbx: crate::model::PbxId,
        mut device: impl FnMut(&str) -> crate::model::DeviceId,
    ) -> Vec<Queue> {
        let member = |device| Member {
            device,
            paused: false,
            pause_reason: None,
            penalty: 0,
            kind: MemberKind::Manual,
            state: MemberState::Unknown,
            since: UnixMillis(0),
        };
        let queues = self.queues.iter().zip(1..).map(|(queue, n)| {
            let mut members: Vec<Member> = queue.members.iter().map(|user| member(device(user))).collect();
            members.sort_by_key(|member| member.device);
            members.dedup_by_key(|member| member.device);
            let (name, number) = (queue.name.clone(), queue.number.clone());
            Queue {
                id: QueueId(id(b'q', n)),
                account,
                pbx,
                name,
                number,
                members,
                created_at: UnixMillis(0),
                reported: false,
                absent_since: None,
            }
        });
        queues.collect()
    }

    /// The users, in the file's order.
    pub(super) fn users(&self, account: AccountId) -> Result<Vec<User>, LinksError> {
        let queues = self.queue_ids()?;
        let mut users: Vec<User> = Vec::with_capacity(self.users.len());
        for (user, n) in self.users.iter().zip(1..) {
            if users.iter().any(|known| known.name == user.name) {
                return Err(LinksError::Twice { what: "users", name: user.name.clone() });
            }
            let named = user.queues.iter().map(|queue| find(&queues, &user.name, queue));
            users.push(User {
                id: UserId(id(b'u', n)),
                account,
                email: None,
                name: user.name.clone(),
                enabled: user.enabled,
                dnd: user.dnd,
                pop_on: user.pop_on,
                queues: named.collect::<Result<_, _>>()?,
                queue_login: QueueLogin::default(),
                parked: Vec::new(),
                created_at: UnixMillis(0),
            });
        }
        Ok(users)
    }

    /// The PBX's rules with the queues they mean.
    pub(super) fn rules(&self) -> Result<Vec<QueueRule>, LinksError> {
        let queues = self.queue_ids()?;
        let found = |queue: &str| find(&queues, "a queue rule", queue);
        let rules = self.pbx.queue_rules.iter().map(|rule| {
            Ok(match rule {
                RuleLines::Dialled { number, queue } => {
                    QueueRule::Dialled { number: number.clone(), queue: found(queue)? }
                }
                RuleLines::Header { name, value, queue } => QueueRule::Header {
                    name: name.clone(),
                    value: value.clone(),
                    queue: queue.as_deref().map(found).transpose()?,
                },
                RuleLines::NamePrefix { prefix, queue } => {
                    QueueRule::NamePrefix { prefix: prefix.clone(), queue: found(queue)? }
                }
            })
        });
        rules.collect()
    }
}

/// The id of the queue with this number among all.
pub(super) fn queue_id(n: usize) -> QueueId {
    QueueId(id(b'q', u64::try_from(n).unwrap_or(u64::MAX)))
}

fn find(queues: &BTreeMap<String, QueueId>, by: &str, queue: &str) -> Result<QueueId, LinksError> {
    let found = queues.get(&queue.to_lowercase()).copied();
    found.ok_or_else(|| LinksError::UnknownQueue { by: by.to_owned(), queue: queue.to_owned() })
}

/// The same file gives the same ids, so that two replays can be compared.
fn id(kind: u8, n: u64) -> Uuid {
    let mut bytes = [0; 16];
    bytes[0] = kind;
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    Uuid::new_v8(bytes)
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_and_json_say_the_same() {
        let toml = "[account.settings]\nqueue_notice = \"join\"\n[[users]]\nname = \"Anna\"\ndevices = [\"101\"]\n\
            queues = [\"Support\"]\n[[queues]]\nname = \"support\"\nnumber = \"600\"\n";
        let json = r#"{"account": {"settings": {"queue_notice": "join"}},
            "users": [{"name": "Anna", "devices": ["101"], "queues": ["Support"]}],
            "queues": [{"name": "support", "number": "600"}]}"#;
        let links = Links::parse(toml).unwrap();
        assert_eq!(Links::parse(json).unwrap(), links);
        assert_eq!(links.users(AccountId(Uuid::nil())).unwrap()[0].queues, [links.queue_ids().unwrap()["support"]]);
        assert_eq!(Links::parse(""), Ok(Links::default()));
    }

    #[test]
    fn a_mistake_is_named() {
        let error = |text: &str| Links::parse(text).unwrap_err().to_string();
        assert!(error("[[user]]\nname = \"Anna\"").contains("line 1"), "{}", error("[[user]]"));
        assert!(error("{\"users\": [{}]}").contains("name"));
        assert!(error("[[users]]\nname = \"Anna\"\nqueues = [\"sales\"]").contains("\"sales\""));
        assert!(error("[[users]]\nname = \"A\"\n[[users]]\nname = \"A\"").contains("two users"));
        let rule = "[pbx]\nqueue_rules = [{match = \"dialled\", number = \"600\", queue = \"x\"}]";
        assert!(error(rule).contains("queue rule"), "{}", error(rule));
    }
}
