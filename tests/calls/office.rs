//! Two agents and their queue.

use hookswitch::model::{QueueId, UserId};

use super::site::Site;
use super::world::World;

pub struct Office {
    pub site: Site,
    pub ann: UserId,
    pub bob: UserId,
    pub queue: QueueId,
}

impl Office {
    /// Queue `sales`, which is dialled by this number, with 101 (Ann, who has the queue set) and 102 (Bob, who has not).
    pub fn with_queue(number: &str) -> Self {
        let mut world = World::new();
        let (one, two) = (world.phone("101"), world.phone("102"));
        let (ann, bob) = (world.user(1, &[one]), world.user(2, &[two]));
        let queue = world.queue("sales", number, &[one, two]);
        world.facts(ann).queues.push(queue);
        Self { site: Site::new(world), ann, bob, queue }
    }
}
