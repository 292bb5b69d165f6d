//! Digest authentication, by what phones and those who would like to be some see of it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hookswitch::sip::digest::{Challenge, Credentials};
use hookswitch::sip::scan;
use reqwest::Method;
use serde_json::json;

use crate::registration;
use crate::support::api::text;
use crate::support::baresip;
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::phone::{Phone, status};
use crate::support::process::Process;
use crate::support::tls::Certificate;
use crate::support::wait::until;

/// A daemon with a listener that asks everybody for a password.
async fn guarded(folder: &Folder, more: &str) -> (Daemon, SocketAddr) {
    let listener = "[listeners.guarded]\nmode = \"registrar\"\nauth = \"digest\"\nbind = [\"udp:127.0.0.1:0\"]\n";
    let daemon = Daemon::start_with(folder, &format!("{listener}{more}")).await;
    let registrar = daemon.listening("guarded", "udp");
    (daemon, registrar)
}

/// Makes a device, with a password unless that is empty.
pub async fn provide(daemon: &Daemon, user: &str, password: &str) {
    let api = daemon.api();
    let pbx = api.get("/v1/pbxs").await["items"][0]["id"].clone();
    let device = api.post("/v1/devices", json!({ "pbx": pbx, "user": user })).await;
    if !password.is_empty() {
        set_password(daemon, &text(&device["id"]), password).await;
    }
}

async fn set_password(daemon: &Daemon, device: &str, password: &str) {
    let path = format!("/v1/devices/{device}/secret");
    let (status, answer) = daemon.api().send(Method::PUT, &path, Some(json!({ "password": password }))).await;
    assert!(status.is_success(), "{status} {answer}");
}

/// `request` with the credentials that `challenged` asks for.
fn proved(challenged: &str, request: &str, user: &str, password: &str, count: u32) -> String {
    let challenge = Challenge::strongest(&scan(challenged.as_bytes()).unwrap()).expect("it is a challenge");
    let credentials = Credentials { user: user.to_owned(), password: password.to_owned() };
    let uri = request.split(' ').nth(1).unwrap();
    let (name, value) = challenge.answer(&credentials, "REGISTER", uri, count, "0a4f113b");
    request.replacen("Content-Length", &format!("{name}: {value}\r\nContent-Length"), 1)
}

/// Registers as a phone does: asks, and proves what it is asked for. The challenge and the answer.
pub async fn sign_in(phone: &Phone, registrar: SocketAddr, user: &str, password: &str, cseq: u32) -> (String, String) {
    let challenged = phone.ask(registrar, &phone.register(user, cseq, 600)).await;
    if !status(&challenged).contains("401") {
        return (String::new(), challenged);
    }
    let request = proved(&challenged, &phone.register(user, cseq + 1, 600), user, password, 1);
    let answer = phone.ask(registrar, &request).await;
    (challenged, answer)
}

async fn refusals(daemon: &Daemon, reason: &str) -> f64 {
    daemon.metric("hookswitch_registrar_refusals_total", &format!("reason=\"{reason}\"")).await
}

#[tokio::test]
async fn a_phone_proves_its_password_once_and_goes_on_with_its_nonce() {
    let folder = Folder::new("digest");
    let (daemon, registrar) = guarded(&folder, "").await;
    provide(&daemon, "101", "s3cret").await;
    let phone = Phone::near(registrar).await;
    let (challenged, answer) = sign_in(&phone, registrar, "101", "s3cret", 1).await;
    assert_eq!(status(&challenged), "SIP/2.0 401 Unauthorized");
    assert_eq!(challenged.matches("WWW-Authenticate: Digest realm=\"hookswitch\"").count(), 1, "{challenged}");
    assert!(challenged.contains(", algorithm=MD5, qop=\"auth\"\r\n"), "{challenged}");
    assert!(status(&answer).contains("200") && answer.contains(&format!("<sip:101@{}>", phone.local)), "{answer}");
    for count in 2..5 {
        let refresh = proved(&challenged, &phone.register("101", count + 1, 600), "101", "s3cret", count);
        assert_eq!(status(&phone.ask(registrar, &refresh).await), "SIP/2.0 200 OK");
        assert_eq!(status(&phone.ask(registrar, &refresh).await), "SIP/2.0 200 OK", "a retransmission");
    }
    assert_eq!(daemon.api().device("101", "connected").await["bindings"], 1);
    assert!((refusals(&daemon, "no_credentials").await - 1.0).abs() < f64::EPSILON, "asked once");
}

#[tokio::test]
async fn what_was_overheard_is_of_no_use() {
    let folder = Folder::new("digest");
    let (daemon, registrar) = guarded(&folder, "").await;
    provide(&daemon, "101", "s3cret").await;
    let (phone, thief) = (Phone::near(registrar).await, Phone::near(registrar).await);
    let challenged = phone.ask(registrar, &phone.register("101", 1, 600)).await;
    let heard = proved(&challenged, &phone.register("101", 2, 600), "101", "s3cret", 1);
    assert!(status(&phone.ask(registrar, &heard).await).contains("200"));
    let elsewhere = heard.replace(&format!("Contact: <sip:101@{}>", phone.local), "Contact: <sip:101@203.0.113.9>");
    for replay in [&elsewhere, &elsewhere.replace("CSeq: 2", "CSeq: 3"), &heard] {
        let answer = thief.ask(registrar, replay).await;
        assert!(status(&answer).contains("401") && answer.contains("stale=true"), "{answer}");
        assert!(!answer.contains("Contact"), "{answer}");
    }
    let counted = elsewhere.replace("nc=00000001", "nc=00000002");
    let answer = thief.ask(registrar, &counted).await;
    assert!(status(&answer).contains("401") && !answer.contains("stale"), "{answer}");
    let query = proved(&challenged, &phone.request("REGISTER", "101", 5, ""), "101", "s3cret", 2);
    let contacts = phone.ask(registrar, &query).await;
    assert!(contacts.contains(&phone.local.to_string()) && !contacts.contains("203.0.113.9"), "{contacts}");
    assert!(refusals(&daemon, "stale_nonce").await >= 3.0 && refusals(&daemon, "wrong_password").await >= 1.0);
}

/// That they get it after the same work is a test beside the code (`src/ingest/sip/auth.rs`), which can count it.
#[tokio::test]
async fn unknown_names_and_wrong_passwords_get_the_same_answer() {
    let folder = Folder::new("digest");
    let (daemon, registrar) = guarded(&folder, "").await;
    provide(&daemon, "101", "s3cret").await;
    provide(&daemon, "102", "").await;
    let phone = Phone::near(registrar).await;
    let same = |answer: &str, user: &str| {
        // Ports and what is opaque may hold the same digits by chance.
        let unnamed = |part: &str| {
            let is_named = part.contains('@') || part.contains("REGISTER");
            if is_named { part.replace(user, "USER") } else { part.to_owned() }
        };
        let without = |line: &str| {
            let parts = line.split([' ', ';']).filter(|part| !part.starts_with("nonce=") && !part.starts_with("tag="));
            parts.map(unnamed).collect::<Vec<_>>()
        };
        answer.lines().map(without).collect::<Vec<_>>()
    };
    let mut answers = Vec::new();
    for user in ["101", "102", "999"] {
        let challenged = phone.ask(registrar, &phone.register(user, 1, 600)).await;
        let request = proved(&challenged, &phone.register(user, 2, 600), user, "wrong", 1);
        let answer = phone.ask(registrar, &request).await;
        assert!(status(&answer).contains("401") && !answer.contains("stale"), "{answer}");
        answers.push((same(&challenged, user), same(&answer, user)));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:#?}");
    assert!(daemon.api().find_device("999").await.is_none(), "nothing appears by itself");
    assert!((refusals(&daemon, "wrong_password").await - 1.0).abs() < f64::EPSILON);
    assert!((refusals(&daemon, "no_secret").await - 2.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_phone_binds_its_own_address_only() {
    let folder = Folder::new("digest");
    let (daemon, registrar) = guarded(&folder, "").await;
    provide(&daemon, "101", "s3cret").await;
    provide(&daemon, "102", "another").await;
    let phone = Phone::near(registrar).await;
    let challenged = phone.ask(registrar, &phone.register("102", 1, 600)).await;
    let request = proved(&challenged, &phone.register("102", 2, 600), "101", "s3cret", 1);
    assert_eq!(status(&phone.ask(registrar, &request).await), "SIP/2.0 403 Not Your Address");
    assert!((refusals(&daemon, "not_own_aor").await - 1.0).abs() < f64::EPSILON);
    daemon.api().device("102", "disconnected").await;
}

/// RFC 3261 §10.2: From says who registers, and it is that one's password that is asked for.
#[tokio::test]
async fn who_registers_another_needs_permission_and_proves_their_own_password() {
    let folder = Folder::new("digest");
    let (daemon, registrar) = guarded(&folder, "").await;
    provide(&daemon, "101", "s3cret").await;
    provide(&daemon, "desk", "desk's own").await;
    let phone = Phone::near(registrar).await;
    let from_desk = |cseq| phone.register("101", cseq, 600).replace("From: <sip:101@", "From: <sip:desk@");
    let refused = phone.ask(registrar, &from_desk(1)).await;
    assert_eq!(status(&refused), "SIP/2.0 403 May Not Register Others");
    // Nor with a right password, of whichever of the two.
    let challenged = phone.ask(registrar, &phone.register("101", 2, 600)).await;
    for (user, password) in [("desk", "desk's own"), ("101", "s3cret")] {
        let request = proved(&challenged, &from_desk(3), user, password, 1);
        assert_eq!(status(&phone.ask(registrar, &request).await), "SIP/2.0 403 May Not Register Others", "{user}");
    }
    daemon.api().device("101", "disconnected").await;
    registration::set(&daemon, json!({ "third_parties": ["desk"] })).await;
    let challenged = phone.ask(registrar, &from_desk(4)).await;
    assert_eq!(status(&challenged), "SIP/2.0 401 Unauthorized");
    for (user, password, expected) in [
        ("desk", "a guess", "401 Unauthorized"),
        ("101", "s3cret", "403 Not Your Address"),
        ("desk", "desk's own", "200 OK"),
    ] {
        let challenged = phone.ask(registrar, &from_desk(5)).await;
        let answer = phone.ask(registrar, &proved(&challenged, &from_desk(6), user, password, 1)).await;
        assert_eq!(status(&answer), format!("SIP/2.0 {expected}"), "{user}");
    }
    assert_eq!(daemon.api().device("101", "connected").await["bindings"], 1);
    daemon.api().device("desk", "disconnected").await;
}

#[tokio::test]
async fn several_algorithms_are_offered_strongest_first_and_each_is_taken() {
    let folder = Folder::new("digest");
    let more = "[registrar]\nrealm = \"office.example\"\ndigest_algorithms = [\"MD5\", \"SHA-512-256\", \"SHA-256\"]\n";
    let (daemon, registrar) = guarded(&folder, more).await;
    provide(&daemon, "101", "s3cret").await;
    let names = ["SHA-512-256", "SHA-256", "MD5"];
    for (at, name) in names.into_iter().enumerate() {
        let phone = Phone::near(registrar).await;
        let challenged = phone.ask(registrar, &phone.register("101", 1, 600)).await;
        let offered: Vec<&str> = challenged.lines().filter(|line| line.starts_with("WWW-Authenticate")).collect();
        assert_eq!(offered.len(), 3);
        assert!(
            offered.iter().zip(names).all(|(line, name)| line.contains(&format!("algorithm={name},"))),
            "{offered:?}"
        );
        let one = format!("SIP/2.0 401 Unauthorized\r\n{}\r\n\r\n", offered[at]);
        let request = proved(&one, &phone.register("101", 2, 600).replace("101@phone", name), "101", "s3cret", 1);
        assert!(request.contains(&format!("algorithm={name}")));
        assert_eq!(status(&phone.ask(registrar, &request).await), "SIP/2.0 200 OK", "{name}");
    }
}

#[tokio::test]
async fn who_has_a_password_is_asked_for_it_everywhere_and_the_others_only_where_all_are() {
    let folder = Folder::new("digest");
    let (daemon, guarded) = guarded(&folder, "").await;
    let open = daemon.registrar;
    let phone = Phone::near(open).await;
    assert!(status(&phone.ask(open, &phone.register("101", 1, 600)).await).contains("200"));
    assert!(status(&phone.ask(guarded, &phone.register("101", 2, 600)).await).contains("401"));
    let device = text(&daemon.api().device("101", "connected").await["id"]);
    set_password(&daemon, &device, "s3cret").await;
    let (challenged, answer) = sign_in(&phone, open, "101", "s3cret", 3).await;
    assert!(status(&challenged).contains("401") && status(&answer).contains("200"), "{answer}");
    assert!(status(&sign_in(&phone, guarded, "101", "s3cret", 5).await.1).contains("200"));
}

#[tokio::test]
async fn credentials_that_cannot_be_judged_are_named_or_asked_for_anew() {
    let folder = Folder::new("digest");
    let (daemon, registrar) = guarded(&folder, "").await;
    provide(&daemon, "101", "s3cret").await;
    let phone = Phone::near(registrar).await;
    let challenged = phone.ask(registrar, &phone.register("101", 1, 600)).await;
    let good = proved(&challenged, &phone.register("101", 2, 600), "101", "s3cret", 1);
    for (from, to, expected) in [
        ("nc=00000001", "nc=1", "400 Bad Authorization Header"),
        ("cnonce=", "what=", "400 Bad Authorization Header"),
        ("uri=\"sip:101@pbx.example\"", "uri=\"sip:other.example\"", "401 Unauthorized"),
        ("algorithm=MD5", "algorithm=SHA-256", "401 Unauthorized"),
        ("qop=auth,", "", "401 Unauthorized"),
        ("realm=\"hookswitch\"", "realm=\"asterisk\"", "401 Unauthorized"),
        ("Authorization: Digest", "Authorization: Basic", "401 Unauthorized"),
    ] {
        assert!(good.contains(from), "{from}");
        let answer = phone.ask(registrar, &good.replace(from, to)).await;
        assert_eq!(status(&answer), format!("SIP/2.0 {expected}"), "{to}");
    }
    assert_eq!(status(&phone.ask(registrar, &good).await), "SIP/2.0 200 OK", "none of it used the nonce up");
}

#[tokio::test]
async fn a_password_outlives_a_restart_and_nonces_do_not() {
    let folder = Folder::new("digest");
    let mut daemon = Daemon::start(&folder).await;
    provide(&daemon, "101", "s3cret").await;
    let phone = Phone::near(daemon.registrar).await;
    let (challenged, answer) = sign_in(&phone, daemon.registrar, "101", "s3cret", 1).await;
    assert!(status(&answer).contains("200"), "{answer}");
    // No farewell: what was answered is all there.
    daemon.kill();
    daemon.start_again().await;
    let registrar = daemon.registrar;
    let refresh = proved(&challenged, &phone.register("101", 3, 600), "101", "s3cret", 2);
    let stale = phone.ask(registrar, &refresh).await;
    assert!(status(&stale).contains("401") && stale.contains("stale=true"), "{stale}");
    let again = proved(&stale, &phone.register("101", 4, 600), "101", "s3cret", 1);
    assert_eq!(status(&phone.ask(registrar, &again).await), "SIP/2.0 200 OK");
    let wrong = sign_in(&phone, registrar, "101", "other", 5).await.1;
    assert!(status(&wrong).contains("401"), "{wrong}");
}

#[tokio::test]
async fn who_guesses_is_slowed_down_and_learns_nothing_while_the_office_goes_on() {
    let folder = Folder::new("digest");
    let (daemon, registrar) = guarded(&folder, "").await;
    provide(&daemon, "101", "s3cret").await;
    provide(&daemon, "102", "another").await;
    let thief = Phone::near(registrar).await;
    let mut answers = Vec::new();
    for guess in 0..8_u32 {
        answers.push(sign_in(&thief, registrar, "101", &format!("guess{guess}"), 1 + 2 * guess).await.1);
    }
    assert!(answers[..4].iter().all(|answer| status(answer).contains("401")), "{answers:#?}");
    let last = answers.last().unwrap();
    assert!(status(last).contains("503 Too Many Attempts") && last.contains("Retry-After: 60"), "{last}");
    let right = sign_in(&thief, registrar, "101", "s3cret", 90).await.1;
    assert!(status(&right).contains("503"), "the right one tells no more: {right}");
    assert!(status(&sign_in(&thief, registrar, "102", "another", 1).await.1).contains("200"), "of the same office");
    assert!(refusals(&daemon, "attempts_aor").await >= 4.0);
    let log = daemon.output();
    let named: Vec<&str> = log.lines().filter(|line| line.contains("too many attempts")).collect();
    assert!(named.iter().all(|line| line.contains("127.0.0.1")), "{named:?}");
    assert!((1..4).contains(&named.len()), "the log names them, and not at each try: {named:?}");
}

#[tokio::test]
async fn five_hundred_phones_behind_one_address_come_back_at_once() {
    let folder = Folder::new("digest");
    let (daemon, registrar) = guarded(&folder, "").await;
    let users: Vec<String> = (0..500).map(|n| (1_000 + n).to_string()).collect();
    for some in users.chunks(50) {
        futures_util::future::join_all(some.iter().map(|user| provide(&daemon, user, "s3cret"))).await;
    }
    let phones = futures_util::future::join_all(users.iter().map(|_| Phone::near(registrar))).await;
    // All of them ask before any of them answers, twice: as after two power cuts.
    for wave in 0..2 {
        let cseq = 1 + 2 * wave;
        for (phone, user) in phones.iter().zip(&users) {
            phone.tell(registrar, &phone.register(user, cseq, 600)).await;
        }
        let mut challenges = Vec::new();
        for (phone, user) in phones.iter().zip(&users) {
            let challenged = phone.hear_for(Duration::from_secs(10)).await.expect("each is answered");
            challenges.push(proved(&challenged, &phone.register(user, cseq + 1, 600), user, "s3cret", 1));
        }
        for (phone, request) in phones.iter().zip(&challenges) {
            phone.tell(registrar, request).await;
        }
        for phone in &phones {
            let answer = phone.hear_for(Duration::from_secs(10)).await.expect("each is answered");
            assert_eq!(status(&answer), "SIP/2.0 200 OK", "{answer}");
        }
    }
    assert!(refusals(&daemon, "attempts").await < 1.0);
}

#[tokio::test]
async fn baresip_registers_and_refreshes_with_its_password_over_udp_tcp_and_tls() {
    let folder = Folder::new("digest");
    let certificate = Certificate::make(&folder);
    let listener = format!(
        "[listeners.guarded]\nmode = \"registrar\"\nauth = \"digest\"\n\
         bind = [\"udp:127.0.0.1:0\", \"tcp:127.0.0.1:0\", \"tls:127.0.0.1:0\"]\n{}[registrar]\nexpires_min_s = 2\n",
        certificate.settings()
    );
    let daemon = Daemon::start_with(&folder, &listener).await;
    for (extension, transport) in [("101", "udp"), ("102", "tcp"), ("103", "tls")] {
        provide(&daemon, extension, &format!("pw{extension}")).await;
        let proxy = daemon.listening("guarded", transport);
        let account = baresip::Account { extension, domain: "pbx.example", proxy, transport, expires_s: 3 };
        let mut phone = baresip::Phone::start(&folder, account).await;
        let device = daemon.api().device(extension, "connected").await;
        let bindings = daemon.api().get(&format!("/v1/devices/{}/bindings", text(&device["id"]))).await;
        assert!(bindings.to_string().contains(&format!("\"transport\":\"{transport}\"")), "{bindings:#}");
        let ok = async || daemon.metric("hookswitch_sip_messages_total", "method=\"REGISTER\",outcome=\"200\"").await;
        let before = ok().await;
        until("it refreshes twice", async || (ok().await >= before + 2.0).then_some(())).await;
        phone.switch_off();
        daemon.api().device(extension, "disconnected").await;
    }
    assert!(refusals(&daemon, "no_credentials").await >= 3.0, "each was asked");
    assert!(refusals(&daemon, "wrong_password").await < 1.0);
}

#[tokio::test]
async fn sipvicious_learns_no_name_and_no_password() {
    let folder = Folder::new("digest");
    let (daemon, registrar) = guarded(&folder, "").await;
    provide(&daemon, "150", "1055").await;
    // Names: it sends REGISTER for each of them and looks who is answered differently.
    for extensions in ["-e150-159", "-e100-999"] {
        let found = sipvicious(&folder, "svwar", &["--force", extensions], registrar).await;
        assert!(found.contains("found nothing"), "{found}");
    }
    // Passwords: the right one is the 56th it would try; with the same nonce again and again, and with a new one each time.
    for more in [&["-u150", "-r1000-1099"][..], &["-u150", "-n", "-r1000-1099"]] {
        let found = sipvicious(&folder, "svcrack", more, registrar).await;
        assert!(found.contains("found nothing"), "{found}");
    }
    daemon.api().device("150", "disconnected").await;
    assert!(refusals(&daemon, "attempts_aor").await >= 1.0);
    assert!(refusals(&daemon, "wrong_password").await <= 10.0, "that many guesses, however many it had");
    let phone = Phone::near(registrar).await;
    assert!(status(&phone.ask(registrar, &phone.register("151", 1, 600)).await).contains("401"), "others go on");
}

/// Runs a tool of sipvicious to its end; what it printed.
async fn sipvicious(folder: &Folder, tool: &str, arguments: &[&str], target: SocketAddr) -> String {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("../sipvicious/bin/sipvicious_{tool}"));
    let mut command = Command::new(program);
    command.current_dir(folder.path()).args(["-b", "127.0.0.1", "-x", "127.0.0.1", "--maximumtime=5"]).args(arguments);
    command.arg(format!("udp://{target}"));
    let log = folder.join(format!("{tool}-{}.log", arguments.join("")));
    let mut process = Process::start(tool, &mut command, &log);
    until(&format!("{tool} ends"), async || process.ended()).await;
    process.output()
}
