//! The demo's phone system and trunk. Every message crosses loopback as a datagram, and a copy of it goes to the mirror
//! listener, as Kamailio's siptrace would send it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{sleep, timeout};

use hookswitch::sip::client::{Invite, Phone};
use hookswitch::sip::scan;

use crate::cli::line::{Line, OwnIds, branch, copy, random};
use crate::cli::say;

use super::office::{OFFICE_NUMBER, Office, QUEUE};

/// A small PBX with one trunk.
pub struct Exchange {
    pbx: Line,
    trunk: Line,
    mirror: SocketAddr,
    pace: Duration,
}

/// One dialog between two ends.
struct Leg<'l> {
    caller: &'l Line,
    callee: &'l Line,
    /// The caller as it names itself in this dialog.
    speaker: Phone,
    listener: Phone,
    invite: Vec<u8>,
    answer: Vec<u8>,
    tag: String,
}

impl Exchange {
    /// Takes ports for both.
    pub async fn open(mirror: SocketAddr, pace: Duration) -> anyhow::Result<Self> {
        let pbx = Line::open("pbx", "pbx.local", None).await?;
        let trunk = Line::open("trunk", "trunk.example", None).await?;
        Ok(Self { pbx, trunk, mirror, pace })
    }

    /// One round: an answered call, a missed one, an internal one, and one through the queue.
    pub async fn play(&self, office: &Office) -> anyhow::Result<()> {
        let [anna, ben, cleo] = office.phones.as_slice() else { anyhow::bail!("the office has three phones") };
        say("\n+14155550100 calls Anna, who answers")?;
        self.answered(anna).await?;
        say("\n+14155550101 calls Ben, who is not there")?;
        self.missed(ben).await?;
        say("\nAnna calls Ben: a call inside the house pops for nobody")?;
        self.internal(anna, ben).await?;
        say("\n+14155550102 calls the support queue: it rings Ben and Cleo, Cleo answers")?;
        self.queue(ben, cleo).await
    }

    async fn answered(&self, phone: &Line) -> anyhow::Result<()> {
        let outer = self.inbound("+14155550100").await?;
        let inner = self.to_phone(phone, "+14155550100", &outer, None).await?;
        self.talk(outer, inner).await
    }

    async fn missed(&self, phone: &Line) -> anyhow::Result<()> {
        let outer = self.inbound("+14155550101").await?;
        let inner = self.to_phone(phone, "+14155550101", &outer, None).await?;
        self.ring(&inner).await?;
        self.ring(&outer).await?;
        self.pause().await;
        self.give_up(&outer).await?;
        self.give_up(&inner).await?;
        self.pause().await;
        Ok(())
    }

    async fn internal(&self, from: &Line, to: &Line) -> anyhow::Result<()> {
        let target = to.phone.address_of_record();
        let outer = self.place(from, &self.pbx, from.phone.clone(), &target, &[]).await?;
        let inner = self.to_phone(to, &from.phone.user, &outer, None).await?;
        self.talk(outer, inner).await
    }

    /// Both legs of a call ring, are answered after a while, and hang up after another.
    async fn talk(&self, mut outer: Leg<'_>, mut inner: Leg<'_>) -> anyhow::Result<()> {
        self.ring(&inner).await?;
        self.ring(&outer).await?;
        self.pause().await;
        self.answer(&mut inner).await?;
        self.answer(&mut outer).await?;
        self.pause().await;
        self.hang_up(&outer).await?;
        self.hang_up(&inner).await?;
        self.pause().await;
        Ok(())
    }

    async fn queue(&self, loser: &Line, winner: &Line) -> anyhow::Result<()> {
        let mut outer = self.inbound("+14155550102").await?;
        // The queue picks up with music; that is no answer.
        self.answer(&mut outer).await?;
        let lost = self.to_phone(loser, "+14155550102", &outer, Some(QUEUE)).await?;
        let mut won = self.to_phone(winner, "+14155550102", &outer, Some(QUEUE)).await?;
        self.ring(&lost).await?;
        self.ring(&won).await?;
        self.pause().await;
        self.answer(&mut won).await?;
        self.give_up(&lost).await?;
        self.pause().await;
        self.hang_up(&outer).await?;
        self.hang_up(&won).await?;
        self.pause().await;
        Ok(())
    }

    async fn inbound(&self, number: &str) -> anyhow::Result<Leg<'_>> {
        let speaker = Phone { user: number.to_owned(), ..self.trunk.phone.clone() };
        self.place(&self.trunk, &self.pbx, speaker, &format!("sip:{OFFICE_NUMBER}@pbx.local"), &[]).await
    }

    async fn to_phone<'l>(
        &'l self,
        phone: &'l Line,
        caller: &str,
        outer: &Leg<'_>,
        queue: Option<&str>,
    ) -> anyhow::Result<Leg<'l>> {
        let speaker = Phone { user: caller.to_owned(), ..self.pbx.phone.clone() };
        let target = format!("sip:{}@{}", phone.phone.user, phone.address());
        let other_leg = scan(&outer.invite)?.call_id().context("an INVITE has a Call-ID")?.to_owned();
        let mut headers = vec![("X-CID", other_leg.as_str())];
        headers.extend(queue.map(|queue| ("X-Queue", queue)));
        self.place(&self.pbx, phone, speaker, &target, &headers).await
    }

    async fn place<'l>(
        &self,
        caller: &'l Line,
        callee: &'l Line,
        speaker: Phone,
        target: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Leg<'l>> {
        let sdp = speaker.sdp();
        let invite =
            speaker.invite(&OwnIds::new()?.borrowed(), &Invite { target, to: target, sdp: Some(&sdp), headers });
        self.carry(caller, callee, &invite).await?;
        let listener = callee.phone.clone();
        Ok(Leg { caller, callee, speaker, listener, invite, answer: Vec::new(), tag: random()? })
    }

    async fn ring(&self, leg: &Leg<'_>) -> anyhow::Result<()> {
        let ringing = leg.listener.respond(&scan(&leg.invite)?, (180, "Ringing"), &leg.tag, None)?;
        self.carry(leg.callee, leg.caller, &ringing).await
    }

    async fn answer(&self, leg: &mut Leg<'_>) -> anyhow::Result<()> {
        let invite = scan(&leg.invite)?;
        leg.answer = leg.listener.respond(&invite, (200, "OK"), &leg.tag, Some(&leg.listener.sdp()))?;
        self.carry(leg.callee, leg.caller, &leg.answer).await?;
        let ack = leg.speaker.ack(&invite, &scan(&leg.answer)?, &branch()?)?;
        self.carry(leg.caller, leg.callee, &ack).await
    }

    async fn give_up(&self, leg: &Leg<'_>) -> anyhow::Result<()> {
        let invite = scan(&leg.invite)?;
        let cancel = leg.speaker.cancel(&invite)?;
        self.carry(leg.caller, leg.callee, &cancel).await?;
        let ok = leg.listener.respond(&scan(&cancel)?, (200, "OK"), &leg.tag, None)?;
        self.carry(leg.callee, leg.caller, &ok).await?;
        let ended = leg.listener.respond(&invite, (487, "Request Terminated"), &leg.tag, None)?;
        self.carry(leg.callee, leg.caller, &ended).await?;
        let ack = leg.speaker.ack(&invite, &scan(&ended)?, &branch()?)?;
        self.carry(leg.caller, leg.callee, &ack).await
    }

    async fn hang_up(&self, leg: &Leg<'_>) -> anyhow::Result<()> {
        let bye = leg.speaker.bye(&scan(&leg.invite)?, &scan(&leg.answer)?, &branch()?)?;
        self.carry(leg.caller, leg.callee, &bye).await?;
        let ok = leg.listener.respond(&scan(&bye)?, (200, "OK"), &leg.tag, None)?;
        self.carry(leg.callee, leg.caller, &ok).await
    }

    /// Sends a message, waits until it has arrived, and mirrors it.
    async fn carry(&self, from: &Line, to: &Line, bytes: &[u8]) -> anyhow::Result<()> {
        from.send(bytes, to.address()).await?;
        let arrived = async {
            loop {
                let (received, _) = to.receive().await;
                if received == bytes {
                    return;
                }
            }
        };
        timeout(ARRIVES_WITHIN, arrived).await.context("a datagram got lost on loopback")?;
        let from_pbx = from.address() == self.pbx.address();
        self.pbx.send(&copy(bytes, from.address(), to.address(), from_pbx), self.mirror).await
    }

    async fn pause(&self) {
        sleep(self.pace).await;
    }
}

const ARRIVES_WITHIN: Duration = Duration::from_secs(2);
