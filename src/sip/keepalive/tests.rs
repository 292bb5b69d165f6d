//! Phones on an imagined network with settable time.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const PHONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 8));
const BOUNDS: Bounds = Bounds { per_second: 1_000, under_way_max: 10_000 };
const QUESTION: Question = Question {
    period_ms: 30_000,
    timeout_ms: 4_000,
    misses_max: 3,
    ways: 1,
    is_reliable: false,
    is_proxied: false,
    peer: PHONE,
};

/// A registrar that asks each phone whose turn it is; a question's message is its number.
struct Registrar {
    keepalive: Keepalive<u64>,
    question: Question,
    now: Tick,
    asked: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Asked(Look, Branch),
    Again,
    Missed { is_unreachable: bool, is_over: bool },
}

impl Registrar {
    fn new(bounds: Bounds, question: Question) -> Self {
        Self { keepalive: Keepalive::new(bounds, 7), question, now: Tick(1_000_000), asked: 0 }
    }

    fn device(number: u64) -> DeviceId {
        DeviceId(Uuid::from_u128(u128::from(number) << 64))
    }

    fn register(&mut self, number: u64, contacts: &[u64]) {
        let contacts: Vec<Contact> = contacts.iter().map(|&contact| Contact { contact, is_fresh: true }).collect();
        self.keepalive.registered(Self::device(number), &contacts, self.question.period_ms, None, self.now);
    }

    /// Everything that happens until `end`, with the milliseconds since now.
    fn until(&mut self, end: Tick) -> Vec<(u64, Seen)> {
        let (start, mut seen) = (self.now, Vec::new());
        while self.now <= end {
            while let Some(action) = self.keepalive.poll(self.now) {
                let what = match action {
                    Action::Look(look) => {
                        self.asked += 1;
                        let branch = Branch(self.asked.into());
                        self.keepalive.ask(look.key, self.question, branch, self.asked, self.now);
                        Seen::Asked(look, branch)
                    }
                    Action::Again(..) => Seen::Again,
                    Action::Missed(Miss { is_unreachable, is_over, .. }) => Seen::Missed { is_unreachable, is_over },
                };
                seen.push((self.now - start, what));
            }
            let Some(wake) = self.keepalive.next_wake(self.now) else { break };
            self.now = wake.max(self.now + 1);
        }
        self.now = end;
        seen
    }

    fn pass(&mut self, milliseconds: u64) -> Vec<(u64, Seen)> {
        self.until(self.now + milliseconds)
    }

    /// Lets time pass until the next question is out.
    fn next_question(&mut self) -> Branch {
        loop {
            let wake = self.keepalive.next_wake(self.now).expect("somebody is asked");
            self.now = wake.max(self.now);
            if let Some((_, Seen::Asked(_, branch))) =
                self.until(self.now).into_iter().find(|(_, seen)| matches!(seen, Seen::Asked(..)))
            {
                return branch;
            }
        }
    }

    fn next_miss(&mut self) -> (bool, bool) {
        loop {
            let wake = self.keepalive.next_wake(self.now).expect("somebody is asked");
            self.now = wake.max(self.now);
            for (_, seen) in self.until(self.now) {
                if let Seen::Missed { is_unreachable, is_over } = seen {
                    return (is_unreachable, is_over);
                }
            }
        }
    }
}

fn one_phone(question: Question) -> Registrar {
    let mut registrar = Registrar::new(BOUNDS, question);
    registrar.register(1, &[1]);
    registrar
}

#[test]
fn a_question_is_sent_again_at_doubling_intervals_and_given_up_at_its_time() {
    let mut registrar = one_phone(Question { timeout_ms: 10_000, ..QUESTION });
    registrar.next_question();
    let seen = registrar.pass(11_000);
    let at =
        |what: fn(&Seen) -> bool| seen.iter().filter(|(_, seen)| what(seen)).map(|(at, _)| *at).collect::<Vec<_>>();
    assert_eq!(at(|seen| *seen == Seen::Again), [500, 1_500, 3_500, 7_500]);
    assert_eq!(at(|seen| matches!(seen, Seen::Missed { .. })), [10_000]);
}

#[test]
fn over_a_connection_nothing_is_sent_again() {
    let mut registrar = one_phone(Question { is_reliable: true, ..QUESTION });
    registrar.next_question();
    let seen = registrar.pass(5_000);
    assert_eq!(seen, [(4_000, Seen::Missed { is_unreachable: true, is_over: false })]);
}

#[test]
fn a_provisional_response_slows_the_repetitions_and_is_no_answer() {
    let mut registrar = one_phone(Question { timeout_ms: 20_000, ..QUESTION });
    let branch = registrar.next_question();
    assert_eq!(registrar.keepalive.answered(branch, PHONE, 100), Answer::Provisional);
    let seen = registrar.pass(20_000);
    assert_eq!(seen.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [500, 4_500, 8_500, 12_500, 16_500, 20_000]);
    assert!(matches!(seen.last(), Some((_, Seen::Missed { .. }))), "{seen:?}");
}

#[test]
fn any_final_response_proves_the_phone_alive_and_the_misses_before_it_are_forgotten() {
    for status in [200, 302, 404, 408, 481, 486, 503, 603] {
        let mut registrar = one_phone(QUESTION);
        for _ in 0..10 {
            for _ in 0..2 {
                assert_eq!(registrar.next_miss(), (true, false));
            }
            let branch = registrar.next_question();
            let number = registrar.asked;
            assert_eq!(registrar.keepalive.answered(branch, PHONE, status), Answer::Alive(number));
        }
    }
}

#[test]
fn a_proxy_that_could_not_reach_the_phone_says_that_it_was_missed() {
    let mut registrar = one_phone(Question { is_proxied: true, ..QUESTION });
    for (status, is_over) in [(408, false), (430, false), (503, true)] {
        let branch = registrar.next_question();
        match registrar.keepalive.answered(branch, PHONE, status) {
            Answer::Missed(miss) => assert_eq!(miss.is_over, is_over, "{status}"),
            other => panic!("{status}: {other:?}"),
        }
    }
    registrar.register(1, &[1]);
    let branch = registrar.next_question();
    assert!(matches!(registrar.keepalive.answered(branch, PHONE, 486), Answer::Alive(_)), "the phone's own word");
}

#[test]
fn so_many_misses_in_a_row_end_the_binding_and_a_register_brings_it_back() {
    let mut registrar = one_phone(QUESTION);
    assert_eq!([registrar.next_miss(), registrar.next_miss()], [(true, false), (true, false)]);
    assert_eq!(registrar.next_miss(), (true, true));
    assert!(registrar.keepalive.is_empty());
    assert_eq!(registrar.keepalive.next_wake(registrar.now), None);
    registrar.register(1, &[1]);
    registrar.next_question();
    assert_eq!(registrar.next_miss(), (true, false), "it begins anew");
}

#[test]
fn without_a_number_of_misses_no_binding_ends() {
    let mut registrar = one_phone(Question { misses_max: 0, ..QUESTION });
    for _ in 0..100 {
        assert_eq!(registrar.next_miss(), (true, false));
    }
}

#[test]
fn late_repeated_and_forged_responses_change_nothing() {
    let mut registrar = one_phone(QUESTION);
    let branch = registrar.next_question();
    assert_eq!(registrar.keepalive.answered(branch, OTHER, 200), Answer::Stranger);
    assert_eq!(registrar.keepalive.answered(Branch(99), PHONE, 200), Answer::Unknown);
    assert_eq!(registrar.keepalive.answered(branch, PHONE, 200), Answer::Alive(1));
    assert_eq!(registrar.keepalive.answered(branch, PHONE, 200), Answer::Unknown, "a repetition");
    let branch = registrar.next_question();
    assert_eq!(registrar.next_miss(), (true, false));
    assert_eq!(registrar.keepalive.answered(branch, PHONE, 200), Answer::Unknown, "late");
}

#[test]
fn who_registers_while_a_question_is_under_way_is_not_missed_by_it() {
    let mut registrar = one_phone(Question { misses_max: 1, ..QUESTION });
    registrar.next_question();
    registrar.register(1, &[1]);
    assert_eq!(registrar.pass(5_000).iter().filter(|(_, seen)| matches!(seen, Seen::Missed { .. })).count(), 0);
    assert_eq!(registrar.next_miss(), (true, true), "the next one counts");
}

#[test]
fn a_contact_that_the_phone_gave_up_is_not_asked_any_more() {
    let mut registrar = one_phone(QUESTION);
    let branch = registrar.next_question();
    registrar.register(1, &[2]);
    assert_eq!(registrar.keepalive.len(), 1);
    assert_eq!(registrar.keepalive.answered(branch, PHONE, 200), Answer::Unknown);
    let asked = |seen: &[(u64, Seen)]| -> Vec<u64> {
        let contact = |seen: &Seen| if let Seen::Asked(look, _) = seen { Some(look.key.contact) } else { None };
        let mut contacts: Vec<u64> = seen.iter().filter_map(|(_, seen)| contact(seen)).collect();
        contacts.dedup();
        contacts
    };
    assert_eq!(asked(&registrar.pass(60_000)), [2]);
    registrar.register(1, &[]);
    assert!(registrar.keepalive.is_empty() && asked(&registrar.pass(60_000)).is_empty());
}

#[test]
fn ways_are_tried_in_turn_and_the_one_that_leads_to_the_phone_is_kept() {
    let mut registrar = one_phone(Question { ways: 2, ..QUESTION });
    assert_eq!(registrar.next_miss(), (false, false), "one way of two");
    let mut turns = Vec::new();
    for _ in 0..3 {
        let branch = registrar.next_question();
        assert!(matches!(registrar.keepalive.answered(branch, PHONE, 200), Answer::Alive(_)));
        turns.push(registrar.keepalive.phones.first_key_value().unwrap().1.turn);
    }
    assert_eq!(turns, [1, 1, 1]);
    let misses: Vec<_> = (0..6).map(|_| registrar.next_miss()).collect();
    assert_eq!(misses.iter().filter(|(is_unreachable, _)| *is_unreachable).count(), 5, "{misses:?}");
    assert_eq!(
        misses.iter().map(|(_, is_over)| *is_over).collect::<Vec<_>>(),
        [false, false, false, false, false, true]
    );
}

#[test]
fn who_may_take_longer_to_answer_than_the_period_is_asked_once_at_a_time() {
    let mut registrar = one_phone(Question { period_ms: 1_000, misses_max: 0, ..QUESTION });
    registrar.next_question();
    let seen = registrar.pass(30_000);
    assert!((6..=8).contains(&seen.iter().filter(|(_, seen)| matches!(seen, Seen::Asked(..))).count()), "{seen:?}");
    let began = registrar.now;
    for _ in 0..30 {
        let branch = registrar.next_question();
        registrar.keepalive.answered(branch, PHONE, 200);
    }
    assert!(registrar.now - began <= 35_000, "who answers at once is asked as often as was wanted");
}

#[test]
fn what_could_not_be_sent_is_no_miss() {
    let mut registrar = one_phone(Question { misses_max: 1, ..QUESTION });
    for _ in 0..10 {
        let branch = registrar.next_question();
        registrar.keepalive.withdraw(branch);
        assert_eq!(registrar.pass(4_500).iter().filter(|(_, seen)| !matches!(seen, Seen::Asked(..))).count(), 0);
    }
    assert_eq!(registrar.keepalive.len(), 1);
}

#[test]
fn ten_thousand_phones_are_spread_over_the_period_and_none_is_asked_late() {
    let mut registrar = Registrar::new(Bounds { per_second: 100_000, under_way_max: 100_000 }, QUESTION);
    for number in 0..10_000 {
        registrar.register(number, &[number]);
    }
    let mut last = HashMap::new();
    let mut by_second: BTreeMap<u64, u64> = BTreeMap::new();
    let start = registrar.now;
    for _ in 0..100 {
        let began = registrar.now;
        for (after, seen) in registrar.pass(1_000) {
            let Seen::Asked(look, branch) = seen else { continue };
            assert_eq!(look.late, None);
            let at = began + after;
            let before = last.insert(look.key, at).unwrap_or(start);
            assert!(at - before <= QUESTION.period_ms + 1, "{} ms", at - before);
            *by_second.entry((at - start) / 1_000).or_default() += 1;
            assert!(matches!(registrar.keepalive.answered(branch, PHONE, 200), Answer::Alive(_)));
        }
    }
    assert_eq!(last.len(), 10_000);
    // 333 a second on average; a period that is cut at both ends by chance makes it a few more.
    let most = by_second.values().max().unwrap();
    assert!(*most < 600, "{by_second:?}");
}

#[test]
fn no_more_go_out_than_the_rate_allows_and_each_gets_its_turn() {
    let bounds = Bounds { per_second: 50, under_way_max: 10_000 };
    let question = Question { period_ms: 1_000, timeout_ms: 500, is_reliable: true, misses_max: 0, ..QUESTION };
    let mut registrar = Registrar::new(bounds, question);
    for number in 0..500 {
        registrar.register(number, &[number]);
    }
    let mut asked = HashMap::<Key, u32>::new();
    let mut late = 0;
    for _ in 0..40 {
        let mut in_second = 0;
        for (_, seen) in registrar.pass(1_000) {
            let Seen::Asked(look, _) = seen else { continue };
            in_second += 1;
            *asked.entry(look.key).or_default() += 1;
            late += u32::from(look.late == Some(Limit::Rate));
        }
        assert!(in_second <= 55, "{in_second}");
    }
    assert!(asked.len() == 500 && asked.values().all(|times| (3..=5).contains(times)), "{asked:?}");
    assert!(late > 1_000, "{late}");
}

#[test]
fn no_more_wait_for_an_answer_than_may() {
    let bounds = Bounds { per_second: 1_000_000, under_way_max: 5 };
    let mut registrar = Registrar::new(bounds, Question { period_ms: 1_000, misses_max: 0, ..QUESTION });
    for number in 0..50 {
        registrar.register(number, &[number]);
    }
    let mut late = 0;
    for _ in 0..60 {
        let seen = registrar.pass(1_000);
        late += seen.iter().filter(|(_, seen)| matches!(seen, Seen::Asked(look, _) if look.late.is_some())).count();
        assert!(registrar.keepalive.asked.len() <= 5);
    }
    assert!(late > 0);
}

proptest! {
    #[test]
    fn whatever_happens_each_contact_has_one_turn_and_nothing_is_left_behind(
        steps in prop::collection::vec((0_u8..6, 0_u64..4, 0_u64..3, 0_u64..5_000), 1..200),
    ) {
        let mut registrar = Registrar::new(BOUNDS, Question { period_ms: 3_000, ways: 2, ..QUESTION });
        for (what, device, contact, wait) in steps {
            let branch = Branch(registrar.asked.saturating_sub(contact).into());
            match what {
                0 => registrar.register(device, &[contact]),
                1 => registrar.register(device, &[contact, contact + 1]),
                2 => registrar.register(device, &[]),
                3 => { registrar.keepalive.answered(branch, PHONE, 100 + u16::try_from(device).unwrap() * 100); }
                4 => registrar.keepalive.withdraw(branch),
                _ => { registrar.pass(wait); }
            }
            let keepalive = &registrar.keepalive;
            let due: BTreeSet<(Tick, Key)> =
                keepalive.phones.iter().map(|(key, phone)| (phone.due.expect("looked at only within poll"), *key)).collect();
            prop_assert_eq!(&keepalive.due, &due);
            let timers: BTreeSet<(Tick, Branch)> =
                keepalive.asked.iter().map(|(branch, asked)| (asked.timer, *branch)).collect();
            prop_assert_eq!(&keepalive.timers, &timers);
            let asked: BTreeSet<(Branch, Key)> =
                keepalive.phones.iter().filter_map(|(key, phone)| Some((phone.asked?, *key))).collect();
            let waiting = keepalive.asked.iter().map(|(branch, asked)| (*branch, asked.key)).collect();
            prop_assert_eq!(asked, waiting);
        }
        for device in 0..4 {
            registrar.register(device, &[]);
        }
        registrar.pass(10_000);
        prop_assert!(registrar.keepalive.asked.is_empty() && registrar.keepalive.timers.is_empty());
    }
}
