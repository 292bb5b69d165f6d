//! What the office's Kamailio sends in our direction, seen by sinks in hookswitch's place. When one of these fails with a
//! newer Kamailio, what it mirrors has changed, and `kamailio.cfg` and docs/kamailio.md with it.

use crate::office::Office;
use crate::support::folder::Folder;
use crate::support::ports::Ports;
use crate::support::sink::Sink;
use crate::support::wait::until;

struct Sinks {
    replica: Sink,
    mirror: Sink,
    uris: [String; 2],
    _ports: Ports,
}

impl Sinks {
    fn open() -> Self {
        let ports = Ports::take();
        let (replica, mirror) = (ports.address(0), ports.address(1));
        Self {
            replica: Sink::answering(replica),
            mirror: Sink::silent(mirror),
            uris: [format!("sip:{replica}"), format!("sip:{mirror}")],
            _ports: ports,
        }
    }

    async fn office(&self, folder: &Folder) -> Office {
        Office::open(folder, &self.uris[0], &self.uris[1]).await
    }

    /// The copies as `in INVITE sip:101@…` or `out 180 INVITE`, sorted: they do not always arrive in order.
    fn copies(&self) -> Vec<String> {
        let mut copies: Vec<String> = self.mirror.seen().iter().map(|copy| summary(copy)).collect();
        copies.sort();
        copies
    }

    async fn has_copied(&self, expected: &[&str]) {
        until("all copies have come", async || (self.copies().len() >= expected.len()).then_some(())).await;
        assert_eq!(self.copies(), expected);
    }
}

fn header<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn summary(copy: &str) -> String {
    let direction = header(copy, "X-Siptrace-Dir").unwrap_or("?");
    let first = copy.split(' ').next().unwrap_or_default();
    let method = header(copy, "CSeq").and_then(|value| value.split(' ').nth(1)).unwrap_or("?");
    match first {
        "SIP/2.0" => format!("{direction} {} {method}", copy.split(' ').nth(1).unwrap_or("?")),
        request => format!("{direction} {request}"),
    }
}

#[tokio::test]
async fn accepted_registrations_are_relayed_without_credentials_and_with_the_phones_own_address() {
    let folder = Folder::new("copies-register");
    let sinks = Sinks::open();
    let _office = sinks.office(&folder).await;
    let relayed = until("both registrations are relayed", async || {
        let seen = sinks.replica.seen();
        (seen.len() >= 2).then_some(seen)
    })
    .await;
    assert_eq!(relayed.len(), 2, "the challenged ones are not relayed: {relayed:#?}");
    for register in &relayed {
        assert!(register.starts_with("REGISTER sip:office.example"), "{register}");
        assert_eq!(header(register, "Authorization"), None, "{register}");
        let via = register.split("\r\n").filter(|line| line.starts_with("Via: ")).last().unwrap_or_default();
        assert!(via.contains("received=127.0.0.1") && via.contains("rport="), "{register}");
    }
    assert!(sinks.copies().is_empty(), "registrations are relayed, not mirrored as well: {:?}", sinks.copies());
}

#[tokio::test]
async fn an_answered_call_is_copied_once_on_each_hop_with_its_addresses() {
    let folder = Folder::new("copies-answered");
    let sinks = Sinks::open();
    let mut office = sinks.office(&folder).await;
    let call = office.call_from_outside(&folder, "trunk-calls", "+14155550101");
    office.p101.rings().await;
    office.p101.answer().await;
    office.p101.hang_up().await;
    call.passes().await;
    sinks
        .has_copied(&[
            "in 180 INVITE",
            "in 200 BYE",
            "in 200 INVITE",
            "in ACK",
            "in BYE",
            "in INVITE",
            "out 100 INVITE",
            "out 180 INVITE",
            "out 200 BYE",
            "out 200 INVITE",
            "out BYE",
            "out INVITE",
        ])
        .await;
    let copies = sinks.mirror.seen();
    let invite = |direction: &str| copies.iter().find(|copy| summary(copy) == format!("{direction} INVITE")).cloned();
    let (first, second) = (invite("in").unwrap_or_default(), invite("out").unwrap_or_default());
    let (trunk, kamailio) = (format!("udp:{}", office.kamailio.trunk), format!("udp:{}", office.kamailio.address));
    assert_eq!(header(&first, "X-Siptrace-Fromip"), Some(trunk.as_str()));
    assert_eq!(header(&first, "X-Siptrace-Toip"), Some(kamailio.as_str()));
    assert_eq!(header(&second, "X-Siptrace-Fromip"), Some(kamailio.as_str()));
    assert_eq!(header(&first, "To"), header(&second, "To"), "To still names the number that was dialled");
    assert!(second.starts_with("INVITE sip:101-"), "the target is the phone's contact: {second}");
}

#[tokio::test]
async fn a_queue_call_names_its_queue_on_every_branch_and_the_loser_hears_who_won() {
    let folder = Folder::new("copies-queue");
    let sinks = Sinks::open();
    let mut office = sinks.office(&folder).await;
    let call = office.call_from_outside(&folder, "trunk-calls", "600");
    tokio::join!(office.p101.rings(), office.p102.rings());
    office.p102.answer().await;
    office.p101.is_idle_again().await;
    office.p102.hang_up().await;
    call.passes().await;
    let copies = sinks.mirror.seen();
    let branches: Vec<_> = copies.iter().filter(|copy| summary(copy) == "out INVITE").collect();
    assert_eq!(branches.len(), 2);
    assert!(branches.iter().all(|invite| header(invite, "X-Queue") == Some("sales")), "{branches:#?}");
    let cancel = copies.iter().find(|copy| summary(copy) == "out CANCEL").expect("the loser's branch is cancelled");
    let reason = header(cancel, "Reason").unwrap_or_default();
    assert!(reason.starts_with("SIP;cause=200"), "{cancel}");
}
