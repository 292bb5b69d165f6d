//! SIP as a client speaks it: what demo phones and test clients send. Pure: everything that must be drawn at random is
//! passed in, bytes come out. The only file that names rsip, which writes well what it can't read (see the scanner).

use std::net::SocketAddr;

use rsip::headers::{self, UntypedHeader as _};
use rsip::{Header, Host, HostWithPort, StatusCode, Version};

use super::address::Contact;
use super::fault::{HeaderError, HeaderFault};
use super::name::Name;
use super::scan::Message;
use super::syntax::{list, unfold};
use crate::model::Transport;

/// A phone: who it is and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phone {
    /// User part of its address-of-record.
    pub user: String,
    /// Domain of its address-of-record.
    pub domain: String,
    /// Display name.
    pub display: Option<String>,
    /// Where it can be reached.
    pub local: SocketAddr,
    /// Over what.
    pub transport: Transport,
    /// What it calls itself.
    pub user_agent: String,
}

/// The identifiers of one request; `tag` is the phone's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids<'i> {
    /// Call-ID.
    pub call_id: &'i str,
    /// The phone's tag.
    pub tag: &'i str,
    /// Via branch, starting with `z9hG4bK`.
    pub branch: &'i str,
    /// `CSeq` number.
    pub cseq: u32,
}

/// What an INVITE is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Invite<'i> {
    /// Request-URI.
    pub target: &'i str,
    /// URI in To.
    pub to: &'i str,
    /// Session description.
    pub sdp: Option<&'i str>,
    /// Further headers.
    pub headers: &'i [(&'i str, &'i str)],
}

/// What a SUBSCRIBE is about (RFC 6665 §3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscribe<'s> {
    /// Request-URI: the resource, or inside a dialog the notifier's contact.
    pub target: &'s str,
    /// The To value, with the notifier's tag inside a dialog.
    pub to: &'s str,
    /// The event package.
    pub event: &'s str,
    /// The body wanted.
    pub accept: &'s str,
    /// Seconds; 0 ends the subscription.
    pub expires_s: u32,
    /// Where it goes through, inside a dialog.
    pub routes: &'s [String],
    /// An `Authorization` or `Proxy-Authorization` header.
    pub proof: Option<(&'s str, &'s str)>,
}

/// Whom an OPTIONS outside a dialog asks (RFC 3261 §11.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options<'o> {
    /// Request-URI, and the URI in To.
    pub target: &'o str,
    /// Route header values it goes through first, comma-separated.
    pub route: Option<&'o str>,
}

impl Phone {
    /// `sip:user@domain`
    #[must_use]
    pub fn address_of_record(&self) -> String {
        format!("sip:{}@{}", self.user, self.domain)
    }

    /// Its Contact value, `<sip:user@local>` with a transport unless that is UDP.
    #[must_use]
    pub fn contact(&self) -> String {
        match self.transport {
            Transport::Udp => format!("<sip:{}@{}>", self.user, self.local),
            other => format!("<sip:{}@{};transport={}>", self.user, self.local, name(other).to_ascii_lowercase()),
        }
    }

    /// A REGISTER that binds `contacts` (Contact values, e.g. [`Phone::contact`]); without any it only asks.
    #[must_use]
    pub fn register(&self, ids: &Ids<'_>, contacts: &[&str], expires_s: Option<u32>) -> Vec<u8> {
        let mut headers = self.opening(ids, rsip::Method::Register, &format!("<{}>", self.address_of_record()));
        headers.extend(contacts.iter().map(|contact| headers::Contact::new(*contact).into()));
        headers.extend(expires_s.map(|seconds| headers::Expires::new(seconds.to_string()).into()));
        request(rsip::Method::Register, &format!("sip:{}", self.domain), headers, None)
    }

    /// A REGISTER that removes all contacts of its address-of-record (RFC 3261 §10.2.2).
    #[must_use]
    pub fn unregister(&self, ids: &Ids<'_>) -> Vec<u8> {
        self.register(ids, &["*"], Some(0))
    }

    /// An INVITE.
    #[must_use]
    pub fn invite(&self, ids: &Ids<'_>, invite: &Invite<'_>) -> Vec<u8> {
        let mut headers = self.opening(ids, rsip::Method::Invite, &format!("<{}>", invite.to));
        headers.push(headers::Contact::new(self.contact()).into());
        headers.extend(invite.headers.iter().map(|(name, value)| Header::Other((*name).into(), (*value).into())));
        request(rsip::Method::Invite, invite.target, headers, invite.sdp)
    }

    /// A SUBSCRIBE, outside a dialog or inside one.
    #[must_use]
    pub fn subscribe(&self, ids: &Ids<'_>, about: &Subscribe<'_>) -> Vec<u8> {
        let mut headers = self.opening(ids, rsip::Method::Subscribe, about.to);
        headers.extend(about.routes.iter().map(|route| headers::Route::new(route.as_str()).into()));
        headers.push(headers::Contact::new(self.contact()).into());
        headers.push(headers::Event::new(about.event).into());
        headers.push(headers::Accept::new(about.accept).into());
        headers.push(headers::Expires::new(about.expires_s.to_string()).into());
        headers.extend(about.proof.map(|(name, value)| Header::Other(name.into(), value.into())));
        request(rsip::Method::Subscribe, about.target, headers, None)
    }

    /// An OPTIONS outside a dialog.
    #[must_use]
    pub fn options(&self, ids: &Ids<'_>, about: &Options<'_>) -> Vec<u8> {
        let mut headers = self.opening(ids, rsip::Method::Options, &format!("<{}>", about.target));
        headers.extend(about.route.map(|route| headers::Route::new(route).into()));
        headers.push(headers::Accept::new("application/sdp").into());
        request(rsip::Method::Options, about.target, headers, None)
    }

    /// The CANCEL of an INVITE it sent (RFC 3261 §9.1).
    ///
    /// # Errors
    /// When the INVITE lacks a header every request has.
    pub fn cancel(&self, invite: &Message<'_>) -> Result<Vec<u8>, HeaderError> {
        let to = invite.only(Name::To)?;
        self.same_hop(invite, rsip::Method::Cancel, to)
    }

    /// The ACK of a final response to an INVITE it sent: on the same branch for a failure (RFC 3261 §17.1.1.3), along
    /// the route set with a new `branch` for a 2xx (§13.2.2.4).
    ///
    /// # Errors
    /// When the INVITE or the response lacks a header every message has.
    pub fn ack(&self, invite: &Message<'_>, response: &Message<'_>, branch: &str) -> Result<Vec<u8>, HeaderError> {
        if !matches!(response.status(), Some(200..=299)) {
            return self.same_hop(invite, rsip::Method::Ack, response.only(Name::To)?);
        }
        let cseq = invite.cseq()?.number;
        self.as_caller(invite, response, rsip::Method::Ack, branch, cseq)
    }

    /// The BYE of a call it placed.
    ///
    /// # Errors
    /// When the INVITE or the response lacks a header every message has.
    pub fn bye(&self, invite: &Message<'_>, response: &Message<'_>, branch: &str) -> Result<Vec<u8>, HeaderError> {
        let cseq = invite.cseq()?.number.saturating_add(1);
        self.as_caller(invite, response, rsip::Method::Bye, branch, cseq)
    }

    /// The BYE of a call it answered with `ids.tag`; `ids.call_id` is not used.
    ///
    /// # Errors
    /// When the INVITE lacks a header every request has.
    pub fn bye_as_callee(&self, invite: &Message<'_>, ids: &Ids<'_>) -> Result<Vec<u8>, HeaderError> {
        let mut headers = vec![self.via(ids.branch), headers::MaxForwards::new("70").into()];
        headers.extend(invite.values(Name::RecordRoute).map(|route| headers::Route::new(unfold(route)).into()));
        headers.push(headers::From::new(tagged(invite.only(Name::To)?, ids.tag)).into());
        headers.push(headers::To::new(unfold(invite.only(Name::From)?)).into());
        headers.push(headers::CallId::new(invite.try_call_id()?).into());
        headers.push(headers::CSeq::new(format!("{} BYE", ids.cseq)).into());
        Ok(request(rsip::Method::Bye, remote_target(invite)?, headers, None))
    }

    /// A response; `tag` becomes the To tag when there is none yet and the status is above 100.
    ///
    /// # Errors
    /// When the request lacks a header every request has.
    pub fn respond(
        &self,
        message: &Message<'_>,
        (status, reason): (u16, &str),
        tag: &str,
        sdp: Option<&str>,
    ) -> Result<Vec<u8>, HeaderError> {
        let has_tag = status == 100 || message.to()?.tag().is_some();
        let to = message.only(Name::To)?;
        let mut headers: Vec<Header> = Vec::new();
        headers.extend(message.headers(Name::Via).map(|via| headers::Via::new(unfold(via)).into()));
        headers.extend(message.headers(Name::RecordRoute).map(|route| headers::RecordRoute::new(unfold(route)).into()));
        headers.push(headers::From::new(unfold(message.only(Name::From)?)).into());
        headers.push(headers::To::new(if has_tag { unfold(to).into() } else { tagged(to, tag) }).into());
        headers.push(headers::CallId::new(message.try_call_id()?).into());
        headers.push(headers::CSeq::new(unfold(message.only(Name::CSeq)?)).into());
        if (101..300).contains(&status) {
            headers.push(headers::Contact::new(self.contact()).into());
        }
        headers.push(headers::UserAgent::new(&*self.user_agent).into());
        let (headers, body) = with_body(headers, sdp);
        // rsip's own names for statuses come without their blanks.
        let status_code = StatusCode::Other(status, reason.into());
        Ok(rsip::Response { status_code, version: Version::V2, headers, body }.into())
    }

    /// A session description that offers audio at its own address, for signalling that never sends any.
    #[must_use]
    pub fn sdp(&self) -> String {
        let family = if self.local.is_ipv6() { "IP6" } else { "IP4" };
        let ip = self.local.ip();
        format!(
            "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
             m=audio 49170 RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
        )
    }

    fn via(&self, branch: &str) -> Header {
        headers::Via::new(format!("SIP/2.0/{} {};rport;branch={branch}", name(self.transport), self.local)).into()
    }

    /// The headers of a request outside any dialog.
    fn opening(&self, ids: &Ids<'_>, method: rsip::Method, to: &str) -> Vec<Header> {
        let display = self.display.as_ref().map(|name| format!("\"{}\" ", escape(name))).unwrap_or_default();
        vec![
            self.via(ids.branch),
            headers::MaxForwards::new("70").into(),
            headers::From::new(format!("{display}<{}>;tag={}", self.address_of_record(), ids.tag)).into(),
            headers::To::new(to).into(),
            headers::CallId::new(ids.call_id).into(),
            headers::CSeq::new(format!("{} {method}", ids.cseq)).into(),
            headers::UserAgent::new(&*self.user_agent).into(),
        ]
    }

    /// A request that follows an INVITE on its branch: CANCEL, and the ACK of a failure.
    fn same_hop(&self, invite: &Message<'_>, method: rsip::Method, to: &str) -> Result<Vec<u8>, HeaderError> {
        let top = invite.header(Name::Via).and_then(|value| list(value).next()).unwrap_or_default();
        let mut headers: Vec<Header> = vec![headers::Via::new(unfold(top)).into()];
        headers.push(headers::MaxForwards::new("70").into());
        headers.extend(invite.headers(Name::Route).map(|route| headers::Route::new(unfold(route)).into()));
        headers.push(headers::From::new(unfold(invite.only(Name::From)?)).into());
        headers.push(headers::To::new(unfold(to)).into());
        headers.push(headers::CallId::new(invite.try_call_id()?).into());
        headers.push(headers::CSeq::new(format!("{} {method}", invite.cseq()?.number)).into());
        headers.push(headers::UserAgent::new(&*self.user_agent).into());
        Ok(request(method, invite.request_uri().unwrap_or_default(), headers, None))
    }

    /// A request of the caller inside the dialog that `response` made (RFC 3261 §12.2.1.1).
    fn as_caller(
        &self,
        invite: &Message<'_>,
        response: &Message<'_>,
        method: rsip::Method,
        branch: &str,
        cseq: u32,
    ) -> Result<Vec<u8>, HeaderError> {
        let mut routes: Vec<&str> = response.values(Name::RecordRoute).collect();
        routes.reverse();
        let mut headers = vec![self.via(branch), headers::MaxForwards::new("70").into()];
        headers.extend(routes.into_iter().map(|route| headers::Route::new(unfold(route)).into()));
        headers.push(headers::From::new(unfold(invite.only(Name::From)?)).into());
        headers.push(headers::To::new(unfold(response.only(Name::To)?)).into());
        headers.push(headers::CallId::new(invite.try_call_id()?).into());
        headers.push(headers::CSeq::new(format!("{cseq} {method}")).into());
        headers.push(headers::UserAgent::new(&*self.user_agent).into());
        Ok(request(method, remote_target(response)?, headers, None))
    }
}

/// Where requests inside the dialog go: the URI of the other side's Contact.
fn remote_target<'a>(message: &Message<'a>) -> Result<&'a str, HeaderError> {
    match message.contacts().next() {
        Some(Ok(Contact::Address(address))) => Ok(address.uri.text),
        Some(Err(error)) => Err(error),
        Some(Ok(Contact::Star)) => Err(HeaderError::new(Name::Contact.text(), HeaderFault::Malformed)),
        None => Err(HeaderError::new(Name::Contact.text(), HeaderFault::Missing)),
    }
}

fn request(method: rsip::Method, uri: &str, headers: Vec<Header>, sdp: Option<&str>) -> Vec<u8> {
    let (headers, body) = with_body(headers, sdp);
    // A host without a scheme is written as it is: rsip can write neither `tel:` nor IPv6 references by parts.
    let uri = rsip::Uri { host_with_port: HostWithPort { host: Host::Domain(uri.into()), port: None }, ..no_uri() };
    rsip::Request { method, uri, version: Version::V2, headers, body }.into()
}

fn no_uri() -> rsip::Uri {
    rsip::Uri { scheme: None, ..rsip::Uri::default() }
}

fn with_body(mut headers: Vec<Header>, sdp: Option<&str>) -> (rsip::Headers, Vec<u8>) {
    let body = sdp.unwrap_or_default();
    if sdp.is_some() {
        headers.push(headers::ContentType::new("application/sdp").into());
    }
    headers.push(headers::ContentLength::new(body.len().to_string()).into());
    (headers.into(), body.into())
}

fn tagged(value: &str, tag: &str) -> String {
    format!("{};tag={tag}", unfold(value))
}

fn escape(display: &str) -> String {
    display.replace('\\', "\\\\").replace('"', "\\\"").replace(['\r', '\n'], " ")
}

fn name(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "UDP",
        Transport::Tcp => "TCP",
        Transport::Tls => "TLS",
        Transport::Ws => "WS",
        Transport::Wss => "WSS",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{Method, check, scan};

    fn phone(local: &str, transport: Transport) -> Phone {
        Phone {
            user: "101".into(),
            domain: "pbx.example".into(),
            display: Some("Anna \"A\" Lee".into()),
            local: local.parse().unwrap(),
            transport,
            user_agent: "phone/1".into(),
        }
    }

    const IDS: Ids<'static> = Ids { call_id: "c1", tag: "t1", branch: "z9hG4bK1", cseq: 4 };

    #[test]
    fn an_options_names_the_contact_and_its_route() {
        let phone = phone("[2001:db8::1]:5060", Transport::Tcp);
        let about = Options { target: "sip:101@192.0.2.7:5062;ob", route: Some("<sip:p1;lr>, <sip:p2;lr>") };
        let bytes = phone.options(&IDS, &about);
        let message = scan(&bytes).unwrap();
        assert_eq!(check(&message), Ok(()));
        assert_eq!(
            (message.method(), message.request_uri()),
            (Some(Method::Options), Some("sip:101@192.0.2.7:5062;ob"))
        );
        assert_eq!(message.values(Name::Route).collect::<Vec<_>>(), ["<sip:p1;lr>", "<sip:p2;lr>"]);
        assert_eq!(message.to().unwrap().uri.text, "sip:101@192.0.2.7:5062;ob");
        assert_eq!(message.top_via().unwrap().branch, Some("z9hG4bK1"));
    }

    #[test]
    fn a_register_passes_our_own_checks_over_ipv6_too() {
        for phone in [phone("192.0.2.1:5062", Transport::Udp), phone("[2001:db8::1]:5062", Transport::Tcp)] {
            let bytes = phone.register(&IDS, &[&phone.contact()], Some(60));
            let message = scan(&bytes).unwrap();
            assert_eq!(check(&message), Ok(()));
            assert_eq!((message.method(), message.request_uri()), (Some(Method::Register), Some("sip:pbx.example")));
            assert_eq!(message.from().unwrap().display.as_deref(), Some("Anna \"A\" Lee"));
            assert_eq!(message.header(Name::Expires), Some("60"));
            let contact = message.contacts().next().unwrap().unwrap();
            assert_eq!(contact.uri().unwrap().host, phone.local.to_string().trim_end_matches(":5062"));
        }
        let bytes = phone("192.0.2.1:5062", Transport::Udp).unregister(&IDS);
        assert_eq!(scan(&bytes).unwrap().contacts().collect::<Vec<_>>(), [Ok(Contact::Star)]);
    }

    #[test]
    fn a_call_is_set_up_and_torn_down_by_either_side() {
        let anna = phone("192.0.2.1:5062", Transport::Udp);
        let ben = Phone { user: "102".into(), ..phone("192.0.2.2:5062", Transport::Udp) };
        let sdp = anna.sdp();
        let about = Invite {
            target: "sip:102@192.0.2.2:5062",
            to: "sip:102@pbx.example",
            sdp: Some(&sdp),
            headers: &[("X-Queue", "support"), ("Record-Route", "<sip:p1;lr>, <sip:p2;lr>")],
        };
        let invite = anna.invite(&IDS, &about);
        let invite = scan(&invite).unwrap();
        assert_eq!(check(&invite), Ok(()));
        assert_eq!((invite.body(), invite.named("x-queue").next()), (sdp.as_bytes(), Some("support")));

        let ok = ben.respond(&invite, (200, "OK"), "t2", Some(&sdp)).unwrap();
        let ok = scan(&ok).unwrap();
        assert_eq!((ok.status(), ok.to().unwrap().tag(), ok.body()), (Some(200), Some("t2"), sdp.as_bytes()));

        let ack = anna.ack(&invite, &ok, "z9hG4bK2").unwrap();
        let ack = scan(&ack).unwrap();
        assert_eq!((check(&ack), ack.request_uri()), (Ok(()), Some("sip:102@192.0.2.2:5062")));
        assert_eq!(ack.headers(Name::Route).collect::<Vec<_>>(), ["<sip:p2;lr>", "<sip:p1;lr>"]);
        assert_eq!(ack.cseq().unwrap().number, 4);

        let bye = anna.bye(&invite, &ok, "z9hG4bK3").unwrap();
        let bye = scan(&bye).unwrap();
        assert_eq!((check(&bye), bye.cseq().unwrap().number, bye.to().unwrap().tag()), (Ok(()), 5, Some("t2")));

        let bye = ben.bye_as_callee(&invite, &Ids { tag: "t2", branch: "z9hG4bK4", ..IDS }).unwrap();
        let bye = scan(&bye).unwrap();
        assert_eq!((check(&bye), bye.request_uri()), (Ok(()), Some("sip:101@192.0.2.1:5062")));
        assert_eq!((bye.from().unwrap().tag(), bye.to().unwrap().tag()), (Some("t2"), Some("t1")));
        assert_eq!(bye.headers(Name::Route).collect::<Vec<_>>(), ["<sip:p1;lr>", "<sip:p2;lr>"]);
    }

    #[test]
    fn a_subscription_names_its_event_and_carries_its_proof() {
        let anna = phone("192.0.2.1:5062", Transport::Tcp);
        let about = Subscribe {
            target: "sip:102@pbx.example",
            to: "<sip:102@pbx.example>",
            event: "dialog",
            accept: "application/dialog-info+xml",
            expires_s: 300,
            routes: &["<sip:p1;lr>".to_owned()],
            proof: Some(("Proxy-Authorization", "Digest x")),
        };
        let bytes = anna.subscribe(&IDS, &about);
        let message = scan(&bytes).unwrap();
        assert_eq!(check(&message), Ok(()));
        assert_eq!((message.method(), message.header(Name::Event)), (Some(Method::Subscribe), Some("dialog")));
        assert_eq!((message.header(Name::Expires), message.header(Name::Route)), (Some("300"), Some("<sip:p1;lr>")));
        assert_eq!(message.header(Name::ProxyAuthorization), Some("Digest x"));
        assert_eq!(message.header(Name::Contact), Some("<sip:101@192.0.2.1:5062;transport=tcp>"));
        assert_eq!(message.to().unwrap().uri.text, "sip:102@pbx.example");
    }

    #[test]
    fn a_cancel_and_the_ack_of_a_failure_stay_on_the_branch() {
        let anna = phone("192.0.2.1:5062", Transport::Udp);
        let about = Invite { target: "tel:+14155550100", to: "tel:+14155550100", ..Invite::default() };
        let invite = anna.invite(&IDS, &about);
        let invite = scan(&invite).unwrap();
        let cancel = anna.cancel(&invite).unwrap();
        let cancel = scan(&cancel).unwrap();
        assert_eq!((check(&cancel), cancel.method()), (Ok(()), Some(Method::Cancel)));
        let busy = anna.respond(&invite, (486, "Busy Here"), "t2", None).unwrap();
        let busy = scan(&busy).unwrap();
        assert_eq!(busy.reason_phrase(), Some("Busy Here"));
        let ack = anna.ack(&invite, &busy, "unused").unwrap();
        let ack = scan(&ack).unwrap();
        for message in [&cancel, &ack] {
            assert_eq!(message.request_uri(), Some("tel:+14155550100"));
            assert_eq!(message.top_via(), invite.top_via());
            assert_eq!(message.cseq().unwrap().number, 4);
        }
        assert_eq!((cancel.to().unwrap().tag(), ack.to().unwrap().tag()), (None, Some("t2")));
    }
}
