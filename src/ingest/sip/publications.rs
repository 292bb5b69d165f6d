//! What PBXs publish (RFC 3903): dialog and registration states, the same bodies as subscriptions bring. Each publication
//! has a tag by which it is refreshed, changed and removed, and ends by itself when it is not.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ingest::subscribe::contacts;
use crate::ingest::subscribe::dialog_info::DialogInfo;
use crate::ingest::subscribe::dialogs::{Dialogs, Resource};
use crate::ingest::subscribe::reginfo::RegInfo;
use crate::ingest::subscribe::xml::XmlError;
use crate::model::{FeedKind, LegEnd, LegEvent, LegKey, LegState, Now, PbxEvent, PbxId, Tick};
use crate::sip::subscriber::Package;
use crate::sip::{Message, Name, Refusal, Response, Uri};

use super::front::{Core, Request};

/// All publications of all listeners.
pub(super) struct Publications {
    table: Mutex<Table>,
    tags: RandomState,
}

#[derive(Default)]
struct Table {
    by_tag: HashMap<String, Publication>,
    due: BTreeSet<(Tick, String)>,
    /// What was published of dialogs, by PBX.
    dialogs: HashMap<PbxId, Dialogs>,
    /// When legs from before the start that nobody has published again are given up; none once it is done.
    orphans: Option<Orphans>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Orphans {
    /// It was not looked yet.
    Unseen,
    /// They are given up then.
    GivenUpAt(Tick),
}

struct Publication {
    pbx: PbxId,
    /// None = an event that we don't read.
    package: Option<Package>,
    expires_at: Tick,
}

impl Publications {
    pub(super) fn new() -> Self {
        let table = Table { orphans: Some(Orphans::Unseen), ..Table::default() };
        Self { table: Mutex::new(table), tags: RandomState::new() }
    }

    /// Takes a PUBLISH in (RFC 3903 §6). A refresh keeps its tag, and so does a retransmission.
    ///
    /// # Errors
    /// 412 for a tag that is not known (any more), 400 for a body that can't be read.
    pub(super) fn accept(&self, core: &Core, request: &Request<'_, '_>) -> Result<Response, Refusal> {
        let (message, pbx, now) = (request.message, request.pbx, request.now);
        let package = package(message);
        let mut table = self.table();
        let tag = match message.named("SIP-If-Match").next() {
            Some(tag) => {
                let known = table.by_tag.get(tag.trim());
                let same = known.filter(|known| known.pbx == pbx && known.expires_at > now.tick);
                if same.is_none_or(|known| known.package != package) {
                    return Err(Refusal::new(412, "Conditional Request Failed", "publication"));
                }
                tag.trim().to_owned()
            }
            None => format!("{:016x}", self.tags.hash_one((pbx, message.call_id(), message.header(Name::CSeq)))),
        };
        let asked = message.header(Name::Expires).and_then(|value| value.trim().parse::<u32>().ok());
        let expires_s = asked.unwrap_or(EXPIRES_DEFAULT_S).min(EXPIRES_S_MAX);
        let mut events = Vec::new();
        if !message.body().is_empty() {
            table.apply(core, &tag, package, message, (pbx, now), &mut events).map_err(|error| {
                super::front::dropped(error.label());
                Refusal::new(400, "Bad Body", error.label())
            })?;
        }
        table.forget(&tag);
        if expires_s == 0 {
            table.lose(&tag, pbx, "publication removed", &mut events);
        } else {
            table.keep(
                tag.clone(),
                Publication { pbx, package, expires_at: now.tick + u64::from(expires_s) * 1000 },
                &mut events,
            );
        }
        drop(table);
        tell(core, events, now);
        let response = request.reply.status(200, "OK").header("SIP-ETag", &tag);
        Ok(response.header("Expires", &expires_s.to_string()))
    }

    /// Ends what nobody has refreshed.
    pub(super) fn expire(&self, core: &Core, now: Now) {
        let mut events = Vec::new();
        let mut table = self.table();
        while let Some((_, tag)) = table.due.first().filter(|(at, _)| *at <= now.tick).cloned() {
            if let Some(publication) = table.forget(&tag) {
                table.lose(&tag, publication.pbx, "publication expired", &mut events);
            }
        }
        match table.orphans {
            None => {}
            Some(Orphans::Unseen) => table.orphans = Some(Orphans::GivenUpAt(now.tick + ORPHANS_MS)),
            Some(Orphans::GivenUpAt(at)) if now.tick < at => {}
            Some(Orphans::GivenUpAt(_)) => {
                table.orphans = None;
                table.give_up_orphans(core, &mut events);
            }
        }
        drop(table);
        tell(core, events, now);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn apply(
        &mut self,
        core: &Core,
        tag: &str,
        package: Option<Package>,
        message: &Message<'_>,
        (pbx, now): (PbxId, Now),
        events: &mut Vec<PbxEvent>,
    ) -> Result<(), XmlError> {
        match package {
            None => {}
            Some(Package::Reg) => {
                // One address-of-record of many is what is published, whatever the document says of itself.
                let info = RegInfo::parse(message.body())?;
                if contacts::report(&core.registry, pbx, &info, now) > 0 {
                    super::front::dropped("unknown_domain");
                }
            }
            Some(Package::Dialog) => {
                let info = DialogInfo::parse(message.body())?;
                let entity =
                    Uri::parse(&info.entity).or_else(|_| Uri::parse(message.request_uri().unwrap_or_default()));
                let key = entity.map(|uri| uri.key()).unwrap_or_default();
                let resource = Resource { user: &key.user, domain: Some(&*key.host).filter(|host| !host.is_empty()) };
                let live = || core.registry.live.all().into_iter().flat_map(|call| call.legs.clone());
                let dialogs = self.dialogs.entry(pbx).or_insert_with(|| Dialogs::new(pbx, LEG_PREFIX, live()));
                if !dialogs.take_in(tag, resource, &info, now, events) {
                    super::front::dropped("published_dialogs");
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, tag: String, publication: Publication, events: &mut Vec<PbxEvent>) {
        if self.by_tag.len() >= PUBLICATIONS_MAX {
            // Whoever published it is told 412 and publishes it anew.
            if let Some((_, oldest)) = self.due.first().cloned()
                && let Some(gone) = self.forget(&oldest)
            {
                super::front::dropped("publications");
                self.lose(&oldest, gone.pbx, "too many publications", events);
            }
        }
        self.due.insert((publication.expires_at, tag.clone()));
        self.by_tag.insert(tag, publication);
    }

    fn forget(&mut self, tag: &str) -> Option<Publication> {
        let publication = self.by_tag.remove(tag)?;
        self.due.remove(&(publication.expires_at, tag.to_owned()));
        Some(publication)
    }

    /// Ends legs of a process before this one that no publication has taken up.
    fn give_up_orphans(&self, core: &Core, events: &mut Vec<PbxEvent>) {
        let known: HashSet<LegKey> = self.dialogs.values().flat_map(Dialogs::live).collect();
        for leg in core.registry.live.all().iter().flat_map(|call| &call.legs) {
            let is_ours = leg.key.0.starts_with(&format!("{LEG_PREFIX}:{}:", leg.pbx));
            if is_ours && leg.state != LegState::Ended && !known.contains(&leg.key) {
                let event = LegEvent::Ended(LegEnd::Lost);
                let evidence = "not published again".to_owned();
                events.push(PbxEvent {
                    pbx: leg.pbx,
                    feed: FeedKind::Subscription,
                    leg: leg.key.clone(),
                    event,
                    evidence,
                });
            }
        }
    }

    fn lose(&mut self, tag: &str, pbx: PbxId, why: &str, events: &mut Vec<PbxEvent>) {
        if let Some(dialogs) = self.dialogs.get_mut(&pbx) {
            dialogs.lose(tag, why, events);
        }
    }
}

fn tell(core: &Core, events: Vec<PbxEvent>, now: Now) {
    for event in events {
        // A site that is behind has lost it, counted; what it is about ends with its publication at the latest.
        let _ = core.sites.tell(event, now);
    }
}

fn package(message: &Message<'_>) -> Option<Package> {
    let event = message.header(Name::Event)?.split(';').next()?.trim();
    [Package::Dialog, Package::Reg].into_iter().find(|package| package.event().eq_ignore_ascii_case(event))
}

/// Keys of legs by publication begin with it; subscriptions of the same PBX look after their own.
const LEG_PREFIX: &str = "publication";
const PUBLICATIONS_MAX: usize = 20_000;
/// RFC 3903 leaves it to the event package; presence and dialog have an hour.
const EXPIRES_DEFAULT_S: u32 = 3_600;
const EXPIRES_S_MAX: u32 = 86_400;
/// As long as most publications last: whoever still has something to publish has done so by then.
const ORPHANS_MS: u64 = 3_600_000;
