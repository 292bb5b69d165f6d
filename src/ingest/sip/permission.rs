//! Who may register whom here, and what an account grants.

use crate::model::{DeviceId, RegistrationSettings, canonical_host, canonical_user};
use crate::registry::Target;
use crate::sip::registrar::{Policy, RegisterRequest};
use crate::sip::{Refusal, Scheme, Uri};

use super::front::{Core, Request};

/// Checks that the Request-URI names a domain of ours (RFC 3261 §10.3 step 1), and that whoever registers another
/// (From is not To, §10.2) may do so. Answers who registers: whose password is to be proved, where one is asked for.
///
/// # Errors
/// 404 for a domain that is nobody's, 403 for a third party without permission.
pub(super) fn check(
    core: &Core,
    request: &Request<'_, '_>,
    wanted: &RegisterRequest<'_>,
    target: &Target<'_>,
    settings: Option<&RegistrationSettings>,
) -> Result<DeviceId, Refusal> {
    // `sip::check` has read it before.
    let domain = Uri::parse(request.message.request_uri().unwrap_or_default()).map(|uri| uri.host).unwrap_or_default();
    // Nearly always all three name the same, and who that is has been found already.
    if canonical_host(domain) != wanted.host {
        core.resolve(request.pbx, &target.user, domain)?;
    }
    let from = request.message.from()?.uri;
    if matches!(from.scheme, Scheme::Sip | Scheme::Sips)
        && from.user.is_some_and(|user| canonical_user(user) == wanted.user)
        && canonical_host(from.host) == wanted.host
    {
        return Ok(target.device());
    }
    let from = from.key();
    let actor = core.registry.resolve(request.pbx, &from.user, &from.host);
    let actor = actor.filter(|actor| actor.account == target.account);
    let may = |user: &str| settings.is_some_and(|settings| settings.third_parties.iter().any(|one| one == user));
    match actor {
        Some(actor) if actor.user == target.user || may(&actor.user) => Ok(actor.device()),
        _ => Err(Refusal::new(403, "May Not Register Others", "third_party")),
    }
}

/// What an account grants: its own settings, and the daemon's where it has none.
pub(super) fn policy(defaults: &Policy, settings: &RegistrationSettings) -> Policy {
    let expires_max_s = settings.expires_max_s.unwrap_or(defaults.expires_max_s);
    let expires_min_s = settings.expires_min_s.unwrap_or(defaults.expires_min_s).min(expires_max_s);
    let expires_default_s = settings.expires_default_s.unwrap_or(defaults.expires_default_s);
    let contacts_max = settings.contacts_max.and_then(|most| usize::try_from(most).ok());
    Policy {
        expires_min_s,
        expires_default_s: expires_default_s.clamp(expires_min_s, expires_max_s),
        expires_max_s,
        expires_deviation_percent: settings.expires_deviation_percent.unwrap_or(defaults.expires_deviation_percent),
        contacts_max: contacts_max.unwrap_or(defaults.contacts_max),
        overflow: settings.overflow,
        source: defaults.source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_sets_what_it_wants_and_its_limits_never_cross() {
        let daemon = Policy::default();
        assert_eq!(policy(&daemon, &RegistrationSettings::default()), daemon);
        let brief = RegistrationSettings { expires_max_s: Some(30), ..RegistrationSettings::default() };
        let brief = policy(&daemon, &brief);
        assert_eq!((brief.expires_min_s, brief.expires_default_s, brief.expires_max_s), (30, 30, 30));
        let long = RegistrationSettings { expires_min_s: Some(600), contacts_max: Some(2), ..Default::default() };
        let long = policy(&daemon, &long);
        assert_eq!((long.expires_min_s, long.expires_default_s, long.contacts_max), (600, 3_600, 2));
    }
}
