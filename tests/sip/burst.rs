//! More datagrams at once than one system call reads, and more than the system keeps. A daemon that stands still for a
//! moment has them all waiting, on a machine of any speed.

use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::phone::{Phone, status};
use crate::support::wait::until;

#[tokio::test]
async fn phones_that_ask_all_at_once_are_each_answered() {
    const PHONES: u32 = 150;
    let folder = Folder::new("sip");
    let daemon = Daemon::start(&folder).await;
    for registrar in [daemon.registrar, daemon.registrar6] {
        let mut phones = Vec::new();
        daemon.freeze();
        for user in 0..PHONES {
            let phone = Phone::near(registrar).await;
            phone.tell(registrar, &phone.register(&user.to_string(), 1, 600)).await;
            phones.push(phone);
        }
        daemon.thaw();
        for (user, phone) in phones.iter().enumerate() {
            let answer = phone.hear().await.unwrap_or_else(|| panic!("{registrar} does not answer {user}"));
            assert_eq!(status(&answer), "SIP/2.0 200 OK");
            assert!(answer.contains(&format!("Call-ID: {user}@phone.example\r\n")), "{user} hears\n{answer}");
            assert!(answer.contains(&format!(";rport={}\r\n", phone.local.port())), "{user} hears\n{answer}");
        }
    }
}

#[tokio::test]
async fn what_finds_no_room_in_the_receive_buffer_is_counted_and_all_else_is_handled() {
    const SENT: u32 = 1_000;
    let folder = Folder::new("sip");
    let more = "[limits]\nreceive_buffer_kib = 64\n[listeners.hep]\nmode = \"hep\"\nbind = \"udp:127.0.0.1:0\"";
    let daemon = Daemon::start_with(&folder, more).await;
    let hep = daemon.listening("hep", "udp");
    for (name, to, place) in [("registrar", daemon.registrar, "sip_udp"), ("hep", hep, "hep")] {
        let phone = Phone::near(to).await;
        let told = phone.request("OPTIONS", "101", 1, "");
        daemon.freeze();
        for _ in 0..SENT {
            phone.tell(to, &told).await;
        }
        daemon.thaw();
        let handled = format!("listener=\"{name}\"");
        let lost = format!("where=\"{place}\",reason=\"receive_buffer_full\"");
        let mut sent = f64::from(SENT);
        until("every datagram was handled or counted as lost", async || {
            // How many are lost is told with the next one that comes.
            phone.tell(to, &told).await;
            sent += 1.0;
            let handled = daemon.metric("hookswitch_sip_messages_total", &handled).await;
            let lost = daemon.metric("hookswitch_dropped_total", &lost).await;
            assert!(handled + lost <= sent, "{name}: {handled} handled, {lost} lost of {sent}");
            (handled >= 50.0 && lost >= 50.0 && (handled + lost - sent).abs() < 0.5).then_some(())
        })
        .await;
    }
}
