//! The failures each kind of route can answer with, for the OpenAPI document.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};

use super::problem::{Kind, PROBLEM_JSON};

macro_rules! sets {
    ($($(#[$doc:meta])* $name:ident: $($kind:ident)*;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                of(&[$(Kind::$kind),*])
            }
        }
    )*};
}

sets! {
    /// A list.
    Listing: BadRequest Unauthorized Forbidden NotFound Internal NotStored Unavailable;
    /// One record.
    Reading: BadRequest Unauthorized Forbidden NotFound Internal NotStored Unavailable;
    /// A question with a body that changes nothing.
    Asking: BadBody Unauthorized Forbidden NotFound Timeout TooLarge UnsupportedMediaType InvalidValue Internal
        NotStored;
    /// A new record.
    Creating: BadBody Unauthorized Forbidden NotFound Timeout Conflict LimitReached TooLarge UnsupportedMediaType
        InvalidValue Internal NotStored;
    /// Events of a PBX.
    Posting: BadBody Unauthorized Forbidden NotFound Timeout TooLarge UnsupportedMediaType Internal NotStored
        Unavailable;
    /// A change of a record.
    Editing: BadRequest BadBody Unauthorized Forbidden NotFound Timeout Conflict InUse LimitReached Stale TooLarge
        UnsupportedMediaType InvalidValue Internal NotStored;
    /// A change that may have to be made by a PBX.
    Commanding: BadRequest BadBody Unauthorized Forbidden NotFound Timeout Conflict ControlOff PbxRefused LimitReached
        TooLarge UnsupportedMediaType InvalidValue Internal NotStored Unavailable NotConfirmed;
    /// A change without a body.
    Placing: Unauthorized Forbidden NotFound Conflict LimitReached Internal NotStored;
    /// The end of a record.
    Removing: BadRequest Unauthorized Forbidden NotFound InUse Stale Internal NotStored;
    /// An event stream.
    Streaming: BadRequest Unauthorized Forbidden NotFound TooManyStreams Internal NotStored Unavailable;
}

/// One response a status, its description naming each kind of that status.
fn of(kinds: &[Kind]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<String, Vec<Kind>> = BTreeMap::new();
    for kind in kinds {
        by_status.entry(kind.status().as_str().to_owned()).or_default().push(*kind);
    }
    by_status.into_iter().map(|(status, kinds)| (status, RefOr::T(response(&kinds)))).collect()
}

fn response(kinds: &[Kind]) -> Response {
    let lines: Vec<String> =
        kinds.iter().map(|kind| format!("`/problems/{}`: {}.", kind.slug(), kind.title())).collect();
    let schema = Ref::from_schema_name("Problem");
    ResponseBuilder::new().description(lines.join(" ")).content(PROBLEM_JSON, Content::new(Some(schema))).build()
}
