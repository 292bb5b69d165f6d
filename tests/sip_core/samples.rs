//! Every file of fixtures/sip does what its line in the README says.

use std::net::SocketAddr;
use std::path::PathBuf;

use hookswitch::model::{Now, Transport};
use hookswitch::sip::registrar::{Decision, Policy, RegisterRequest, decide};
use hookswitch::sip::{Contact, Message, Method, Reply, Salt, check, scan};

/// All samples: file name and bytes, in order of name.
pub fn samples() -> Vec<(String, Vec<u8>)> {
    let mut samples: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sip"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    samples.sort();
    samples
}

#[test]
fn each_sample_gets_the_answer_its_readme_names() {
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let rows: Vec<Vec<&str>> = readme
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    let samples = samples();
    for (name, bytes) in &samples {
        let row = rows.iter().find(|row| row[1] == name).unwrap_or_else(|| panic!("{name} is not in the README"));
        assert_eq!(outcome(bytes), row[3], "{name}");
    }
    assert_eq!(rows.len(), samples.len(), "the README names a file that is not there");
}

/// What becomes of a datagram at a registrar, in one line.
fn outcome(bytes: &[u8]) -> String {
    let message = match scan(bytes) {
        Ok(message) => message,
        Err(error) => return format!("dropped: {error}"),
    };
    if let Some(status) = message.status() {
        return format!("response {status}, contacts: {}", contacts(&message));
    }
    let source: SocketAddr = "192.0.2.99:5099".parse().unwrap();
    if let Err(error) = Reply::to(&message, source, &Salt([0; 16])) {
        return format!("silence: {error}");
    }
    if let Err(refusal) = check(&message) {
        return format!("{} {}", refusal.status, refusal.reason);
    }
    if message.method() != Some(Method::Register) {
        let caller = message.from().unwrap();
        let name = caller.display.as_deref().unwrap_or("nobody");
        return format!("{} from {name}, body: {} bytes", message.method().unwrap(), message.body().len());
    }
    let decision = RegisterRequest::parse(&message, source, Transport::Udp)
        .map(|request| (decide(&[], &request, &Policy::default(), Now::default()), request));
    match decision {
        Ok((Decision::Accept { .. } | Decision::Unchanged, request)) => {
            format!("200 for {}@{}, contacts: {}", request.user, request.host, contacts(&message))
        }
        Ok((Decision::Refuse(refusal), _)) | Err(refusal) => format!("{} {}", refusal.status, refusal.reason),
    }
}

fn contacts(message: &Message<'_>) -> String {
    let all: Vec<_> = message
        .contacts()
        .map(|contact| match contact.unwrap() {
            Contact::Star => "*".to_owned(),
            Contact::Address(address) => address.uri.text.to_owned(),
        })
        .collect();
    if all.is_empty() { "none".into() } else { all.join(" ") }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/sip")
}
