//! How a channel ended, in the words all feeds share: what the SIP of that leg would have shown.

use super::super::event::Event;
use crate::model::LegEnd;

/// Reads a `CHANNEL_HANGUP_COMPLETE`.
pub(super) fn end(event: &Event, outbound: bool, answered: bool) -> LegEnd {
    if answered {
        return LegEnd::Bye;
    }
    let cause = event.find("Hangup-Cause").or_else(|| event.variable("hangup_cause")).unwrap_or_default();
    let disposition = event.variable("sip_hangup_disposition").unwrap_or_default();
    if outbound {
        return match cause {
            "LOSE_RACE" | "PICKED_OFF" => LegEnd::CancelledElsewhere,
            // The PBX stopped calling: nobody answered in time, or nobody wants an answer any more.
            _ if disposition == "send_cancel" => LegEnd::Cancelled,
            "ORIGINATOR_CANCEL" | "NO_ANSWER" | "NORMAL_CLEARING" | "ALLOTTED_TIMEOUT" => LegEnd::Cancelled,
            _ => LegEnd::Rejected(sip_status(event).unwrap_or_else(|| status_of(cause))),
        };
    }
    match disposition {
        "recv_cancel" => LegEnd::Cancelled,
        _ if cause == "ORIGINATOR_CANCEL" => LegEnd::Cancelled,
        // The PBX hung up on a caller it never answered: why, shows where it tried to reach somebody.
        _ => LegEnd::Rejected(match event.variable("originate_failed_cause") {
            Some(failed) => status_of(failed),
            None => status_of(cause),
        }),
    }
}

/// Whether the leg ended because its call went elsewhere.
pub(super) fn is_transfer(event: &Event) -> bool {
    let disposition = event.variable("endpoint_disposition").unwrap_or_default();
    let to = event.variable("transfer_to").unwrap_or_default();
    matches!(disposition, "BLIND_TRANSFER" | "ATTENDED_TRANSFER")
        || to.starts_with("blind:")
        || to.starts_with("att:")
        || event.variable("transfer_disposition") == Some("replaced")
}

/// The status the other side answered with, when it was one that refuses.
fn sip_status(event: &Event) -> Option<u16> {
    let status = event.variable("proto_specific_hangup_cause")?.strip_prefix("sip:")?.parse().ok()?;
    (300..700).contains(&status).then_some(status)
}

/// The SIP status that `FreeSWITCH` itself sends for a cause.
fn status_of(cause: &str) -> u16 {
    match cause {
        "USER_BUSY" => 486,
        "CALL_REJECTED" => 603,
        "UNALLOCATED_NUMBER" | "NO_ROUTE_TRANSIT_NET" | "NO_ROUTE_DESTINATION" => 404,
        "NO_USER_RESPONSE" => 408,
        "NUMBER_CHANGED" => 410,
        "REDIRECTION_TO_NEW_DESTINATION" => 302,
        "INVALID_NUMBER_FORMAT" => 484,
        "INCOMPATIBLE_DESTINATION" | "BEARERCAPABILITY_NOTAUTH" => 488,
        "FACILITY_REJECTED" | "FACILITY_NOT_IMPLEMENTED" | "SERVICE_NOT_IMPLEMENTED" => 501,
        "DESTINATION_OUT_OF_ORDER" | "NETWORK_OUT_OF_ORDER" => 502,
        "NORMAL_CIRCUIT_CONGESTION" | "NORMAL_TEMPORARY_FAILURE" | "SWITCH_CONGESTION" => 503,
        "RECOVERY_ON_TIMER_EXPIRE" | "PROGRESS_TIMEOUT" => 504,
        "MANDATORY_IE_MISSING" | "PROTOCOL_ERROR" | "INTERWORKING" => 500,
        "EXCHANGE_ROUTING_ERROR" => 483,
        // NO_ANSWER, SUBSCRIBER_ABSENT, USER_NOT_REGISTERED, NORMAL_UNSPECIFIED, NORMAL_CLEARING and the rest.
        _ => 480,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hangup(fields: &str) -> Event {
        Event::from_plain(format!("Event-Name: CHANNEL_HANGUP_COMPLETE\n{fields}\n\n").as_bytes()).unwrap()
    }

    #[test]
    fn a_leg_ends_as_its_sip_would_show() {
        let rows = [
            (true, false, "Hangup-Cause: LOSE_RACE", LegEnd::CancelledElsewhere),
            (true, false, "Hangup-Cause: PICKED_OFF", LegEnd::CancelledElsewhere),
            (true, false, "Hangup-Cause: ORIGINATOR_CANCEL", LegEnd::Cancelled),
            (true, false, "Hangup-Cause: NO_ANSWER\nvariable_sip_hangup_disposition: send_cancel", LegEnd::Cancelled),
            (true, false, "Hangup-Cause: USER_BUSY", LegEnd::Rejected(486)),
            (
                true,
                false,
                "Hangup-Cause: CALL_REJECTED\nvariable_proto_specific_hangup_cause: sip%3A480",
                LegEnd::Rejected(480),
            ),
            (true, true, "Hangup-Cause: NORMAL_CLEARING", LegEnd::Bye),
            (
                false,
                false,
                "Hangup-Cause: NORMAL_CLEARING\nvariable_originate_failed_cause: NO_ANSWER",
                LegEnd::Rejected(480),
            ),
            (false, false, "Hangup-Cause: USER_BUSY", LegEnd::Rejected(486)),
            (false, false, "variable_sip_hangup_disposition: recv_cancel", LegEnd::Cancelled),
        ];
        for (outbound, answered, fields, expected) in rows {
            assert_eq!(end(&hangup(fields), outbound, answered), expected, "{fields}");
        }
    }
}
