//! What became of each message, counted without a look-up by name on the way of a REGISTER.

use std::sync::OnceLock;

use metrics::Counter;

/// `hookswitch_sip_messages_total` of one listener. Cells appear on the page once they are counted.
pub(super) struct Counts {
    listener: String,
    cells: Box<[[OnceLock<Counter>; OUTCOMES.len()]; METHODS.len()]>,
}

impl Counts {
    pub(super) fn new(listener: &str) -> Self {
        let row = || std::array::from_fn(|_| OnceLock::new());
        Self { listener: listener.to_owned(), cells: Box::new(std::array::from_fn(|_| row())) }
    }

    /// Counts one message. A method or an outcome outside the fixed sets counts as the last of its set.
    pub(super) fn add(&self, method: &'static str, outcome: &'static str) {
        let row = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1);
        let column = OUTCOMES.iter().position(|known| *known == outcome).unwrap_or(OUTCOMES.len() - 1);
        let Some(cell) = self.cells.get(row).and_then(|row| row.get(column)) else { return };
        cell.get_or_init(|| {
            metrics::counter!(
                "hookswitch_sip_messages_total",
                "listener" => self.listener.clone(),
                "method" => METHODS.get(row).copied().unwrap_or("OTHER"),
                "outcome" => OUTCOMES.get(column).copied().unwrap_or("other"),
            )
        })
        .increment(1);
    }
}

/// A status code as an outcome.
pub(super) fn status(code: u16) -> &'static str {
    match code {
        200 => "200",
        302 => "302",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        412 => "412",
        414 => "414",
        416 => "416",
        420 => "420",
        423 => "423",
        480 => "480",
        481 => "481",
        489 => "489",
        500 => "500",
        501 => "501",
        503 => "503",
        505 => "505",
        _ => "other",
    }
}

/// `none`: no method could be read.
const METHODS: [&str; 16] = [
    "REGISTER",
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "OPTIONS",
    "NOTIFY",
    "PUBLISH",
    "SUBSCRIBE",
    "UPDATE",
    "PRACK",
    "INFO",
    "REFER",
    "MESSAGE",
    "none",
    "OTHER",
];

/// Status codes we answer with, and what happens to what is not answered. `answer`: to a question of ours.
const OUTCOMES: [&str; 27] = [
    "200",
    "observed",
    "malformed",
    "duplicate",
    "ignored",
    "keepalive",
    "answer",
    "302",
    "400",
    "401",
    "403",
    "404",
    "405",
    "412",
    "414",
    "416",
    "420",
    "423",
    "480",
    "481",
    "489",
    "500",
    "501",
    "503",
    "505",
    "applied",
    "other",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::Method;

    #[test]
    fn every_label_is_of_the_fixed_sets() {
        for method in [Method::Register, Method::Update, Method::Other("X")] {
            assert!(METHODS.contains(&method.known()), "{method}");
        }
        for code in 100..700 {
            assert!(OUTCOMES.contains(&status(code)), "{code}");
        }
    }

    #[test]
    fn what_a_peer_makes_up_counts_as_other() {
        crate::metrics::install();
        Counts::new("labels").add(Method::Other("GRÜEZI").known(), status(299));
        let page = crate::metrics::install().render();
        assert!(
            page.contains("hookswitch_sip_messages_total{listener=\"labels\",method=\"OTHER\",outcome=\"other\"} 1"),
            "{page}"
        );
    }
}
