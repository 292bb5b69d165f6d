//! Contact URIs as the contact index knows them.

use crate::model::ContactKey;
use crate::sip::uri::Uri;

/// User, host and port of a contact URI; none when it is not one that an INVITE could go to.
pub(super) fn contact_key(contact: &str) -> Option<ContactKey> {
    Uri::parse(contact).ok().map(|uri| uri.key())
}
