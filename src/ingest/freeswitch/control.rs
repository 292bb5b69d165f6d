//! Changes to queues, as `mod_callcenter` takes them. It pauses an agent, not a member: in all its queues at once.

use std::collections::VecDeque;

use super::codec::{BadCommand, argument, command};
use super::decode::Decoder;
use crate::registry::Command;

/// The commands that make a change, in order.
///
/// # Errors
/// Why it can't be made, for a person.
pub(super) fn commands(decoder: &Decoder, change: &Command) -> Result<VecDeque<Vec<u8>>, String> {
    let user = match change {
        Command::AddMember { user, .. }
        | Command::SetPenalty { user, .. }
        | Command::RemoveMember { user, .. }
        | Command::Pause { user, .. } => user,
    };
    let Some((agent, logged_out)) = decoder.agent_of(user) else {
        return Err(format!("mod_callcenter has no agent whose contact is {user}; add one to the PBX first"));
    };
    if logged_out && matches!(change, Command::Pause { .. }) {
        return Err("its agent is logged out, and a pause would log it in".into());
    }
    if matches!(change, Command::SetPenalty { penalty: 0, .. }) {
        return Err("the level of a tier, which is its member's penalty, is at least 1".into());
    }
    written(agent, logged_out, change).map_err(|error| error.to_string())
}

fn written(agent: &str, logged_out: bool, change: &Command) -> Result<VecDeque<Vec<u8>>, BadCommand> {
    let agent = argument(agent)?;
    let mut texts = Vec::new();
    match change {
        Command::AddMember { queue, penalty, .. } => {
            texts.push(format!("tier add {} {agent} {} 1", argument(queue)?, (*penalty).max(1)));
            if logged_out {
                texts.push(format!("agent set status {agent} 'Available'"));
            }
        }
        Command::SetPenalty { queue, penalty, .. } => {
            texts.push(format!("tier set level {} {agent} {penalty}", argument(queue)?));
        }
        Command::RemoveMember { queue, .. } => texts.push(format!("tier del {} {agent}", argument(queue)?)),
        Command::Pause { paused, .. } => {
            let status = if *paused { "On Break" } else { "Available" };
            texts.push(format!("agent set status {agent} '{status}'"));
        }
    }
    texts.iter().map(|text| command(&format!("api callcenter_config {text}"))).collect()
}

/// Whether the PBX took it. What is so already is no failure.
///
/// # Errors
/// What it said.
pub(super) fn outcome(answer: &str) -> Result<(), String> {
    let answer = answer.trim();
    let done = answer.starts_with("+OK") || answer.to_ascii_lowercase().contains("already exist");
    if done { Ok(()) } else { Err(super::event::short(answer, ANSWER_MAX).to_owned()) }
}

const ANSWER_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(logged_out: bool, change: &Command) -> Vec<String> {
        let commands = written("201@default", logged_out, change).unwrap();
        commands.into_iter().map(|bytes| String::from_utf8(bytes).unwrap().trim().to_owned()).collect()
    }

    #[test]
    fn a_change_becomes_commands() {
        let add =
            |queue: &str, penalty| Command::AddMember { queue: queue.into(), user: "201".into(), name: None, penalty };
        assert_eq!(texts(false, &add("sales", 0)), ["api callcenter_config tier add sales 201@default 1 1"]);
        assert_eq!(
            texts(true, &add("big sales", 3)),
            [
                "api callcenter_config tier add 'big sales' 201@default 3 1",
                "api callcenter_config agent set status 201@default 'Available'",
            ]
        );
        let pause = Command::Pause { queue: None, user: "201".into(), paused: true, reason: None };
        assert_eq!(texts(false, &pause), ["api callcenter_config agent set status 201@default 'On Break'"]);
        let prefer = Command::SetPenalty { queue: "sales".into(), user: "201".into(), penalty: 4 };
        assert_eq!(texts(false, &prefer), ["api callcenter_config tier set level sales 201@default 4"]);
        let evil = Command::RemoveMember { queue: "x\n\napi shutdown".into(), user: "201".into() };
        assert!(written("201@default", false, &evil).is_err());
    }

    #[test]
    fn an_answer_is_taken_as_the_pbx_means_it() {
        assert_eq!(outcome("+OK\n"), Ok(()));
        assert_eq!(outcome("-ERR Tier already exist!\n"), Ok(()));
        assert_eq!(outcome("-ERR Agent not found!\n"), Err("-ERR Agent not found!".into()));
    }
}
