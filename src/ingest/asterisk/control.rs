//! What may be changed on an Asterisk, as the actions that do it.

use super::action::Action;
use super::decode::Decoder;
use super::message::Message;
use crate::registry::Command;

/// The action for a command, or why there is none.
pub(super) fn action(command: &Command, decoder: &Decoder) -> Result<Action, String> {
    let built = match command {
        Command::AddMember { queue, user, name, penalty } => {
            let interface = decoder.interface(Some(queue), user);
            let state = decoder.state_interface(user);
            Action::new("QueueAdd")
                .with("Queue", queue)
                .and_then(|action| action.with("Interface", interface))
                .and_then(|action| action.with("Penalty", penalty.to_string()))
                .and_then(|action| action.with("MemberName", name.as_deref().unwrap_or(user)))
                .and_then(|action| action.with("StateInterface", state))
        }
        Command::SetPenalty { queue, user, penalty } => Action::new("QueuePenalty")
            .with("Queue", queue)
            .and_then(|action| action.with("Interface", decoder.interface(Some(queue), user)))
            .and_then(|action| action.with("Penalty", penalty.to_string())),
        Command::RemoveMember { queue, user } => Action::new("QueueRemove")
            .with("Queue", queue)
            .and_then(|action| action.with("Interface", decoder.interface(Some(queue), user))),
        Command::Pause { queue, user, paused, reason } => {
            let interface = decoder.interface(queue.as_deref(), user);
            let pause = Action::new("QueuePause")
                .with("Interface", interface)
                .and_then(|action| action.with("Paused", if *paused { "true" } else { "false" }));
            let pause = match queue {
                Some(queue) => pause.and_then(|action| action.with("Queue", queue)),
                None => pause,
            };
            match reason {
                Some(reason) => pause.and_then(|action| action.with("Reason", reason)),
                None => pause,
            }
        }
    };
    built.map_err(|error| error.to_string())
}

/// What an answer says of the command it answers.
pub(super) fn verdict(answer: &Message) -> Result<(), String> {
    if answer.text("Response").is_some_and(|response| response.eq_ignore_ascii_case("Success")) {
        Ok(())
    } else {
        Err(answer.text("Message").unwrap_or("Asterisk refuses without a reason").to_owned())
    }
}
