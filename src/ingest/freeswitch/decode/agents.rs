//! `mod_callcenter`: which agents are in which queues, who they are, and how they are.
//!
//! Agents' status and state come as events; queues, tiers and new contacts of old agents have none and are polled. An
//! agent's name is free text: the phone behind it is in its contact, or shows when it is called.

use std::collections::BTreeMap;

use super::super::event::{Event, short};
use super::super::question::{self, Question, Table};
use super::{Aor, Output, contact};
use crate::model::{MemberKind, MemberState};
use crate::registry::{ReportedMember, ReportedQueue};

/// What is known of the queues of one PBX.
#[derive(Debug, Default)]
pub(super) struct Agents {
    known: BTreeMap<String, Agent>,
    queues: Vec<String>,
    tiers: Vec<Tier>,
    round: Round,
    /// Whether the callers are asked for in this round.
    waiting: bool,
}

#[derive(Clone, Debug, Default)]
struct Agent {
    device: Option<Aor>,
    status: String,
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tier {
    queue: String,
    agent: String,
    level: u32,
}

/// Which of the three lists, asked for in this order, has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Round {
    #[default]
    Idle,
    Queues,
    Agents,
    Tiers,
}

impl Agents {
    pub fn ask(&mut self, waiting: bool, out: &mut Vec<Output>) {
        self.waiting |= waiting;
        if self.round == Round::Idle {
            self.round = Round::Queues;
            out.push(Output::Ask(Question::Queues));
        }
    }

    pub fn forget_questions(&mut self) {
        self.round = Round::Idle;
    }

    /// False = there is no `mod_callcenter`, or it is not for us.
    pub fn on_queues(&mut self, answer: &str, out: &mut Vec<Output>) -> bool {
        let Some(table) = self.expect(answer, Round::Queues, &["name"]) else { return false };
        self.queues = table.rows(["name"]).map(|[name]| short(name, TEXT_MAX).to_owned()).take(QUEUES_MAX).collect();
        if std::mem::take(&mut self.waiting) {
            out.extend(self.queues.iter().map(|queue| Output::Ask(Question::Waiting(queue.clone()))));
        }
        self.round = Round::Agents;
        out.push(Output::Ask(Question::Agents));
        true
    }

    pub fn on_agents(&mut self, answer: &str, out: &mut Vec<Output>) {
        let columns = ["name", "contact", "status", "state"];
        let Some(table) = self.expect(answer, Round::Agents, &columns) else {
            return out.push(Output::Dropped("answer"));
        };
        let before = std::mem::take(&mut self.known);
        for [name, dial, status, state] in table.rows(columns).take(AGENTS_MAX) {
            let learnt = || before.get(name).and_then(|agent| agent.device.clone());
            let device = contact::device(dial).or_else(learnt);
            let agent = Agent { device, status: status.to_owned(), state: state.to_owned() };
            self.known.insert(short(name, TEXT_MAX).to_owned(), agent);
        }
        self.round = Round::Tiers;
        out.push(Output::Ask(Question::Tiers));
    }

    pub fn on_tiers(&mut self, answer: &str, out: &mut Vec<Output>) {
        let columns = ["queue", "agent", "level"];
        let Some(table) = self.expect(answer, Round::Tiers, &columns) else {
            return out.push(Output::Dropped("answer"));
        };
        let tiers = table.rows(columns).take(TIERS_MAX).map(|[queue, agent, level]| Tier {
            queue: short(queue, TEXT_MAX).to_owned(),
            agent: short(agent, TEXT_MAX).to_owned(),
            level: level.parse().unwrap_or(1),
        });
        self.tiers = tiers.collect();
        self.round = Round::Idle;
        let queues = self.queues.iter().map(|queue| ReportedQueue {
            name: queue.clone(),
            number: None,
            members: self.members(queue),
        });
        out.push(Output::Queues(queues.collect()));
    }

    pub fn on_users(answer: &str, out: &mut Vec<Output>) {
        // A directory that is asked user by user, as FusionPBX's is, lists none: that says nothing.
        let Some(table) = question::table(answer).filter(|table| table.has(&["userid"])) else { return };
        let mut users: Vec<String> = table.rows(["userid"]).map(|[user]| short(user, TEXT_MAX).to_owned()).collect();
        users.sort_unstable();
        users.dedup();
        if !users.is_empty() {
            out.push(Output::Users(users));
        }
    }

    pub fn on_event(&mut self, event: &Event, out: &mut Vec<Output>) {
        let Some(name) = event.find("CC-Agent").map(|name| short(name, TEXT_MAX)) else { return };
        let action = event.get("CC-Action");
        let change: fn(&mut Agent, &Event) = match action {
            "agent-status-change" => |agent, event| event.get("CC-Agent-Status").clone_into(&mut agent.status),
            "agent-state-change" => |agent, event| event.get("CC-Agent-State").clone_into(&mut agent.state),
            "agent-contact-change" => |agent, event| agent.device = contact::device(event.get("CC-Agent-Contact")),
            "agent-add" => |_, _| {},
            "bridge-agent-fail" => return self.on_failed(name, event, out),
            _ => return,
        };
        if !self.known.contains_key(name) && self.known.len() >= AGENTS_MAX {
            return out.push(Output::Dropped("agents"));
        }
        let agent = self.known.entry(name.to_owned()).or_default();
        let before = agent.device.clone();
        change(agent, event);
        let moved = before.is_some() && before != agent.device;
        if moved {
            // The member is another device now: only the whole list says that the old one is none any more.
            self.ask(false, out);
        }
        self.report(name, out);
    }

    /// An agent's leg shows whose phone it rings.
    pub fn on_channel(&mut self, event: &Event, out: &mut Vec<Output>) {
        if event.name() != "CHANNEL_CREATE" || event.variable("cc_side") != Some("agent") {
            return;
        }
        let (Some(name), Some(user)) = (event.variable("cc_agent"), event.variable("dialed_user")) else { return };
        let device = Aor {
            user: short(user, TEXT_MAX).to_owned(),
            domain: event.variable("dialed_domain").map(|domain| short(domain, TEXT_MAX).to_owned()),
        };
        if let Some(agent) = self.known.get_mut(name).filter(|agent| agent.device.is_none()) {
            agent.device = Some(device);
            let name = name.to_owned();
            self.report(&name, out);
        }
    }

    /// The agent that stands for a device, and whether it is logged out.
    pub fn agent_of(&self, user: &str) -> Option<(&str, bool)> {
        let of_device = |agent: &Agent| agent.device.as_ref().is_some_and(|device| device.user == user);
        let agents = self.known.iter().filter(|(_, agent)| of_device(agent));
        agents.min_by_key(|(_, agent)| is_out(agent)).map(|(name, agent)| (name.as_str(), is_out(agent)))
    }

    /// An agent without a registration is called in vain, without any channel.
    fn on_failed(&self, name: &str, event: &Event, out: &mut Vec<Output>) {
        let device = self.known.get(name).and_then(|agent| agent.device.clone());
        if let ("USER_NOT_REGISTERED", Some(device)) = (event.get("CC-Hangup-Cause"), device) {
            out.push(Output::Unregistered(device));
        }
    }

    /// Tells how an agent is, in each of its queues.
    fn report(&self, name: &str, out: &mut Vec<Output>) {
        let Some(device) = self.known.get(name).and_then(|agent| agent.device.as_ref()) else { return };
        for tier in self.tiers.iter().filter(|tier| tier.agent == name) {
            let member = self.members(&tier.queue).into_iter().find(|member| member.user == device.user);
            out.extend(member.map(|member| Output::Member(tier.queue.clone(), member)));
        }
    }

    /// The members of a queue. Of several agents with one phone, one that is not logged out stands for it.
    fn members(&self, queue: &str) -> Vec<ReportedMember> {
        let mut members: BTreeMap<&Aor, (bool, ReportedMember)> = BTreeMap::new();
        for tier in self.tiers.iter().filter(|tier| tier.queue == queue) {
            let Some(agent) = self.known.get(&tier.agent) else { continue };
            let Some(device) = &agent.device else { continue };
            let member = ReportedMember {
                user: device.user.clone(),
                domain: device.domain.clone(),
                name: Some(tier.agent.clone()),
                paused: agent.status == "On Break",
                pause_reason: None,
                penalty: tier.level,
                kind: MemberKind::Dynamic,
                state: state(agent),
            };
            let out = is_out(agent);
            match members.get(device) {
                Some((known_out, _)) if *known_out <= out => {}
                _ => {
                    members.insert(device, (out, member));
                }
            }
        }
        members.into_values().map(|(_, member)| member).collect()
    }

    /// The answer to the list of this round. An answer that is none ends the round.
    fn expect<'a>(&mut self, answer: &'a str, round: Round, columns: &[&str]) -> Option<Table<'a>> {
        let table = question::table(answer).filter(|table| table.has(columns)).filter(|_| self.round == round);
        if table.is_none() {
            self.round = Round::Idle;
            self.waiting = false;
        }
        table
    }
}

fn is_out(agent: &Agent) -> bool {
    agent.status == "Logged Out"
}

fn state(agent: &Agent) -> MemberState {
    match (agent.status.as_str(), agent.state.as_str()) {
        ("Logged Out", _) => MemberState::LoggedOut,
        (_, "Waiting") => MemberState::Free,
        (_, "Receiving" | "Reserved") => MemberState::Ringing,
        (_, "In a queue call") => MemberState::InUse,
        // An idle agent is given no calls until its state is changed.
        (_, "Idle") => MemberState::Unavailable,
        _ => MemberState::Unknown,
    }
}

const TEXT_MAX: usize = 256;
const QUEUES_MAX: usize = 2_000;
const AGENTS_MAX: usize = 20_000;
const TIERS_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUES: &str = "name|strategy|moh_sound\nsales@default|ring-all|tone_stream://%(400,600,440)|x\n+OK\n";
    const AGENTS: &str = "name|instance_id|contact|status|state\n201@default|b|[leg_timeout=8]user/201@a.example|Available|\
        Waiting\n5d9a|b||On Break|Waiting\n202@default|b|user/202@a.example|Logged Out|Waiting\n+OK\n";
    const TIERS: &str = "queue|agent|state|level|position\nsales@default|201@default|Ready|1|1\nsales@default|5d9a|Ready|2|1\n\
        sales@default|202@default|Ready|3|1\nsales@default|ghost|Ready|1|1\n+OK\n";

    fn asked() -> (Agents, Vec<Output>) {
        let (mut agents, mut out) = (Agents::default(), Vec::new());
        agents.ask(true, &mut out);
        agents.on_queues(QUEUES, &mut out);
        agents.on_agents(AGENTS, &mut out);
        agents.on_tiers(TIERS, &mut out);
        (agents, out)
    }

    fn event(text: &str) -> Event {
        Event::from_plain(format!("Event-Name: CUSTOM\nEvent-Subclass: callcenter::info\n{text}\n\n").as_bytes())
            .unwrap()
    }

    #[test]
    fn the_three_lists_together_make_the_members() {
        let (_, out) = asked();
        let questions =
            [Question::Queues, Question::Waiting("sales@default".into()), Question::Agents, Question::Tiers];
        let asked: Vec<_> =
            out.iter().filter_map(|o| if let Output::Ask(q) = o { Some(q.clone()) } else { None }).collect();
        assert_eq!(asked, questions);
        let Some(Output::Queues(queues)) = out.last() else { panic!("{out:?}") };
        let members: Vec<_> =
            queues[0].members.iter().map(|m| (m.user.as_str(), m.paused, m.penalty, m.state)).collect();
        assert_eq!(members, [("201", false, 1, MemberState::Free), ("202", false, 3, MemberState::LoggedOut)]);
    }

    #[test]
    fn a_status_and_a_state_change_the_member() {
        let (mut agents, _) = asked();
        let mut out = Vec::new();
        agents.on_event(
            &event("CC-Agent: 201@default\nCC-Action: agent-status-change\nCC-Agent-Status: On%20Break"),
            &mut out,
        );
        agents.on_event(
            &event("CC-Agent: 201@default\nCC-Action: agent-state-change\nCC-Agent-State: Receiving"),
            &mut out,
        );
        let members: Vec<_> =
            out.iter().filter_map(|o| if let Output::Member(_, m) = o { Some(m) } else { None }).collect();
        assert_eq!(members.len(), 2);
        assert!(members[0].paused && members[0].state == MemberState::Free);
        assert!(members[1].paused && members[1].state == MemberState::Ringing);
    }

    #[test]
    fn an_agent_whose_contact_says_nothing_is_known_by_its_leg() {
        let (mut agents, _) = asked();
        let leg = "Event-Name: CHANNEL_CREATE\nvariable_cc_side: agent\nvariable_cc_agent: 5d9a\nvariable_dialed_user: 203\n\n";
        let mut out = Vec::new();
        agents.on_channel(&Event::from_plain(leg.as_bytes()).unwrap(), &mut out);
        assert!(matches!(&out[..], [Output::Member(queue, member)] if queue == "sales@default" && member.user == "203"
            && member.paused));
    }

    #[test]
    fn without_the_module_nothing_is_told_of_queues() {
        let (mut agents, mut out) = (Agents::default(), Vec::new());
        agents.ask(true, &mut out);
        assert!(!agents.on_queues("-ERR callcenter_config Command not found!\n", &mut out));
        assert_eq!(out, [Output::Ask(Question::Queues)]);
    }

    #[test]
    fn an_agent_without_a_registration_shows_its_device_is_not_there() {
        let (mut agents, mut out) = asked();
        out.clear();
        let failed = "CC-Agent: 202@default\nCC-Action: bridge-agent-fail\nCC-Hangup-Cause: USER_NOT_REGISTERED";
        agents.on_event(&event(failed), &mut out);
        assert!(matches!(&out[..], [Output::Unregistered(aor)] if aor.user == "202"));
    }
}
