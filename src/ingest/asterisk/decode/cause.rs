//! How a leg ended, by what Asterisk says of its hang-up.

use crate::model::LegEnd;

/// What is known of a leg that was hung up before it was answered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unanswered {
    /// `Cause` of its Hangup (Q.850, and 127 of SIP's own).
    pub cause: u16,
    /// The PBX called it, not it the PBX.
    pub called: bool,
    /// Its far end asked for the hang-up.
    pub far_end: bool,
    /// Another leg that was dialled with it has answered, or it was picked up.
    pub elsewhere: bool,
}

impl Unanswered {
    pub fn end(self) -> LegEnd {
        let given_up = matches!(self.cause, 0 | 16 | 31 | 127);
        match self.cause {
            26 => LegEnd::CancelledElsewhere,
            _ if self.elsewhere && given_up => LegEnd::CancelledElsewhere,
            // The caller hung up, or the PBX stopped ringing.
            _ if given_up && (self.called || self.far_end) => LegEnd::Cancelled,
            _ if self.far_end && !self.called => LegEnd::Cancelled,
            cause => LegEnd::Rejected(sip_status(cause)),
        }
    }
}

/// The SIP status that says the same as a Q.850 cause (RFC 3398 §8.2.6.1), with Asterisk's own use of 0 and 16.
fn sip_status(cause: u16) -> u16 {
    match cause {
        1..=3 => 404,
        17 => 486,
        18 => 408,
        0 | 16 | 19 | 20 => 480,
        21 => 603,
        22 => 410,
        26 => 487,
        27 | 38 => 502,
        28 => 484,
        29 | 65 | 79 => 501,
        58 | 88 => 488,
        34 | 41 | 42 | 44 | 47 => 503,
        102 => 504,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_called_leg_ends_by_its_cause() {
        let end = |cause| Unanswered { cause, called: true, ..Unanswered::default() }.end();
        assert_eq!(end(26), LegEnd::CancelledElsewhere);
        assert_eq!([0, 16, 127].map(end), [LegEnd::Cancelled; 3]);
        assert_eq!((end(17), end(21), end(20)), (LegEnd::Rejected(486), LegEnd::Rejected(603), LegEnd::Rejected(480)));
    }

    #[test]
    fn a_leg_whose_sibling_answered_was_cancelled_elsewhere_whatever_the_cause_says() {
        let end = |cause| Unanswered { cause, called: true, elsewhere: true, ..Unanswered::default() }.end();
        assert_eq!(end(16), LegEnd::CancelledElsewhere);
        assert_eq!(end(17), LegEnd::Rejected(486), "it was busy first");
    }

    #[test]
    fn a_caller_who_hung_up_gave_up_and_one_who_was_hung_up_on_was_refused() {
        let gave_up = Unanswered { cause: 127, far_end: true, ..Unanswered::default() };
        assert_eq!(gave_up.end(), LegEnd::Cancelled);
        let refused = Unanswered { cause: 17, ..Unanswered::default() };
        assert_eq!(refused.end(), LegEnd::Rejected(486));
        assert_eq!(Unanswered { cause: 16, ..refused }.end(), LegEnd::Rejected(480));
    }
}
