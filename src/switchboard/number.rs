//! The number plan: which numbers are inside the office, and what the outside ones are called in E.164.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use foldhash::quality::RandomState;
use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, Region};

use crate::model::NumberPlan;

/// A [`NumberPlan`] made ready to be asked about every call.
#[derive(Debug)]
pub struct CompiledPlan {
    source: NumberPlan,
    region: Option<Region>,
    dids: HashSet<String, RandomState>,
    voicemail: Vec<Named>,
    emergency: Vec<Named>,
    /// Outside numbers read lately and what they are in E.164: reading one costs as much as all else about its call, and
    /// a call says the same numbers on each of its legs.
    read_lately: Mutex<HashMap<Box<str>, Option<Box<str>>, RandomState>>,
}

/// A number that stands in the plan, as written and its digits.
#[derive(Debug)]
struct Named {
    raw: String,
    digits: String,
}

/// A number as the plan reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// E.164 for a valid outside number or own DID, else the digits or name as they were signalled.
    pub text: String,
    /// Where it belongs.
    pub class: NumberClass,
}

/// Where a number belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NumberClass {
    /// An internal extension by its length.
    Internal,
    /// One of the account's own direct numbers.
    OwnDid,
    /// `*45` and the like.
    FeatureCode,
    /// A voicemail number.
    Voicemail,
    /// An emergency number.
    Emergency,
    /// Not a number at all but a name (`alice`).
    Name,
    /// Outside the number plan.
    External,
}

impl CompiledPlan {
    /// Parses the plan's own numbers once. A default country nobody knows means numbers are read only with their `+`.
    #[must_use]
    pub fn new(plan: &NumberPlan) -> Self {
        let region = plan.default_country.to_ascii_uppercase().parse().ok();
        let dids = plan.dids.iter().map(|did| e164(did, region).unwrap_or_else(|| digits(did).into_owned()));
        let named = |list: &[String]| -> Vec<Named> {
            list.iter().map(|raw| Named { digits: digits(raw).into_owned(), raw: raw.clone() }).collect()
        };
        Self {
            source: plan.clone(),
            region,
            dids: dids.collect(),
            voicemail: named(&plan.voicemail),
            emergency: named(&plan.emergency),
            read_lately: Mutex::default(),
        }
    }

    /// Whether it was compiled from this very plan.
    #[must_use]
    pub fn is_of(&self, plan: &NumberPlan) -> bool {
        self.source == *plan
    }

    /// Reads a number that arrived from the other side (a caller).
    #[must_use]
    pub fn read(&self, raw: &str) -> Number {
        self.classify(raw.trim())
    }

    /// Reads a number as a device dialled it: an outside prefix is taken off where what remains is an outside number.
    #[must_use]
    pub fn read_dialled(&self, raw: &str) -> Number {
        let raw = raw.trim();
        let stripped =
            self.source.outside_prefix.as_deref().filter(|p| !p.is_empty()).and_then(|p| raw.strip_prefix(p));
        let whole = self.classify(raw);
        let Some(rest) = stripped else { return whole };
        let number = self.classify(rest);
        let outside =
            matches!(number.class, NumberClass::External | NumberClass::OwnDid) && number.text.starts_with('+');
        // No number has a plus sign within: what stands before it can only be the prefix.
        let sure = whole.class == NumberClass::External || rest.starts_with('+');
        if number.class == NumberClass::Emergency || (sure && outside) { number } else { whole }
    }

    fn classify(&self, raw: &str) -> Number {
        let plain = digits(raw);
        match self.inside(raw, &plain) {
            Some(class) => Number { text: raw.to_owned(), class },
            None => self.outside(raw, &plain),
        }
    }

    /// What a number is by the plan alone; none for one outside of it, of whose country the plan knows nothing.
    #[must_use]
    pub fn read_inside(&self, raw: &str) -> Option<NumberClass> {
        let raw = raw.trim();
        self.inside(raw, &digits(raw))
    }

    fn inside(&self, raw: &str, plain: &str) -> Option<NumberClass> {
        let plan = &self.source;
        let is_one = |named: &Named| named.raw == raw || (!plain.is_empty() && named.digits == plain);
        let starts = |prefix: &String| !prefix.is_empty() && raw.starts_with(prefix.as_str());
        if self.voicemail.iter().any(is_one) {
            Some(NumberClass::Voicemail)
        } else if self.emergency.iter().any(is_one) {
            Some(NumberClass::Emergency)
        } else if plan.feature_code_prefixes.iter().any(starts) {
            Some(NumberClass::FeatureCode)
        } else if !is_number(raw) {
            Some(NumberClass::Name)
        } else if !raw.starts_with('+') && is_internal_length(plan, plain) {
            Some(NumberClass::Internal)
        } else {
            None
        }
    }

    fn outside(&self, raw: &str, plain: &str) -> Number {
        // Trunks often drop the `+` of a number in international notation; read it so when the national reading fails.
        let text = self.e164(raw, plain);
        let own = self.dids.contains(text.as_deref().unwrap_or(plain)) || self.dids.contains(plain);
        Number {
            text: text.unwrap_or_else(|| raw.to_owned()),
            class: if own { NumberClass::OwnDid } else { NumberClass::External },
        }
    }

    fn e164(&self, raw: &str, plain: &str) -> Option<String> {
        let mut lately = self.read_lately.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lately.get(raw) {
            return known.as_deref().map(str::to_owned);
        }
        let bare_international =
            || (plain.len() > INTERNATIONAL_DIGITS_MIN).then(|| e164(&format!("+{plain}"), None))?;
        let text = e164(raw, self.region).or_else(bare_international);
        if raw.len() <= NUMBER_BYTES_MAX {
            if lately.len() >= READ_LATELY_MAX {
                lately.clear();
            }
            lately.insert(raw.into(), text.as_deref().map(Into::into));
        }
        text
    }
}

/// The E.164 form of a valid number, none for anything else.
fn e164(raw: &str, region: Option<Region>) -> Option<String> {
    if raw.len() > NUMBER_BYTES_MAX {
        return None;
    }
    let number = PHONE_NUMBER_UTIL.parse(raw, region).ok()?;
    PHONE_NUMBER_UTIL
        .is_valid_number(&number)
        .then(|| PHONE_NUMBER_UTIL.format(&number, PhoneNumberFormat::E164).into_owned())
}

/// Digits of the number, with its visual separators gone.
fn digits(raw: &str) -> Cow<'_, str> {
    let plain = raw.strip_prefix('+').unwrap_or(raw);
    if plain.bytes().all(|byte| byte.is_ascii_digit()) {
        return Cow::Borrowed(plain);
    }
    Cow::Owned(raw.chars().filter(char::is_ascii_digit).collect())
}

/// Digits and the separators people write between them (RFC 3966 §5.1.1), perhaps after a `+`.
fn is_number(raw: &str) -> bool {
    let rest = raw.strip_prefix('+').unwrap_or(raw);
    rest.bytes().any(|b| b.is_ascii_digit()) && rest.bytes().all(|b| b.is_ascii_digit() || b"-.() ".contains(&b))
}

fn is_internal_length(plan: &NumberPlan, digits: &str) -> bool {
    u8::try_from(digits.len()).is_ok_and(|length| plan.internal_lengths.contains(&length))
}

/// Outside numbers remembered of an account: less than a megabyte.
const READ_LATELY_MAX: usize = 8_192;

/// Longer "numbers" are not worth parsing: E.164 ends at 15 digits, separators and an extension double that.
const NUMBER_BYTES_MAX: usize = 40;

/// A national number can be this long; only longer ones are tried as international ones without their `+`.
const INTERNATIONAL_DIGITS_MIN: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> CompiledPlan {
        CompiledPlan::new(&NumberPlan {
            internal_lengths: vec![3],
            dids: vec!["(415) 555-0199".into()],
            default_country: "US".into(),
            outside_prefix: Some("9".into()),
            voicemail: vec!["8500".into(), "*97".into()],
            ..NumberPlan::default()
        })
    }

    #[track_caller]
    fn reads(number: &Number, text: &str, class: NumberClass) {
        assert_eq!((number.text.as_str(), number.class), (text, class));
    }

    #[test]
    fn callers_are_read_in_every_notation_trunks_use() {
        for raw in ["+14155550100", "14155550100", "4155550100", "(415) 555-0100", "+1 415-555-0100"] {
            reads(&plan().read(raw), "+14155550100", NumberClass::External);
        }
        reads(&plan().read("33142685300"), "+33142685300", NumberClass::External);
        reads(&plan().read("+33 1 42 68 53 00"), "+33142685300", NumberClass::External);
    }

    #[test]
    fn feature_codes_voicemail_emergency_and_own_numbers_are_never_external() {
        reads(&plan().read_dialled("*45"), "*45", NumberClass::FeatureCode);
        reads(&plan().read_dialled("8500"), "8500", NumberClass::Voicemail);
        reads(&plan().read_dialled("*97"), "*97", NumberClass::Voicemail);
        reads(&plan().read_dialled("911"), "911", NumberClass::Emergency);
        reads(&plan().read_dialled("9911"), "911", NumberClass::Emergency);
        reads(&plan().read_dialled("94155550199"), "+14155550199", NumberClass::OwnDid);
        reads(&plan().read("101"), "101", NumberClass::Internal);
        reads(&plan().read("alice"), "alice", NumberClass::Name);
    }

    #[test]
    fn the_outside_prefix_is_taken_off_only_in_front_of_outside_numbers() {
        reads(&plan().read_dialled("94155550100"), "+14155550100", NumberClass::External);
        reads(&plan().read_dialled("9+14155550100"), "+14155550100", NumberClass::External);
        reads(&plan().read_dialled("901"), "901", NumberClass::Internal);
        reads(&plan().read_dialled("9102"), "9102", NumberClass::External);
    }

    #[test]
    fn what_is_no_valid_number_is_kept_as_it_was_signalled() {
        reads(&plan().read("0000000"), "0000000", NumberClass::External);
        reads(&plan().read("+1"), "+1", NumberClass::External);
        assert_eq!(plan().read(&"9".repeat(500)).class, NumberClass::External);
    }
}
