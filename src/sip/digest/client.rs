//! The side that is asked and answers. Pure: the client's nonce is passed in.

use super::{Algorithm, between_quotes, hash};
use crate::sip::message::Message;
use crate::sip::name::Name;
use crate::sip::syntax::{list, unfold};

/// What a server wants to be shown (a `WWW-Authenticate` or `Proxy-Authenticate` value).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Whose password is asked for; as between the quotes on the wire.
    pub realm: String,
    /// The server's nonce, as between the quotes.
    pub nonce: String,
    /// To be sent back as it is.
    pub opaque: Option<String>,
    /// The hash to use.
    pub algorithm: Algorithm,
    /// Whether `qop=auth` is offered; without it the old way of RFC 2069 is meant.
    pub qop_auth: bool,
    /// The credentials were right but for an old nonce.
    pub stale: bool,
    /// A proxy asks (407), so the answer goes into `Proxy-Authorization`.
    pub proxy: bool,
}

/// Who answers. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Challenge {
    /// The strongest challenge of a 401 or 407 that can be answered; none when there is none.
    #[must_use]
    pub fn strongest(response: &Message<'_>) -> Option<Self> {
        let (name, proxy) = match response.status() {
            Some(401) => (Name::WwwAuthenticate, false),
            Some(407) => (Name::ProxyAuthenticate, true),
            _ => return None,
        };
        let known = response.headers(name).filter_map(|value| Self::parse(value, proxy));
        known.max_by_key(|challenge| challenge.algorithm)
    }

    /// Reads one header value. None when it is not Digest, lacks realm or nonce, wants a hash or a quality of protection
    /// that we don't have, or has a quote where none may be: its values are repeated between quotes.
    #[must_use]
    pub fn parse(value: &str, proxy: bool) -> Option<Self> {
        let value = unfold(value.trim());
        let (scheme, rest) = value.split_once([' ', '\t'])?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let parameters = || list(rest).filter_map(|item| item.split_once('='));
        if !parameters().all(|(_, text)| between_quotes(text.trim()).is_some()) {
            return None;
        }
        let find = |name: &str| {
            let (_, text) = parameters().find(|(key, _)| key.trim().eq_ignore_ascii_case(name))?;
            between_quotes(text.trim())
        };
        let algorithm = find("algorithm").map_or(Some(Algorithm::Md5), Algorithm::of)?;
        let qop = find("qop");
        let qop_auth = qop.is_some_and(|all| all.split(',').any(|one| one.trim().eq_ignore_ascii_case("auth")));
        if qop.is_some_and(|all| !all.trim().is_empty()) && !qop_auth {
            return None;
        }
        Some(Self {
            realm: find("realm")?.to_owned(),
            nonce: find("nonce").filter(|nonce| !nonce.is_empty())?.to_owned(),
            opaque: find("opaque").map(str::to_owned),
            algorithm,
            qop_auth,
            stale: find("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
            proxy,
        })
    }

    /// The header that answers it: its name and value. `count` says how often this nonce has been used, this time included;
    /// `cnonce` is random hex.
    #[must_use]
    pub fn answer(
        &self,
        credentials: &Credentials,
        method: &str,
        uri: &str,
        count: u32,
        cnonce: &str,
    ) -> (&'static str, String) {
        let Credentials { user, password } = credentials;
        let Self { realm, nonce, .. } = self;
        let secret = hash(self.algorithm, &[user, ":", realm, ":", password]);
        let request = hash(self.algorithm, &[method, ":", uri]);
        let (secret, request) = (secret.as_str(), request.as_str());
        let proof = if self.qop_auth {
            let count = format!("{count:08x}");
            hash(self.algorithm, &[secret, ":", nonce, ":", &count, ":", cnonce, ":auth:", request])
        } else {
            hash(self.algorithm, &[secret, ":", nonce, ":", request])
        };
        let proof = proof.as_str();
        let shown = user.replace('\\', "\\\\").replace('"', "\\\"");
        let asked =
            if self.qop_auth { format!(", qop=auth, nc={count:08x}, cnonce=\"{cnonce}\"") } else { String::new() };
        let opaque = self.opaque.as_ref().map(|opaque| format!(", opaque=\"{opaque}\"")).unwrap_or_default();
        let value = format!(
            "Digest username=\"{shown}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{proof}\", \
             algorithm={}{asked}{opaque}",
            self.algorithm.name()
        );
        (if self.proxy { "Proxy-Authorization" } else { "Authorization" }, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::scan;

    fn mufasa() -> Credentials {
        Credentials { user: "Mufasa".into(), password: "Circle of Life".into() }
    }

    fn proof(value: &str) -> &str {
        value.split("response=\"").nth(1).unwrap().split('"').next().unwrap()
    }

    #[test]
    fn the_answers_are_those_of_rfc_7616() {
        let text = "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm=MD5, \
                    nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                    opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let credentials = mufasa();
        let md5 = Challenge::parse(text, false).unwrap();
        let (name, value) = md5.answer(&credentials, "GET", "/dir/index.html", 1, cnonce);
        assert_eq!((name, proof(&value)), ("Authorization", "8ca523f5e9506fed4657c9700eebdbec"));
        assert!(value.contains("qop=auth, nc=00000001, cnonce=\"f2/"), "{value}");
        assert!(value.ends_with("opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""), "{value}");
        let sha = Challenge::parse(&text.replace("=MD5", "=SHA-256"), true).unwrap();
        let (name, value) = sha.answer(&credentials, "GET", "/dir/index.html", 1, cnonce);
        let expected = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        assert_eq!((name, proof(&value)), ("Proxy-Authorization", expected));
    }

    #[test]
    fn without_qop_the_answer_is_that_of_rfc_2069() {
        let challenge = Challenge::parse(
            "Digest realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"",
            false,
        );
        let credentials = Credentials { user: "Mufasa".into(), password: "CircleOfLife".into() };
        let (_, value) = challenge.unwrap().answer(&credentials, "GET", "/dir/index.html", 1, "x");
        assert_eq!(proof(&value), "1949323746fe6a43ef61f9606e7febea");
        assert!(!value.contains("qop") && !value.contains("cnonce"), "{value}");
    }

    #[test]
    fn the_strongest_challenge_we_know_is_taken() {
        let response = "SIP/2.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
                        WWW-Authenticate: Digest realm=\"a\",nonce=\"1\",algorithm=SHA-1024\r\n\
                        WWW-Authenticate: Digest realm=\"a\",nonce=\"2\",algorithm=SHA-256,qop=\"auth\",stale=TRUE\r\n\
                        WWW-Authenticate: Digest realm=\"a, b\",\r\n nonce=\"3\"\r\n\r\n";
        let challenge = Challenge::strongest(&scan(response.as_bytes()).unwrap()).unwrap();
        assert_eq!((challenge.nonce.as_str(), challenge.algorithm), ("2", Algorithm::Sha256));
        assert!(challenge.stale && challenge.qop_auth && !challenge.proxy);
        let folded = Challenge::parse("digest realm=\"a, b\",\r\n nonce=\"3\"", true).unwrap();
        assert_eq!((folded.realm.as_str(), folded.nonce.as_str()), ("a, b", "3"));
    }

    #[test]
    fn what_cannot_be_answered_is_no_challenge() {
        for bad in [
            "",
            "Digest",
            "Digest realm=\"a\"",
            "Digest nonce=\"a\"",
            "Digest realm=\"a\", nonce=\"\"",
            "Digest realm=\"a\", nonce=\"b\", qop=\"auth-int\"",
            "Digest realm=\"a\", nonce=\"b\", algorithm=MD5-sess",
            "Basic realm=\"a\", nonce=\"b\"",
            "Digest realm=\"a\", nonce=\"b\" username=\"c\"",
            "Digest realm=\"a\", nonce=\"b",
            "Digest realm=a\"b, nonce=\"b\"",
            "Digest realm=\"a\\\", nonce=\"b\"",
        ] {
            assert_eq!(Challenge::parse(bad, false), None, "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(format!("{:?}", mufasa()), "Credentials { user: \"Mufasa\", .. }");
    }
}
