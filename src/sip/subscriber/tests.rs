use super::*;
use crate::model::UnixMillis;
use crate::sip::name::Name;

/// A subscriber and the notifier it talks to, on an imagined wire.
struct Scene {
    subscriber: Subscriber,
    now: Now,
    sent: Vec<String>,
    told: Vec<(String, String)>,
    lost: Vec<String>,
    failed: Option<Failure>,
}

fn topic(user: &str) -> Topic {
    Topic { package: Package::Dialog, user: user.into() }
}

impl Scene {
    fn new(users: &[&str], password: Option<&str>) -> Self {
        Self::over(Transport::Udp, users, password)
    }

    fn over(transport: Transport, users: &[&str], password: Option<&str>) -> Self {
        let phone = Phone {
            user: "watcher".into(),
            domain: "pbx.example".into(),
            display: None,
            local: "192.0.2.1:5099".parse().unwrap(),
            transport,
            user_agent: "hookswitch".into(),
        };
        let credentials = password.map(|password| Credentials { user: "watcher".into(), password: password.into() });
        let settings = Settings { credentials, expires_s: 300, refresh_s: 3_600 };
        let now = Now { tick: Tick(1_000_000), unix: UnixMillis(1_700_000_000_000) };
        let mut subscriber = Subscriber::new(phone, settings, [7; 16]);
        subscriber.watch(&users.iter().map(|user| topic(user)).collect(), now);
        let mut scene = Self { subscriber, now, sent: vec![], told: vec![], lost: vec![], failed: None };
        scene.wait(0);
        scene
    }

    fn wait(&mut self, ms: u64) {
        let end = self.now.tick + ms;
        loop {
            self.subscriber.poll(self.now);
            self.drain();
            match self.subscriber.next_deadline().filter(|at| *at <= end) {
                Some(at) => self.now = self.now.after((at - self.now.tick).max(1)),
                None => break,
            }
        }
        self.now = self.now.after(end - self.now.tick);
    }

    /// Waits until something is sent; what, and after how many milliseconds.
    fn next_sent(&mut self) -> (String, u64) {
        let began = self.now.tick;
        while self.sent.is_empty() {
            let at = self.subscriber.next_deadline().unwrap();
            self.wait(at - self.now.tick);
        }
        (self.take(), self.now.tick - began)
    }

    fn drain(&mut self) {
        while let Some(output) = self.subscriber.next_output() {
            match output {
                Output::Send(bytes) => self.sent.push(String::from_utf8(bytes).unwrap()),
                Output::Told { topic, body } => self.told.push((topic.user, String::from_utf8(body).unwrap())),
                Output::Lost { topic, why } => self.lost.push(format!("{}: {why}", topic.user)),
                Output::Failed(failure) => self.failed = Some(failure),
            }
        }
    }

    fn hear(&mut self, text: &str) {
        self.subscriber.receive(text.as_bytes(), "192.0.2.10:5060".parse().unwrap(), self.now);
        self.drain();
    }

    /// The only thing sent since this was last asked.
    fn take(&mut self) -> String {
        assert_eq!(self.sent.len(), 1, "{:#?}", self.sent);
        self.sent.remove(0)
    }

    /// Answers `request` and returns nothing: what follows is in `sent`.
    fn answer(&mut self, request: &str, status: &str, headers: &str) {
        let message = scan(request.as_bytes()).unwrap();
        let text = format!(
            "SIP/2.0 {status}\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=pbx\r\nCall-ID: {}\r\nCSeq: {}\r\n\
             Contact: <sip:192.0.2.10:5060>\r\n{headers}Content-Length: 0\r\n\r\n",
            message.header(Name::Via).unwrap(),
            message.header(Name::From).unwrap(),
            message.header(Name::To).unwrap().split(";tag").next().unwrap(),
            message.call_id().unwrap(),
            message.header(Name::CSeq).unwrap(),
        );
        self.hear(&text);
    }

    /// Notifies in the dialog of `request`; the status line of the answer.
    fn notify(&mut self, request: &str, cseq: u32, state: &str, body: &str) -> String {
        self.notify_as(request, "pbx", cseq, &format!("Event: dialog\r\nSubscription-State: {state}\r\n"), body)
    }

    fn notify_as(&mut self, request: &str, tag: &str, cseq: u32, headers: &str, body: &str) -> String {
        let message = scan(request.as_bytes()).unwrap();
        let text = format!(
            "NOTIFY sip:watcher@192.0.2.1:5099 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKn{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: {};tag={tag}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} NOTIFY\r\n\
             Contact: <sip:pbx@192.0.2.10:5060>\r\n{headers}\
             Content-Type: application/dialog-info+xml\r\nContent-Length: {}\r\n\r\n{body}",
            message.header(Name::To).unwrap().split(";tag").next().unwrap(),
            message.header(Name::From).unwrap(),
            message.call_id().unwrap(),
            body.len(),
        );
        self.hear(&text);
        self.sent.pop().unwrap().lines().next().unwrap().to_owned()
    }

    /// Lets one subscription come up; its first SUBSCRIBE.
    fn comes_up(&mut self) -> String {
        let request = self.take();
        self.answer(&request, "200 OK", "Expires: 300\r\n");
        assert_eq!(self.notify(&request, 1, "active;expires=300", "<first/>"), "SIP/2.0 200 OK");
        assert!(self.subscriber.is_settled());
        request
    }
}

fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn a_subscription_tells_its_state_and_is_refreshed_before_its_time_is_over() {
    let mut scene = Scene::new(&["101"], None);
    let first = scene.comes_up();
    assert!(first.starts_with("SUBSCRIBE sip:101@pbx.example SIP/2.0\r\n"), "{first}");
    assert_eq!(scene.told, [("101".into(), "<first/>".into())]);
    assert_eq!(scene.notify(&first, 2, "active;expires=200", "<second/>"), "SIP/2.0 200 OK");
    let (refresh, after_ms) = scene.next_sent();
    assert_eq!(after_ms, 160_000, "four fifths of what is left");
    assert!(refresh.starts_with("SUBSCRIBE sip:192.0.2.10:5060 SIP/2.0\r\n"), "{refresh}");
    assert_eq!(header(&refresh, "To"), Some("<sip:101@pbx.example>;tag=pbx"));
    assert_eq!(header(&refresh, "Call-ID"), header(&first, "Call-ID"));
    assert_eq!(header(&refresh, "CSeq"), Some("2 SUBSCRIBE"));
    scene.answer(&refresh, "200 OK", "Expires: 300\r\n");
    scene.wait(200_000);
    assert_eq!((scene.sent.len(), &scene.failed), (0, &None));
    let bye = String::from_utf8(scene.subscriber.farewell().remove(0)).unwrap();
    assert_eq!((header(&bye, "Expires"), header(&bye, "CSeq")), (Some("0"), Some("3 SUBSCRIBE")));
}

#[test]
fn a_notification_may_come_before_the_answer() {
    let mut scene = Scene::new(&["101"], None);
    let request = scene.take();
    assert_eq!(scene.notify(&request, 7, "active", "<a/>"), "SIP/2.0 200 OK");
    scene.answer(&request, "200 OK", "Expires: 60\r\n");
    assert!(scene.subscriber.is_settled());
    scene.wait(47_000);
    assert_eq!(scene.sent.len(), 0);
    scene.wait(2_000);
    assert_eq!(header(&scene.sent[0], "CSeq"), Some("2 SUBSCRIBE"));
}

#[test]
fn notifications_are_taken_in_their_order_once_and_only_in_our_dialog() {
    let mut scene = Scene::new(&["101"], None);
    let request = scene.comes_up();
    assert_eq!(scene.notify(&request, 3, "active", "<three/>"), "SIP/2.0 200 OK");
    assert_eq!(scene.notify(&request, 3, "active", "<three/>"), "SIP/2.0 200 OK", "a retransmission");
    assert_eq!(scene.notify(&request, 2, "active", "<two/>"), "SIP/2.0 500 Out Of Order");
    let unknown = "SIP/2.0 481 Subscription Does Not Exist";
    let active = "Event: dialog\r\nSubscription-State: active\r\n";
    assert_eq!(scene.notify_as(&request, "fork", 9, active, "<no/>"), unknown);
    assert_eq!(scene.notify(&request.replace("tag=", "tag=x"), 9, "active", "<no/>"), unknown);
    assert_eq!(scene.notify(&request.replace("Call-ID: ", "Call-ID: x"), 9, "active", "<no/>"), unknown);
    let presence = active.replace("dialog", "presence");
    assert_eq!(scene.notify_as(&request, "pbx", 9, &presence, "<no/>"), "SIP/2.0 489 Bad Event");
    let bodies: Vec<&str> = scene.told.iter().map(|(_, body)| body.as_str()).collect();
    assert_eq!(bodies, ["<first/>", "<three/>"]);
}

#[test]
fn a_password_is_given_when_asked_for_and_from_then_on() {
    let mut scene = Scene::new(&["101"], Some("secret"));
    let first = scene.take();
    assert_eq!(header(&first, "Authorization"), None);
    scene.answer(&first, "401 Unauthorized", "WWW-Authenticate: Digest realm=\"pbx\", nonce=\"n1\", qop=\"auth\"\r\n");
    let second = scene.comes_up();
    assert_eq!(header(&second, "CSeq"), Some("2 SUBSCRIBE"));
    assert_eq!(header(&second, "Call-ID"), header(&first, "Call-ID"));
    let proof = header(&second, "Authorization").unwrap();
    assert!(proof.contains("nonce=\"n1\"") && proof.contains("nc=00000001"), "{proof}");
    let (refresh, _) = scene.next_sent();
    assert!(header(&refresh, "Authorization").unwrap().contains("nc=00000002"), "{refresh}");
    scene.answer(&refresh, "401 Unauthorized", "WWW-Authenticate: Digest realm=\"pbx\", nonce=\"n2\", stale=true\r\n");
    assert!(header(&scene.take(), "Authorization").unwrap().contains("nonce=\"n2\""));
    assert_eq!(scene.failed, None);
}

#[test]
fn a_password_that_was_refused_is_not_tried_again() {
    let asks = "Proxy-Authenticate: Digest realm=\"pbx\", nonce=\"n\"\r\n";
    let mut scene = Scene::new(&["101"], Some("wrong"));
    let first = scene.take();
    scene.answer(&first, "407 Proxy Authentication Required", asks);
    let second = scene.take();
    assert!(header(&second, "Proxy-Authorization").is_some());
    scene.answer(&second, "407 Proxy Authentication Required", asks);
    assert_eq!(scene.sent.len(), 0);
    let Some(Failure::Refused(why)) = &scene.failed else { panic!("{:?}", scene.failed) };
    assert!(why.contains("\"watcher\"") && !why.contains("wrong"), "{why}");
    let mut scene = Scene::new(&["101"], None);
    let first = scene.take();
    scene.answer(&first, "401 Unauthorized", "WWW-Authenticate: Digest realm=\"pbx\", nonce=\"n\"\r\n");
    assert!(matches!(&scene.failed, Some(Failure::Refused(why)) if why.contains("user and secret")));
}

#[test]
fn a_notifier_that_has_forgotten_one_subscription_is_asked_for_all_of_them() {
    let mut scene = Scene::new(&["101", "102"], None);
    for request in std::mem::take(&mut scene.sent) {
        scene.answer(&request, "200 OK", "Expires: 300\r\n");
        scene.notify(&request, 1, "active;expires=300", "<a/>");
    }
    scene.wait(100_000);
    scene.subscriber.refresh_all(scene.now);
    scene.wait(0);
    let refreshes = std::mem::take(&mut scene.sent);
    assert_eq!(refreshes.len(), 2);
    assert!(!scene.subscriber.is_settled());
    scene.answer(&refreshes[0], "481 Subscription Does Not Exist", "");
    let anew = scene.take();
    assert_ne!(header(&anew, "Call-ID"), header(&refreshes[0], "Call-ID"));
    assert!(anew.starts_with("SUBSCRIBE sip:101@pbx.example"), "{anew}");
    assert_eq!(header(&anew, "To"), Some("<sip:101@pbx.example>"));
    scene.answer(&anew, "200 OK", "Expires: 300\r\n");
    scene.notify(&anew, 1, "active;expires=300", "<anew/>");
    assert_eq!(scene.told.last(), Some(&("101".into(), "<anew/>".into())));
    let old = scene.notify(&refreshes[0], 5, "active", "<old/>");
    assert_eq!(old, "SIP/2.0 481 Subscription Does Not Exist", "the dialog of before is over");
}

#[test]
fn one_topic_that_failed_holds_up_no_other() {
    let mut scene = Scene::new(&["101", "102"], None);
    let requests = std::mem::take(&mut scene.sent);
    scene.answer(&requests[0], "404 Not Found", "");
    scene.answer(&requests[1], "200 OK", "Expires: 300\r\n");
    assert!(!scene.subscriber.is_settled());
    scene.notify(&requests[1], 1, "active;expires=300", "<a/>");
    assert!(scene.subscriber.is_settled());
    assert_eq!(scene.subscriber.failed_wholly(), None);
    scene.subscriber.refresh_all(scene.now);
    scene.wait(0);
    assert!(!scene.subscriber.is_settled());
    scene.notify(&requests[1], 2, "active;expires=300", "<b/>");
    assert!(scene.subscriber.is_settled(), "without waiting for the one that rests");
}

#[test]
fn an_interval_too_brief_is_asked_for_longer() {
    let mut scene = Scene::new(&["101"], None);
    let request = scene.take();
    scene.answer(&request, "423 Interval Too Brief", "Min-Expires: 900\r\n");
    let longer = scene.take();
    assert_eq!(header(&longer, "Expires"), Some("900"));
    scene.answer(&longer, "423 Interval Too Brief", "Min-Expires: 900\r\n");
    assert_eq!(scene.lost, ["101: 423 Interval Too Brief"], "no loop");
}

#[test]
fn a_busy_notifier_is_asked_again_when_it_says() {
    let mut scene = Scene::new(&["101"], None);
    let request = scene.take();
    scene.answer(&request, "503 Service Unavailable", "Retry-After: 120 (busy)\r\n");
    assert_eq!(scene.subscriber.failed_wholly(), Some("503 Service Unavailable"));
    let (anew, after_ms) = scene.next_sent();
    assert_eq!(after_ms, 120_000);
    scene.sent.push(anew);
    scene.comes_up();
    assert_eq!(scene.subscriber.failed_wholly(), None);
    let (refresh, _) = scene.next_sent();
    scene.answer(&refresh, "503 Service Unavailable", "Retry-After: 10\r\n");
    assert_eq!(scene.lost.len(), 1, "what it has granted goes on");
    let (again, after_ms) = scene.next_sent();
    assert_eq!((header(&again, "Call-ID"), after_ms), (header(&refresh, "Call-ID"), 10_000));
}

#[test]
fn a_subscription_that_was_ended_is_made_again_as_the_reason_says() {
    for (reason, waits_ms, is_lost) in [
        ("terminated;reason=deactivated", 500, false),
        ("terminated;reason=timeout", 500, false),
        ("terminated", 500, false),
        ("terminated;reason=giveup;retry-after=30", 30_000, true),
        ("terminated;reason=probation", 5_000, true),
        ("terminated;reason=noresource", 60_000, true),
        ("terminated;reason=rejected", 60_000, true),
    ] {
        let mut scene = Scene::new(&["101"], None);
        let request = scene.comes_up();
        assert_eq!(scene.notify(&request, 2, reason, "<last/>"), "SIP/2.0 200 OK");
        assert_eq!(scene.told.last().map(|(_, body)| body.as_str()), Some("<last/>"), "{reason}");
        assert_eq!(scene.lost.len(), usize::from(is_lost), "{reason}");
        scene.wait(waits_ms - 10);
        assert_eq!(scene.sent.len(), 0, "{reason}");
        scene.wait(20);
        assert_ne!(header(&scene.take(), "Call-ID"), header(&request, "Call-ID"), "{reason}");
    }
}

#[test]
fn a_subscription_without_its_first_notification_is_given_up() {
    let mut scene = Scene::new(&["101"], None);
    let request = scene.take();
    scene.answer(&request, "202 Accepted", "Expires: 300\r\n");
    scene.wait(9_900);
    assert_eq!(scene.lost.len(), 0);
    scene.wait(200);
    assert_eq!(scene.lost, ["101: it was accepted, but no NOTIFY came"]);
    scene.wait(5_000);
    assert_eq!(scene.sent.len(), 1);
}

#[test]
fn what_waits_for_permission_tells_nothing() {
    let mut scene = Scene::new(&["101"], None);
    let request = scene.take();
    scene.answer(&request, "202 Accepted", "Expires: 300\r\n");
    scene.notify(&request, 1, "pending;expires=300", "<neutral/>");
    assert_eq!((scene.told.len(), scene.subscriber.is_settled()), (0, true));
    scene.notify(&request, 2, "active", "<real/>");
    assert_eq!(scene.told.len(), 1);
}

#[test]
fn a_silent_notifier_is_asked_again_and_again_and_then_given_up() {
    let mut scene = Scene::new(&["101"], None);
    scene.wait(31_900);
    assert_eq!(scene.sent.len(), 11, "RFC 3261 §17.1.2.2: 500 ms, doubling up to 4 s");
    assert!(scene.sent.windows(2).all(|pair| pair[0] == pair[1]));
    scene.wait(100);
    assert!(matches!(scene.failed, Some(Failure::Silent(_))));
    let mut scene = Scene::over(Transport::Tcp, &["101"], None);
    scene.wait(31_000);
    assert_eq!(scene.sent.len(), 1, "a stream loses nothing");
}

#[test]
fn only_so_many_are_asked_at_once() {
    let users: Vec<String> = (100..140).map(|user| user.to_string()).collect();
    let mut scene = Scene::new(&users.iter().map(String::as_str).collect::<Vec<_>>(), None);
    assert_eq!(scene.sent.len(), IN_FLIGHT_MAX);
    for request in std::mem::take(&mut scene.sent) {
        scene.answer(&request, "404 Not Found", "");
    }
    scene.wait(CROWDED_MS);
    assert_eq!(scene.sent.len(), IN_FLIGHT_MAX);
    assert_eq!(scene.lost.len(), IN_FLIGHT_MAX);
    assert!(!scene.subscriber.is_settled());
}

#[test]
fn a_topic_that_is_no_longer_wanted_is_unsubscribed() {
    let mut scene = Scene::new(&["101"], None);
    scene.comes_up();
    scene.subscriber.watch(&[topic("102")].into(), scene.now);
    scene.wait(0);
    assert_eq!(scene.sent.len(), 2);
    assert_eq!(header(&scene.sent[0], "Expires"), Some("0"));
    assert!(scene.sent[1].starts_with("SUBSCRIBE sip:102@"));
}

#[test]
fn other_requests_get_an_answer_and_garbage_none() {
    let mut scene = Scene::new(&[], None);
    let request = |method: &str| {
        format!(
            "{method} sip:watcher@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKo\r\nFrom: <sip:p@p>;tag=1\r\n\
             To: <sip:w@w>\r\nCall-ID: o\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
        )
    };
    for (method, answer) in [("OPTIONS", "200 OK"), ("INVITE", "405 Method Not Allowed"), ("NOTIFY", "481 Sub")] {
        scene.hear(&request(method));
        let sent = scene.take();
        assert!(sent.starts_with(&format!("SIP/2.0 {answer}")), "{sent}");
    }
    scene.hear("SIP/2.0 200 OK\r\n\r\n");
    scene.hear("\r\n\r\n");
    scene.hear("nonsense");
    assert_eq!(scene.sent.len(), 0);
}
