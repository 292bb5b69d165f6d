//! Who gets an offer: one pure question, one answer, one reason.

use crate::model::{AccountSettings, Direction, OutboundNotice, PopOn, QueueId, QueueNotice, Reason};

use super::UserFacts;

/// What happened that may pop a screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The call joined a queue and rings nobody yet.
    Join,
    /// It rings a device of the user.
    Ring,
    /// A device of the user answered it.
    Answer,
    /// A device of the user placed it.
    Placed,
    /// The other side answered what a device of the user placed.
    PlacedAnswered,
}

/// Everything the answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What happened.
    pub trigger: Trigger,
    /// Which way the call goes.
    pub direction: Direction,
    /// The queue it came through.
    pub queue: Option<QueueId>,
    /// Whether the device concerned takes part in popups; true where there is none yet.
    pub device_enabled: bool,
    /// The user.
    pub user: &'a UserFacts,
    /// The account's choices.
    pub settings: &'a AccountSettings,
}

/// Decides whether `question.user` gets an offer now; the error is the reason why not.
///
/// # Errors
/// The first reason that stands against it, in the order an admin would look: device, user, kind of call, settings.
pub fn route(question: &Question<'_>) -> Result<(), Reason> {
    let Question { trigger, direction, queue, device_enabled, user, settings } = *question;
    if !device_enabled {
        return Err(Reason::DeviceDisabled);
    }
    if !user.enabled {
        return Err(Reason::UserDisabled);
    }
    if user.dnd {
        return Err(Reason::Dnd);
    }
    let placed = matches!(trigger, Trigger::Placed | Trigger::PlacedAnswered);
    match (direction, queue) {
        (Direction::Internal, None) if !settings.internal_popups || placed => Err(Reason::InternalCall),
        (Direction::Outbound, _) => outbound(trigger, settings.outbound),
        (_, Some(queue)) => queued(trigger, user.queues.contains(&queue), settings.queue_notice),
        (Direction::Inbound | Direction::Internal, None) => direct(trigger, user.pop_on),
    }
}

fn outbound(trigger: Trigger, setting: OutboundNotice) -> Result<(), Reason> {
    let wanted = match setting {
        OutboundNotice::Start => matches!(trigger, Trigger::Placed | Trigger::PlacedAnswered),
        OutboundNotice::Answer => trigger == Trigger::PlacedAnswered,
        OutboundNotice::Never => false,
    };
    if wanted { Ok(()) } else { Err(Reason::OutboundSetting) }
}

/// Before the answer only those whose queues hold it are told; whoever answers is told in any case (T15).
fn queued(trigger: Trigger, holds: bool, notice: QueueNotice) -> Result<(), Reason> {
    match trigger {
        Trigger::Answer | Trigger::PlacedAnswered => Ok(()),
        Trigger::Ring if holds => Ok(()),
        Trigger::Join if holds && notice == QueueNotice::Join => Ok(()),
        Trigger::Ring | Trigger::Join | Trigger::Placed => Err(Reason::QueueNotSet),
    }
}

fn direct(trigger: Trigger, pop_on: PopOn) -> Result<(), Reason> {
    match (pop_on, trigger) {
        (PopOn::Never, _) | (PopOn::Answer, Trigger::Ring | Trigger::Join | Trigger::Placed) => Err(Reason::PopOn),
        (PopOn::Ring, _) | (PopOn::Answer, Trigger::Answer | Trigger::PlacedAnswered) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::AccountId;

    fn user() -> UserFacts {
        let queues = [queue()].into_iter().collect();
        UserFacts { account: AccountId(Uuid::nil()), enabled: true, dnd: false, pop_on: PopOn::Ring, queues }
    }

    fn queue() -> QueueId {
        QueueId(Uuid::from_u128(7))
    }

    fn ask(trigger: Trigger, direction: Direction, queue: Option<QueueId>, user: &UserFacts) -> Result<(), Reason> {
        route(&Question {
            trigger,
            direction,
            queue,
            device_enabled: true,
            user,
            settings: &AccountSettings::default(),
        })
    }

    #[test]
    fn a_direct_external_call_pops_by_pop_on() {
        let mut user = user();
        assert_eq!(ask(Trigger::Ring, Direction::Inbound, None, &user), Ok(()));
        user.pop_on = PopOn::Answer;
        assert_eq!(ask(Trigger::Ring, Direction::Inbound, None, &user), Err(Reason::PopOn));
        assert_eq!(ask(Trigger::Answer, Direction::Inbound, None, &user), Ok(()));
        user.pop_on = PopOn::Never;
        assert_eq!(ask(Trigger::Answer, Direction::Inbound, None, &user), Err(Reason::PopOn));
    }

    #[test]
    fn t15_a_queue_call_notifies_before_answer_only_users_of_that_queue_and_ignores_pop_on() {
        let mut user = user();
        user.pop_on = PopOn::Never;
        assert_eq!(ask(Trigger::Ring, Direction::Inbound, Some(queue()), &user), Ok(()));
        assert_eq!(ask(Trigger::Join, Direction::Inbound, Some(queue()), &user), Err(Reason::QueueNotSet));
        user.queues.clear();
        assert_eq!(ask(Trigger::Ring, Direction::Inbound, Some(queue()), &user), Err(Reason::QueueNotSet));
        assert_eq!(ask(Trigger::Answer, Direction::Inbound, Some(queue()), &user), Ok(()));
    }

    #[test]
    fn an_internal_call_pops_only_when_the_account_wants_it() {
        assert_eq!(ask(Trigger::Ring, Direction::Internal, None, &user()), Err(Reason::InternalCall));
        let settings = AccountSettings { internal_popups: true, ..AccountSettings::default() };
        let user = user();
        let question = Question {
            trigger: Trigger::Ring,
            direction: Direction::Internal,
            queue: None,
            device_enabled: true,
            user: &user,
            settings: &settings,
        };
        assert_eq!(route(&question), Ok(()));
    }

    #[test]
    fn an_outbound_call_pops_by_the_account_setting() {
        let user = user();
        for (setting, placed, answered) in [
            (OutboundNotice::Start, Ok(()), Ok(())),
            (OutboundNotice::Answer, Err(Reason::OutboundSetting), Ok(())),
            (OutboundNotice::Never, Err(Reason::OutboundSetting), Err(Reason::OutboundSetting)),
        ] {
            let settings = AccountSettings { outbound: setting, ..AccountSettings::default() };
            let ask = |trigger| {
                let direction = Direction::Outbound;
                let settings = &settings;
                route(&Question { trigger, direction, queue: None, device_enabled: true, user: &user, settings })
            };
            assert_eq!((ask(Trigger::Placed), ask(Trigger::PlacedAnswered)), (placed, answered));
        }
    }

    #[test]
    fn a_disabled_device_a_disabled_user_and_do_not_disturb_come_before_everything_else() {
        let mut user = user();
        user.dnd = true;
        assert_eq!(ask(Trigger::Ring, Direction::Inbound, Some(queue()), &user), Err(Reason::Dnd));
        user.enabled = false;
        assert_eq!(ask(Trigger::Ring, Direction::Inbound, Some(queue()), &user), Err(Reason::UserDisabled));
        let settings = AccountSettings::default();
        let question = Question {
            trigger: Trigger::Ring,
            direction: Direction::Inbound,
            queue: None,
            device_enabled: false,
            user: &user,
            settings: &settings,
        };
        assert_eq!(route(&question), Err(Reason::DeviceDisabled));
    }
}
