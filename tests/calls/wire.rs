//! SIP as a proxy's or a B2BUA's mirror shows it, one text a message.

use super::world::phone_host;

/// How a B2BUA names the caller of [`Invite::from_trunk`] to phones.
pub const FROM: &str = "<sip:+14155550100@192.0.2.1>";
/// The reason of a CANCEL because somebody else has answered.
pub const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

/// One INVITE on one hop. A proxy's second hop has its own Via on top of the caller's.
#[derive(Clone, Debug)]
pub struct Invite {
    pub call_id: String,
    /// Top Via first.
    pub vias: Vec<String>,
    pub target: String,
    pub from: String,
    pub to: String,
    pub contact: String,
    pub cseq: u32,
    pub extra: String,
}

impl Invite {
    /// The caller's own hop: from `caller` at a trunk to `dialled` at the PBX.
    pub fn from_trunk(call_id: &str, caller: &str, dialled: &str) -> Self {
        Self {
            call_id: call_id.into(),
            vias: vec![format!("SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK-t-{call_id}")],
            target: format!("sip:{dialled}@pbx.example"),
            from: format!("<sip:{caller}@trunk.example>;tag=caller"),
            to: format!("<sip:{dialled}@pbx.example>"),
            contact: "<sip:trunk@198.51.100.7:5060>".into(),
            cseq: 1,
            extra: String::new(),
        }
    }

    /// The caller's own hop: from the phone with this extension.
    pub fn from_phone(call_id: &str, extension: &str, dialled: &str) -> Self {
        let host = phone_host(extension);
        Self {
            vias: vec![format!("SIP/2.0/UDP {host}:5060;branch=z9hG4bK-p-{call_id}")],
            from: format!("<sip:{extension}@pbx.example>;tag=caller"),
            contact: format!("<sip:{extension}-x@{host}:5060>"),
            ..Self::from_trunk(call_id, "", dialled)
        }
    }

    /// The proxy's hop of this INVITE to the phone with this extension.
    pub fn proxied_to(&self, extension: &str) -> Self {
        self.proxied(&format!("sip:{extension}-x@{}:5060", phone_host(extension)), extension)
    }

    /// The proxy's hop of this INVITE to a URI.
    pub fn proxied(&self, target: &str, branch: &str) -> Self {
        let via = format!("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK-x-{}-{branch}", self.call_id);
        let vias = std::iter::once(via).chain(self.vias.iter().cloned()).collect();
        Self { vias, target: target.into(), ..self.clone() }
    }

    /// A B2BUA's own INVITE to the phone with this extension: a new Call-ID and the PBX's Via alone.
    pub fn b2b(call_id: &str, extension: &str, from: &str) -> Self {
        Self {
            call_id: call_id.into(),
            vias: vec![format!("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK-b-{call_id}")],
            target: format!("sip:{extension}-x@{}:5060", phone_host(extension)),
            from: format!("{from};tag=pbx"),
            to: format!("<sip:{extension}@pbx.example>"),
            contact: "<sip:pbx@192.0.2.1>".into(),
            cseq: 1,
            extra: String::new(),
        }
    }

    pub fn with(mut self, header: &str) -> Self {
        self.extra.push_str(header);
        self.extra.push_str("\r\n");
        self
    }

    /// The same leg sent again with credentials.
    pub fn authorised(&self) -> Self {
        let mut again = self.clone();
        again.cseq += 1;
        again.vias[0].push_str("-auth");
        again.with("Proxy-Authorization: Digest username=\"x\", realm=\"x\", nonce=\"x\", uri=\"x\", response=\"x\"")
    }

    pub fn text(&self) -> String {
        self.request("INVITE", &self.target, "", self.cseq, &self.vias, &self.contact)
    }

    pub fn cancel(&self, reason: &str) -> String {
        let reason = if reason.is_empty() { String::new() } else { format!("Reason: {reason}\r\n") };
        let invite = Self { extra: reason, ..self.clone() };
        invite.request("CANCEL", &self.target, "", self.cseq, &self.vias[..1], "")
    }

    /// A response to this INVITE, To-tag `tag`.
    pub fn response(&self, status: u16, tag: &str) -> String {
        self.response_with(status, tag, "")
    }

    pub fn response_with(&self, status: u16, tag: &str, extra: &str) -> String {
        let vias = lines(&self.vias);
        let Self { from, to, call_id, cseq, .. } = self;
        let to_tag = if status == 100 { String::new() } else { format!(";tag={tag}") };
        format!(
            "SIP/2.0 {status} {}\r\n{vias}From: {from}\r\nTo: {to}{to_tag}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} INVITE\r\n\
             {extra}Content-Length: 0\r\n\r\n",
            phrase(status)
        )
    }

    /// The ACK of a 2xx: its own transaction.
    pub fn ack(&self, tag: &str) -> String {
        self.in_dialog("ACK", tag, self.cseq, "ack")
    }

    pub fn bye(&self, tag: &str) -> String {
        self.in_dialog("BYE", tag, self.cseq + 1, "bye")
    }

    /// A BYE that the called side sends.
    pub fn bye_from_callee(&self, tag: &str) -> String {
        let swapped = Self {
            from: format!("{};tag={tag}", self.to),
            to: self.from.split(";tag=").next().unwrap_or_default().into(),
            ..self.clone()
        };
        let caller_tag = self.from.split(";tag=").nth(1).unwrap_or_default();
        swapped.in_dialog("BYE", caller_tag, 100, "bye2")
    }

    pub fn reinvite(&self, tag: &str) -> String {
        self.in_dialog("INVITE", tag, self.cseq + 5, "re")
    }

    /// The called side sends the call to whom it has asked under this Call-ID.
    pub fn refer_to_asked(&self, tag: &str, call_id: &str) -> String {
        let refer = self.bye_from_callee(tag).replace("BYE", "REFER").replace("bye2", "refer");
        let asked = call_id.replace('@', "%40");
        let refer_to = format!("Refer-To: <sip:102@pbx.example?Replaces={asked}%3Bto-tag%3Dx%3Bfrom-tag%3Dy>\r\n");
        refer.replace("Content-Length", &format!("{refer_to}Content-Length"))
    }

    pub fn refer_accepted(&self, tag: &str) -> String {
        let Self { from, to, call_id, vias, .. } = self;
        format!(
            "SIP/2.0 202 Accepted\r\n{}From: {to};tag={tag}\r\nTo: {from}\r\nCall-ID: {call_id}\r\nCSeq: 9 REFER\r\n\
             Content-Length: 0\r\n\r\n",
            lines(vias)
        )
    }

    fn in_dialog(&self, method: &str, tag: &str, cseq: u32, branch: &str) -> String {
        let vias: Vec<String> = self.vias.iter().map(|via| format!("{via}-{branch}")).collect();
        self.request(method, &self.target, tag, cseq, &vias, &self.contact)
    }

    fn request(&self, method: &str, target: &str, to_tag: &str, cseq: u32, vias: &[String], contact: &str) -> String {
        let Self { from, to, call_id, extra, .. } = self;
        let to_tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
        let contact = if contact.is_empty() { String::new() } else { format!("Contact: {contact}\r\n") };
        let extra = if matches!(method, "INVITE" | "CANCEL") { extra.as_str() } else { "" };
        format!(
            "{method} {target} SIP/2.0\r\n{}Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}{to_tag}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\n{contact}{extra}Content-Length: 0\r\n\r\n",
            lines(vias)
        )
    }
}

fn lines(vias: &[String]) -> String {
    vias.iter().flat_map(|via| ["Via: ", via, "\r\n"]).collect()
}

fn phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        183 => "Session Progress",
        200 => "OK",
        302 => "Moved Temporarily",
        407 => "Proxy Authentication Required",
        480 => "Temporarily Unavailable",
        486 => "Busy Here",
        487 => "Request Terminated",
        503 => "Service Unavailable",
        603 => "Decline",
        _ => "Whatever",
    }
}
