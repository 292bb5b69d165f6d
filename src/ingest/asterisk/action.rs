//! What we ask of an Asterisk.

/// One action with its fields. No field can carry a line break, so no value can smuggle another field or action in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    name: &'static str,
    fields: Vec<(&'static str, String)>,
}

/// A value with a line break, which the wire can't carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value of {0} has a line break or a NUL in it")]
pub struct BadValue(pub &'static str);

impl Action {
    /// An action without fields.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, fields: Vec::new() }
    }

    /// Adds a field.
    ///
    /// # Errors
    /// [`BadValue`] when the value would end its line.
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Result<Self, BadValue> {
        let value = value.into();
        if value.contains(['\r', '\n', '\0']) {
            return Err(BadValue(key));
        }
        self.fields.push((key, value));
        Ok(self)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Writes it as it goes out; the answer will carry `id`.
    pub fn encode(&self, id: &str, out: &mut Vec<u8>) {
        debug_assert!(!id.contains(['\r', '\n']), "ids are our own");
        let fields = self.fields.iter().map(|(key, value)| (*key, value.as_str()));
        for (key, value) in [("Action", self.name), ("ActionID", id)].into_iter().chain(fields) {
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_written_with_its_id() {
        let mut out = Vec::new();
        Action::new("QueuePause").with("Queue", "sales").unwrap().encode("h-1", &mut out);
        assert_eq!(out, b"Action: QueuePause\r\nActionID: h-1\r\nQueue: sales\r\n\r\n");
    }

    #[test]
    fn no_value_can_smuggle_a_second_action_in() {
        for bad in ["a\r\nAction: Originate", "a\nb", "a\rb", "a\0b"] {
            assert_eq!(Action::new("QueuePause").with("Reason", bad), Err(BadValue("Reason")));
        }
    }
}
