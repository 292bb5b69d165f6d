//! What is read out of the messages that RFC 4475 and RFC 5118 call valid. What is answered to all of them is
//! `tests/sip/torture.rs`.

use std::path::Path;

use hookswitch::model::Transport;
use hookswitch::sip::registrar::{Contacts, RegisterRequest};
use hookswitch::sip::{Message, Method, Uri, check, scan};

#[test]
fn a_tortuous_invite_is_read_whole() {
    let bytes = read("rfc4475/wsinv");
    let message = valid(&bytes);
    assert_eq!((message.method(), message.via_count()), (Some(Method::Invite), 3));
    assert_eq!(message.top_via().unwrap().branch, Some("z9hG4bKwsinv"));
    assert_eq!(message.from().unwrap().display.as_deref(), Some("E Noether \\\""));
    assert_eq!((message.from().unwrap().tag(), message.to().unwrap().tag()), (Some("77asj"), Some("20774n")));
    assert_eq!(message.cseq().unwrap().number, 11);
    let contact = message.contacts().next().unwrap().unwrap();
    assert_eq!(contact.uri().unwrap().text, "sip:noether@away.example");
    assert!(message.body().starts_with(b"v=0") && message.body().ends_with(b"8000\r\n"));
}

#[test]
fn the_widest_range_of_characters_is_read() {
    let bytes = read("rfc4475/intmeth");
    let message = valid(&bytes);
    assert_eq!(message.method().unwrap().as_str(), "!odd-Method9876543210_*+`.%indeed'~");
    let uri = Uri::parse(message.request_uri().unwrap()).unwrap();
    assert_eq!(uri.user, Some("2_odd.URI~(can-be!so)&it's+$/quite?,/;;*"));
    assert_eq!((uri.password, uri.host), (Some("&pass+has=1,odd!*wo~rd_too.(is-it)"), "office.example"));
    let to = message.to().unwrap().display.unwrap().into_owned();
    assert_eq!(to, "BEL:\u{7} NUL: DEL:\u{7f}", "a zero byte can be read, but no store can keep it");
    assert_eq!(message.from().unwrap().tag(), Some("_word~1'+`*%!-."));
    assert_eq!(message.call_id(), Some("intmeth.77%ZK-!.*_+'@word`~)(><:\\/\"][?}{"));
}

#[test]
fn escapes_mean_what_they_should_where_they_should() {
    let bytes = read("rfc4475/esc01");
    let message = valid(&bytes);
    let to = message.to().unwrap();
    assert_eq!(to.uri.key(), Uri::parse("sip:desk@office.example").unwrap().key());
    let uri = Uri::parse(message.request_uri().unwrap()).unwrap();
    assert_eq!((uri.user, uri.host), (Some("sips%3Adesk%40office.example"), "away.example"));
    let bytes = read("rfc4475/esc02");
    let message = valid(&bytes);
    assert_eq!(message.method(), Some(Method::Other("RE%47ISTE%52")), "not REGISTER");
    assert_eq!(message.contacts().count(), 2, "an escaped header name is another name");
    assert_eq!(message.to().unwrap().display.as_deref(), Some("%Z%44"));
}

#[test]
fn contacts_of_torture_registers_are_told_apart() {
    for (name, expected) in [
        ("rfc4475/escnull", vec!["sip:%00@192.0.2.77", "sip:%00%00@192.0.2.77"]),
        ("rfc4475/cparam01", vec!["sip:+14155550177@gw.away.example"]),
        ("rfc4475/cparam02", vec!["sip:+14155550177@gw.away.example;odd"]),
        ("rfc4475/regescrt", vec!["sip:desk@office.example?Route=%3Csip:edge.office.example%3E"]),
        ("rfc4475/dblreq", vec!["sip:desk@192.0.2.77"]),
        ("rfc5118/ipv6-good", vec!["sip:desk@[2001:db8::77]"]),
    ] {
        let bytes = read(name);
        let request = RegisterRequest::parse(&valid(&bytes), None, Transport::Udp).unwrap();
        let Contacts::Listed(contacts) = &request.contacts else { panic!("{name} lists contacts") };
        assert_eq!(contacts.iter().map(|contact| contact.uri.text).collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn users_hosts_and_ports_are_split_as_the_rfcs_say() {
    for (name, user, host, port) in [
        ("rfc4475/semiuri", Some("desk;par=u%40away.example"), "office.example", None),
        ("rfc5118/port-ambiguous", None, "[2001:db8::10:5077]", None),
        ("rfc5118/port-unambiguous", None, "[2001:db8::10]", Some(5_077)),
        ("rfc5118/ipv6-bug-abnf-3-colons", Some("desk"), "[2001:db8:::192.0.2.1]", None),
    ] {
        let bytes = read(name);
        let uri = Uri::parse(valid(&bytes).request_uri().unwrap()).unwrap();
        assert_eq!((uri.user, uri.host, uri.port), (user, host, port), "{name}");
    }
}

#[test]
fn responses_and_bodies_are_read() {
    let reason = |name| {
        let bytes = read(name);
        let message = scan(&bytes).unwrap();
        (message.status().unwrap(), message.reason_phrase().unwrap().to_owned())
    };
    assert_eq!(reason("rfc4475/unreason"), (200, "= 2**3 * 5**2 двести".into()));
    assert_eq!(reason("rfc4475/noreason"), (100, String::new()));
    let bytes = read("rfc4475/scalarlg");
    assert!(scan(&bytes).unwrap().cseq().is_err(), "whoever matches responses has nothing to match it by");
    let bytes = read("rfc4475/mpart01");
    assert!(valid(&bytes).body().ends_with(b"--77aa77bb77--"));
    let bytes = read("rfc5118/via-received-param-with-delim");
    assert_eq!(valid(&bytes).top_via().unwrap().received, Some("[2001:db8::9:255]"));
    let bytes = read("rfc5118/mult-ip-in-header");
    assert_eq!(valid(&bytes).via_count(), 3);
}

fn valid(bytes: &[u8]) -> Message<'_> {
    let message = scan(bytes).unwrap();
    check(&message).unwrap();
    message
}

fn read(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sip/torture");
    std::fs::read(folder.join(name).with_extension("sip")).unwrap()
}
