//! The side that asks and judges what it is shown.

use md5::Md5;
use sha2::{Sha256, Sha512_256};
use subtle::ConstantTimeEq as _;

use super::{Algorithm, Hex, between_quotes, digest, hash};
use crate::model::Ha1;
use crate::sip::syntax::list;

/// Credentials a client shows (an `Authorization` value), every part there and well-formed; not judged yet. Texts are
/// those between the quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authorization<'a> {
    /// Who says to be calling.
    pub username: &'a str,
    /// The realm it believes to be in.
    pub realm: &'a str,
    /// The server's nonce.
    pub nonce: &'a str,
    /// The Request-URI as the client wrote it.
    pub uri: &'a str,
    /// The hash it used.
    pub algorithm: Algorithm,
    /// How often it has used the nonce, this time included (`nc`).
    pub count: u32,
    count_text: &'a str,
    cnonce: &'a str,
    response: &'a str,
}

/// Why an `Authorization` value can't be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizationFault {
    /// A parameter is missing, there twice, or not well-formed.
    #[error("not well-formed")]
    Malformed,
    /// An algorithm or quality of protection that we don't offer; without `qop`, which has been asked for since RFC 2617,
    /// nothing would tell a repeated request from a new one.
    #[error("not offered")]
    NotOffered,
}

impl<'a> Authorization<'a> {
    /// Reads one header value, unfolded. None when it is of another scheme.
    ///
    /// # Errors
    /// [`AuthorizationFault`] when it is Digest but can't be judged.
    pub fn parse(value: &'a str) -> Result<Option<Self>, AuthorizationFault> {
        let Some((scheme, rest)) = value.trim().split_once([' ', '\t']) else { return Ok(None) };
        if !scheme.eq_ignore_ascii_case("Digest") {
            return Ok(None);
        }
        let found = Parameters::read(rest).ok_or(AuthorizationFault::Malformed)?;
        let needed = |text: Option<&'a str>| text.filter(|text| !text.is_empty()).ok_or(AuthorizationFault::Malformed);
        let algorithm = found.algorithm.map_or(Some(Algorithm::Md5), Algorithm::of);
        let algorithm = algorithm.ok_or(AuthorizationFault::NotOffered)?;
        if !found.qop.is_some_and(|qop| qop.eq_ignore_ascii_case("auth")) {
            return Err(AuthorizationFault::NotOffered);
        }
        let count_text = needed(found.nc)?;
        let is_count = count_text.len() == 8 && count_text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let count = u32::from_str_radix(count_text, 16).ok().filter(|_| is_count);
        Ok(Some(Self {
            username: needed(found.username)?,
            realm: needed(found.realm)?,
            nonce: needed(found.nonce)?,
            uri: needed(found.uri)?,
            response: needed(found.response)?,
            cnonce: needed(found.cnonce)?,
            count: count.ok_or(AuthorizationFault::Malformed)?,
            count_text,
            algorithm,
        }))
    }

    /// Whether whoever made it knows the password behind `ha1` (RFC 7616 §3.4.1). Takes as long whatever it differs in.
    #[must_use]
    pub fn is_proof_of(&self, ha1: &Ha1, method: &str) -> bool {
        let Self { nonce, uri, algorithm, count_text, cnonce, .. } = self;
        let secret = match algorithm {
            Algorithm::Md5 => Hex::of(&ha1.md5),
            Algorithm::Sha256 => Hex::of(&ha1.sha256),
            Algorithm::Sha512_256 => Hex::of(&ha1.sha512_256),
        };
        let request = hash(*algorithm, &[method, ":", uri]);
        let (secret, request) = (secret.as_str(), request.as_str());
        let expected = hash(*algorithm, &[secret, ":", nonce, ":", count_text, ":", cnonce, ":auth:", request]);
        expected.as_str().as_bytes().ct_eq(self.response.as_bytes()).into()
    }
}

/// What is kept of a password.
#[must_use]
pub fn ha1(user: &str, realm: &str, password: &str) -> Ha1 {
    let parts = [user, ":", realm, ":", password];
    Ha1 {
        md5: digest::<Md5>(&parts).into(),
        sha256: digest::<Sha256>(&parts).into(),
        sha512_256: digest::<Sha512_256>(&parts).into(),
    }
}

#[derive(Default)]
struct Parameters<'a> {
    username: Option<&'a str>,
    realm: Option<&'a str>,
    nonce: Option<&'a str>,
    uri: Option<&'a str>,
    response: Option<&'a str>,
    algorithm: Option<&'a str>,
    cnonce: Option<&'a str>,
    qop: Option<&'a str>,
    nc: Option<&'a str>,
}

impl<'a> Parameters<'a> {
    /// None when one is no parameter, has a quote where none may be, or comes twice.
    fn read(text: &'a str) -> Option<Self> {
        let mut found = Self::default();
        for item in list(text) {
            let (name, value) = item.split_once('=')?;
            let value = between_quotes(value.trim())?;
            let Some(place) = found.place(name.trim()) else { continue };
            if place.replace(value).is_some() {
                return None;
            }
        }
        Some(found)
    }

    fn place(&mut self, name: &str) -> Option<&mut Option<&'a str>> {
        let places = [
            ("username", &mut self.username),
            ("realm", &mut self.realm),
            ("nonce", &mut self.nonce),
            ("uri", &mut self.uri),
            ("response", &mut self.response),
            ("algorithm", &mut self.algorithm),
            ("cnonce", &mut self.cnonce),
            ("qop", &mut self.qop),
            ("nc", &mut self.nc),
        ];
        places.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, place)| place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::digest::{Challenge, Credentials};

    /// The answers of RFC 7616 §3.9.1.
    const MUFASA: &str = "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
        algorithm=MD5, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
        cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, \
        response=\"8ca523f5e9506fed4657c9700eebdbec\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";

    fn judged(value: &str, ha1: &Ha1) -> bool {
        Authorization::parse(value).unwrap().unwrap().is_proof_of(ha1, "GET")
    }

    #[test]
    fn the_examples_of_rfc_7616_are_right() {
        let ha1 = ha1("Mufasa", "http-auth@example.org", "Circle of Life");
        assert!(judged(MUFASA, &ha1));
        let sha256 = MUFASA.replace("=MD5", "=\"sha-256\"").replace(
            "8ca523f5e9506fed4657c9700eebdbec",
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        );
        assert!(judged(&sha256, &ha1));
        assert!(!judged(MUFASA, &super::ha1("Mufasa", "http-auth@example.org", "Circle of life")));
        for (from, to) in [("index", "indeks"), ("nc=00000001", "nc=00000002"), ("f2/w", "f3/w"), ("bdbec", "bdbe")] {
            assert!(!judged(&MUFASA.replace(from, to), &ha1), "{to}");
        }
        assert!(!Authorization::parse(MUFASA).unwrap().unwrap().is_proof_of(&ha1, "PUT"));
    }

    #[test]
    fn sha_512_256_is_that_of_the_erratum() {
        // RFC 7616 §3.9.2 with the response that erratum 4897 gives, since the RFC's own was made with SHA-512 cut short.
        let value = "Digest username=\"J\u{e4}s\u{f8}n Doe\", realm=\"api@example.org\", uri=\"/doe.json\", \
            algorithm=SHA-512-256, nonce=\"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK\", nc=00000001, \
            cnonce=\"NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v\", qop=auth, \
            response=\"3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5\"";
        assert!(judged(value, &ha1("J\u{e4}s\u{f8}n Doe", "api@example.org", "Secret, or not?")));
    }

    #[test]
    fn what_our_client_answers_is_accepted_by_every_algorithm() {
        let credentials = Credentials { user: "101".into(), password: "s3cret".into() };
        for algorithm in [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256] {
            let text = format!("Digest realm=\"r\", nonce=\"n\", qop=\"auth\", algorithm={}", algorithm.name());
            let challenge = Challenge::parse(&text, false).unwrap();
            let (_, value) = challenge.answer(&credentials, "REGISTER", "sip:a", 3, "abc");
            let shown = Authorization::parse(&value).unwrap().unwrap();
            assert_eq!((shown.algorithm, shown.count, shown.username), (algorithm, 3, "101"));
            assert!(shown.is_proof_of(&ha1("101", "r", "s3cret"), "REGISTER"));
            assert!(!shown.is_proof_of(&ha1("101", "r", "other"), "REGISTER"));
        }
    }

    #[test]
    fn what_cannot_be_judged_says_why() {
        assert_eq!(Authorization::parse("Basic Zm9v"), Ok(None));
        assert_eq!(Authorization::parse(""), Ok(None));
        for (from, to) in [
            ("username=\"Mufasa\", ", ""),
            ("nc=00000001", "nc=1"),
            ("nc=00000001", "nc=+0000001"),
            ("cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\"", "cnonce=\"\""),
            ("qop=auth", "qop=auth, nc=00000002"),
            ("qop=auth", "qop=auth, what"),
            ("Mufasa\"", "Muf\"asa\""),
        ] {
            let bad = MUFASA.replace(from, to);
            assert_eq!(Authorization::parse(&bad), Err(AuthorizationFault::Malformed), "{to}");
        }
        for (from, to) in [("=MD5", "=MD5-sess"), ("qop=auth", "qop=auth-int"), (" qop=auth,", "")] {
            let bad = MUFASA.replace(from, to);
            assert_eq!(Authorization::parse(&bad), Err(AuthorizationFault::NotOffered), "{to}");
        }
    }
}
