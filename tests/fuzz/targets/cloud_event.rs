//! What is posted for a PBX: CloudEvents, and what the switchboard makes of the legs they tell of.

use std::collections::HashMap;

use hookswitch::http::pbx_events::read;
use hookswitch::model::{CallState, Now, OfferId, OfferState, Tick, UnixMillis};
use hookswitch::switchboard::{Effect, Input, Switchboard};
use serde_json::Value;

use super::world::{PBX, SITE, World};

/// An event or a batch, 50 ms between them. What is refused names its place, and once all calls are over, no offer is open.
pub fn run(body: &[u8]) {
    let events = match serde_json::from_slice(body) {
        Ok(Value::Array(events)) => events,
        Ok(event) => vec![event],
        Err(_) => return,
    };
    let mut world = World::new();
    let phones = [world.phone("101"), world.phone("102")];
    let (ann, bob) = (world.user(1, &phones[..1]), world.user(2, &phones[1..]));
    let queue = world.queue("sales", "600", &phones);
    for user in [ann, bob] {
        world.facts(user).queues.push(queue);
    }
    let mut office = Office { world, switchboard: Switchboard::new(SITE), offers: HashMap::new(), now: START };
    for event in events {
        office.now = office.now.after(50);
        match read(event) {
            Ok((source, id, report)) => {
                assert!([source, id].iter().all(|text| (1..=512).contains(&text.len())));
                if let Some(event) = report.on_leg(PBX) {
                    office.tell(&Input::Event(&event));
                }
            }
            Err((pointer, detail)) => assert!(pointer.starts_with('/') && !detail.is_empty(), "{pointer}: {detail}"),
        }
    }
    office.wait_for_the_end();
}

struct Office {
    world: World,
    switchboard: Switchboard,
    offers: HashMap<OfferId, OfferState>,
    now: Now,
}

impl Office {
    fn tell(&mut self, input: &Input<'_>) {
        for effect in self.switchboard.apply(self.now, input, &self.world) {
            match effect {
                Effect::Offer(offer) => drop(self.offers.insert(offer.id, offer.state)),
                Effect::Call(call) => {
                    let is_open = |state: OfferState| matches!(state, OfferState::Offered | OfferState::Answered);
                    let open = call.offers.iter().any(|offer| is_open(offer.state));
                    assert!(call.state != CallState::Ended || !open, "an ended call has open offers");
                }
                _ => {}
            }
        }
    }

    /// A call that nobody tells the end of ends by itself, after a day.
    fn wait_for_the_end(&mut self) {
        let mut steps = 0;
        while let Some(at) = self.switchboard.next_deadline() {
            self.now = self.now.after((at - self.now.tick).max(1));
            self.tell(&Input::Time);
            steps += 1;
            assert!(steps < 100_000, "its deadlines never end");
        }
        assert_eq!(self.switchboard.calls().count(), 0, "a call never ends");
        let open = |state: &&OfferState| matches!(state, OfferState::Offered | OfferState::Answered);
        assert_eq!(self.offers.values().find(open), None, "an offer never ends");
    }
}

const START: Now = Now { tick: Tick(1_000_000), unix: UnixMillis(1_800_000_000_000) };
