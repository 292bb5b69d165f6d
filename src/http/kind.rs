//! The kinds of failure the API knows: each is one `type`, one title and one status, for ever.

use axum::http::StatusCode;

/// The kinds of failure. Details vary, these do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A query parameter or header can't be read.
    BadRequest,
    /// The body is not JSON, or a member of it has the wrong type or no meaning here.
    BadBody,
    /// No token, or one that is not (or no longer) valid.
    Unauthorized,
    /// The token is valid and may not do this.
    Forbidden,
    /// No such thing, or none that the token may see.
    NotFound,
    /// The route exists, not with this method.
    MethodNotAllowed,
    /// The body did not arrive in time.
    Timeout,
    /// It contradicts what is there.
    Conflict,
    /// It is still needed by something else.
    InUse,
    /// A configured limit is reached.
    LimitReached,
    /// The PBX decides about it, and nothing may be sent to that PBX.
    ControlOff,
    /// The PBX was asked to change it and refused.
    PbxRefused,
    /// `If-Match` names another version than the present one.
    Stale,
    /// The body is larger than is accepted.
    TooLarge,
    /// The body is not said to be JSON.
    UnsupportedMediaType,
    /// The body reads well and a value in it can't be accepted.
    InvalidValue,
    /// The user or account has as many event streams as it may.
    TooManyStreams,
    /// A bug of ours.
    Internal,
    /// The database did not confirm the change in time.
    NotStored,
    /// Not now: stopping, full, or the database is away.
    Unavailable,
    /// The PBX has not confirmed the change in time.
    NotConfirmed,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 21] = [
        Self::BadRequest,
        Self::BadBody,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Timeout,
        Self::Conflict,
        Self::InUse,
        Self::LimitReached,
        Self::ControlOff,
        Self::PbxRefused,
        Self::Stale,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::InvalidValue,
        Self::TooManyStreams,
        Self::Internal,
        Self::NotStored,
        Self::Unavailable,
        Self::NotConfirmed,
    ];

    /// The last part of its `type`.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        self.facts().slug
    }

    /// Its status.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        self.facts().status
    }

    /// Its title.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.facts().title
    }

    /// What it means and what to do about it, as `GET /problems/{slug}` tells.
    #[must_use]
    pub const fn explanation(self) -> &'static str {
        self.facts().explanation
    }

    const fn facts(self) -> &'static Facts {
        match self {
            Self::BadRequest => &BAD_REQUEST,
            Self::BadBody => &BAD_BODY,
            Self::Unauthorized => &UNAUTHORIZED,
            Self::Forbidden => &FORBIDDEN,
            Self::NotFound => &NOT_FOUND,
            Self::MethodNotAllowed => &METHOD_NOT_ALLOWED,
            Self::Timeout => &TIMEOUT,
            Self::Conflict => &CONFLICT,
            Self::InUse => &IN_USE,
            Self::LimitReached => &LIMIT_REACHED,
            Self::ControlOff => &CONTROL_OFF,
            Self::PbxRefused => &PBX_REFUSED,
            Self::Stale => &STALE,
            Self::TooLarge => &TOO_LARGE,
            Self::UnsupportedMediaType => &UNSUPPORTED_MEDIA_TYPE,
            Self::InvalidValue => &INVALID_VALUE,
            Self::TooManyStreams => &TOO_MANY_STREAMS,
            Self::Internal => &INTERNAL,
            Self::NotStored => &NOT_STORED,
            Self::Unavailable => &UNAVAILABLE,
            Self::NotConfirmed => &NOT_CONFIRMED,
        }
    }
}

struct Facts {
    slug: &'static str,
    status: StatusCode,
    title: &'static str,
    explanation: &'static str,
}

const BAD_REQUEST: Facts = Facts {
    slug: "bad-request",
    status: StatusCode::BAD_REQUEST,
    title: "The request can't be read",
    explanation: "A query parameter or header is unknown or malformed; `parameter` names it when it is known.",
};

const BAD_BODY: Facts = Facts {
    slug: "bad-body",
    status: StatusCode::BAD_REQUEST,
    title: "The body can't be read",
    explanation: "The body is not JSON, or the member that `pointer` (RFC 6901) names has the wrong type, is missing or \
        is not known here.",
};

const UNAUTHORIZED: Facts = Facts {
    slug: "unauthorized",
    status: StatusCode::UNAUTHORIZED,
    title: "A valid token is needed",
    explanation: "Send `Authorization: Bearer hs_...` with a token that exists and has not expired.",
};

const FORBIDDEN: Facts = Facts {
    slug: "forbidden",
    status: StatusCode::FORBIDDEN,
    title: "The token may not do this",
    explanation: "The token is valid, but its scope does not cover this route.",
};

const NOT_FOUND: Facts = Facts {
    slug: "not-found",
    status: StatusCode::NOT_FOUND,
    title: "Not found",
    explanation: "There is no such thing, or none that belongs to an account of this token.",
};

const METHOD_NOT_ALLOWED: Facts = Facts {
    slug: "method-not-allowed",
    status: StatusCode::METHOD_NOT_ALLOWED,
    title: "The method is not allowed here",
    explanation: "The `Allow` header lists the methods of this route.",
};

const TIMEOUT: Facts = Facts {
    slug: "timeout",
    status: StatusCode::REQUEST_TIMEOUT,
    title: "The body did not arrive in time",
    explanation: "The body stopped arriving; nothing was changed.",
};

const CONFLICT: Facts = Facts {
    slug: "conflict",
    status: StatusCode::CONFLICT,
    title: "It contradicts what is there",
    explanation: "Something else already has this name, address or place; `detail` says what.",
};

const IN_USE: Facts = Facts {
    slug: "in-use",
    status: StatusCode::CONFLICT,
    title: "It is still in use",
    explanation: "Something else refers to it; `detail` says what. Remove that first.",
};

const LIMIT_REACHED: Facts = Facts {
    slug: "limit-reached",
    status: StatusCode::CONFLICT,
    title: "A limit is reached",
    explanation: "The configuration allows no more of these.",
};

const CONTROL_OFF: Facts = Facts {
    slug: "control-off",
    status: StatusCode::CONFLICT,
    title: "The PBX decides about this",
    explanation: "A feed of the PBX reports this queue, so its members are the PBX's to change. Set `control` of the PBX to \
        true, so that changes made here are sent to it, or make the change on the PBX.",
};

const PBX_REFUSED: Facts = Facts {
    slug: "pbx-refused",
    status: StatusCode::CONFLICT,
    title: "The PBX refused",
    explanation: "The change was sent to the PBX, which refused it; `detail` is what it said. Nothing has changed.",
};

const STALE: Facts = Facts {
    slug: "stale",
    status: StatusCode::PRECONDITION_FAILED,
    title: "It has changed since",
    explanation: "`If-Match` names an older version; `etag` is the present one. Read it again and decide anew.",
};

const TOO_LARGE: Facts = Facts {
    slug: "too-large",
    status: StatusCode::PAYLOAD_TOO_LARGE,
    title: "The body is too large",
    explanation: "The body is larger than this server accepts.",
};

const UNSUPPORTED_MEDIA_TYPE: Facts = Facts {
    slug: "unsupported-media-type",
    status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
    title: "The body must be JSON",
    explanation: "Send `Content-Type: application/json`; `application/merge-patch+json` also does for PATCH.",
};

const INVALID_VALUE: Facts = Facts {
    slug: "invalid-value",
    status: StatusCode::UNPROCESSABLE_ENTITY,
    title: "A value can't be accepted",
    explanation: "The body has the right shape, but the value of the member that `pointer` (RFC 6901) names can't be \
        accepted.",
};

const TOO_MANY_STREAMS: Facts = Facts {
    slug: "too-many-streams",
    status: StatusCode::TOO_MANY_REQUESTS,
    title: "Too many event streams",
    explanation: "This user or account has as many event streams open as it may. Close one.",
};

const INTERNAL: Facts = Facts {
    slug: "internal",
    status: StatusCode::INTERNAL_SERVER_ERROR,
    title: "A bug of ours",
    explanation: "The log says more. Please report it.",
};

const NOT_STORED: Facts = Facts {
    slug: "not-stored",
    status: StatusCode::SERVICE_UNAVAILABLE,
    title: "Not known to be stored",
    explanation: "The database did not confirm the change in time. The change stays in memory and may still commit; \
        asking again after `Retry-After` is safe and waits for the same commit. After a POST, look at the \
        `Location` of this answer first, or the thing may be made twice.",
};

const UNAVAILABLE: Facts = Facts {
    slug: "unavailable",
    status: StatusCode::SERVICE_UNAVAILABLE,
    title: "Not now",
    explanation: "The server is stopping, full, or can't read its database. Try again after `Retry-After`.",
};

const NOT_CONFIRMED: Facts = Facts {
    slug: "not-confirmed",
    status: StatusCode::GATEWAY_TIMEOUT,
    title: "Not confirmed by the PBX",
    explanation: "The change was sent to the PBX, whose event has not confirmed it in time. It may still happen, and shows \
        when it does; asking again is safe.",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_type_and_a_failing_status() {
        let mut slugs = Kind::ALL.map(Kind::slug).to_vec();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert!(kind.status().is_client_error() || kind.status().is_server_error(), "{kind:?}");
            assert!(kind.slug().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{kind:?}");
        }
    }
}
