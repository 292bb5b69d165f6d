//! Bodies of notifications: what is read of them is no larger than they are.

use hookswitch::ingest::subscribe::dialog_info::DialogInfo;
use hookswitch::ingest::subscribe::reginfo::RegInfo;

/// Both kinds of body.
pub fn run(bytes: &[u8]) {
    if let Ok(info) = DialogInfo::parse(bytes) {
        let texts = info.dialogs.iter().map(|dialog| {
            let sides = [&dialog.local, &dialog.remote]
                .map(|side| length(side.uri.as_deref()) + length(side.display.as_deref()));
            dialog.id.len() + length(dialog.call_id.as_deref()) + sides.iter().sum::<usize>()
        });
        // What is no UTF-8 is read as a character of three bytes.
        assert!(texts.sum::<usize>() <= bytes.len() * 3);
        assert!(info.dialogs.len() * "<dialog/>".len() <= bytes.len());
    }
    if let Ok(info) = RegInfo::parse(bytes) {
        let contacts = info.registrations.iter().flat_map(|registration| &registration.contacts);
        assert!(contacts.map(|contact| contact.uri.len()).sum::<usize>() <= bytes.len() * 3);
    }
}

fn length(text: Option<&str>) -> usize {
    text.map_or(0, str::len)
}
