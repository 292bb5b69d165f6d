//! Whose phone a dial string rings.

use super::Aor;

/// The device behind an agent's contact, such as `[leg_timeout=8]user/201@office.example`. None for an outside number or
/// what else can't be read. Of several alternatives the first counts.
pub(super) fn device(dial: &str) -> Option<Aor> {
    let mut dial = dial.trim();
    loop {
        let close = match dial.as_bytes().first()? {
            b'{' => '}',
            b'[' => ']',
            b'<' => '>',
            _ => break,
        };
        dial = dial.split_once(close)?.1.trim_start();
    }
    let dial = dial.split([',', '|']).next()?.split(":_:").next()?;
    if let Some(inner) = dial.strip_prefix("${sofia_contact(").and_then(|rest| rest.split(')').next()) {
        let name = inner.rsplit('/').next()?;
        return aor(name);
    }
    let (endpoint, rest) = dial.split_once('/')?;
    match endpoint {
        "user" | "verto.rtc" | "PJSIP" => aor(rest),
        "loopback" => aor(rest.split('/').next()?).filter(|aor| aor.user.len() <= EXTENSION_MAX),
        // sofia/PROFILE/201%domain is looked up among the registrations, sofia/PROFILE/201@host is sent there.
        "sofia" => match rest.split_once('/')? {
            ("gateway", _) => None,
            (_, name) => aor(name.split(';').next()?),
        },
        _ => None,
    }
}

/// `user@domain`, `user%domain` or `user`.
pub(super) fn aor(name: &str) -> Option<Aor> {
    let name = name.trim().trim_start_matches("sip:");
    let (user, domain) = match name.split_once(['@', '%']) {
        Some((user, domain)) => (user, Some(domain)),
        None => (name, None),
    };
    let plain = !user.is_empty() && !user.contains(['$', '{', ' ', '/']);
    let domain = domain.map(|domain| domain.split([':', ';']).next().unwrap_or_default());
    plain.then(|| Aor { user: user.to_owned(), domain: domain.filter(|domain| !domain.is_empty()).map(str::to_owned) })
}

/// A longer number dialled through the dial plan is somebody outside.
const EXTENSION_MAX: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_found_behind_an_agents_contact() {
        let rows = [
            ("[leg_timeout=8]user/201@127.0.0.1", Some(("201", Some("127.0.0.1")))),
            ("{call_timeout=10,domain_name=a.example,sip_h_x=652}user/203@a.example", Some(("203", Some("a.example")))),
            ("user/201", Some(("201", None))),
            ("<a=b>[c=d]user/201@a.example,user/202@a.example", Some(("201", Some("a.example")))),
            ("sofia/internal/201%a.example", Some(("201", Some("a.example")))),
            ("sofia/internal/201@192.0.2.7:5060;transport=tcp", Some(("201", Some("192.0.2.7")))),
            ("${sofia_contact(internal/201@a.example)}", Some(("201", Some("a.example")))),
            ("loopback/201/default/XML", Some(("201", None))),
            ("loopback/14155550123/default", None),
            ("sofia/gateway/trunk/14155550123", None),
            ("", None),
            ("{unclosed", None),
            ("error/USER_BUSY", None),
        ];
        for (dial, expected) in rows {
            let found = device(dial);
            assert_eq!(found.as_ref().map(|aor| (aor.user.as_str(), aor.domain.as_deref())), expected, "{dial}");
        }
    }
}
