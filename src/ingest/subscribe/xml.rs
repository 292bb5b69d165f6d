//! XML as notifications have it: elements, attributes, text, and nothing that can be made to grow. Declarations of types and
//! entities are refused, depth and number of elements bounded.

use std::borrow::Cow;

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

/// Reads a document piece by piece.
pub struct Xml<'a> {
    reader: Reader<&'a [u8]>,
    /// An empty element was read and its end not told yet.
    ends: bool,
    depth: usize,
    elements: usize,
}

/// A piece of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// An element opens.
    Open(Element<'a>),
    /// Text inside an element, one part of it: references cut it into several.
    Text(Cow<'a, str>),
    /// The element that was opened last and not closed yet closes.
    Close,
}

/// An element's name and attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element<'a>(BytesStart<'a>);

/// Why a body is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum XmlError {
    /// It is not well-formed, or not what it should be.
    #[error("malformed XML")]
    Malformed,
    /// It declares a document type, which no notification does.
    #[error("XML with a document type")]
    DocumentType,
    /// It is deeper or longer than any notification.
    #[error("XML too large")]
    TooLarge,
}

impl XmlError {
    /// A metric label: a few stable words.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "xml_malformed",
            Self::DocumentType => "xml_document_type",
            Self::TooLarge => "xml_too_large",
        }
    }
}

impl<'a> Xml<'a> {
    /// A reader at the start of `text`.
    ///
    /// # Errors
    /// When it is too long.
    pub fn new(text: &'a str) -> Result<Self, XmlError> {
        if text.len() > LEN_MAX {
            return Err(XmlError::TooLarge);
        }
        Ok(Self { reader: Reader::from_str(text), ends: false, depth: 0, elements: 0 })
    }

    /// A reader inside the root element, which must have this name; the root itself.
    ///
    /// # Errors
    /// When it is another document, or as [`Xml::read`].
    pub fn inside(text: &'a str, root: &str) -> Result<(Self, Element<'a>), XmlError> {
        let mut xml = Self::new(text)?;
        loop {
            match xml.read()?.ok_or(XmlError::Malformed)? {
                Piece::Open(element) if element.name() == root => return Ok((xml, element)),
                Piece::Open(_) => return Err(XmlError::Malformed),
                Piece::Text(_) | Piece::Close => {}
            }
        }
    }

    /// Calls `take` with each element inside the one that was opened last, up to its end. `take` reads the element whole:
    /// what it does not know it leaves to [`Xml::skip`].
    ///
    /// # Errors
    /// As [`Xml::read`], and what `take` returns.
    pub fn children(
        &mut self,
        mut take: impl FnMut(&mut Self, &Element<'a>) -> Result<(), XmlError>,
    ) -> Result<(), XmlError> {
        loop {
            match self.read()?.ok_or(XmlError::Malformed)? {
                Piece::Open(element) => take(self, &element)?,
                Piece::Text(_) => {}
                Piece::Close => return Ok(()),
            }
        }
    }

    /// Reads what follows the root, which is nothing that counts.
    ///
    /// # Errors
    /// As [`Xml::read`].
    pub fn finish(mut self) -> Result<(), XmlError> {
        while self.read()?.is_some() {}
        Ok(())
    }

    /// The next piece; none at the end.
    ///
    /// # Errors
    /// When the document is not well-formed or passes a limit; nothing more can be read then.
    pub fn read(&mut self) -> Result<Option<Piece<'a>>, XmlError> {
        if std::mem::take(&mut self.ends) {
            self.depth -= 1;
            return Ok(Some(Piece::Close));
        }
        loop {
            let piece = match self.reader.read_event().map_err(|_| XmlError::Malformed)? {
                Event::Start(element) => Piece::Open(self.open(element)?),
                Event::Empty(element) => {
                    let element = self.open(element)?;
                    self.ends = true;
                    Piece::Open(element)
                }
                Event::End(_) => {
                    self.depth = self.depth.checked_sub(1).ok_or(XmlError::Malformed)?;
                    Piece::Close
                }
                Event::Text(text) => Piece::Text(text.xml10_content()),
                Event::CData(text) => Piece::Text(text.xml10_content()),
                Event::GeneralRef(reference) => Piece::Text(Cow::Owned(character(&reference)?.into())),
                Event::DocType(_) => return Err(XmlError::DocumentType),
                Event::Eof if self.depth == 0 && self.elements > 0 => return Ok(None),
                Event::Eof => return Err(XmlError::Malformed),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => continue,
            };
            return Ok(Some(piece));
        }
    }

    /// Skips what is left of the element that was opened last.
    ///
    /// # Errors
    /// As [`Xml::read`].
    pub fn skip(&mut self) -> Result<(), XmlError> {
        let mut open = 1_usize;
        while open > 0 {
            match self.read()?.ok_or(XmlError::Malformed)? {
                Piece::Open(_) => open += 1,
                Piece::Close => open -= 1,
                Piece::Text(_) => {}
            }
        }
        Ok(())
    }

    /// The text of the element that was opened last, up to its end, trimmed; its elements are skipped.
    ///
    /// # Errors
    /// As [`Xml::read`], and when the text is too long.
    pub fn text(&mut self) -> Result<String, XmlError> {
        let mut text = String::new();
        loop {
            match self.read()?.ok_or(XmlError::Malformed)? {
                Piece::Open(_) => self.skip()?,
                Piece::Close => return Ok(text.trim().to_owned()),
                Piece::Text(part) => {
                    text.push_str(&part);
                    if text.len() > VALUE_LEN_MAX {
                        return Err(XmlError::TooLarge);
                    }
                }
            }
        }
    }

    fn open(&mut self, element: BytesStart<'a>) -> Result<Element<'a>, XmlError> {
        self.depth += 1;
        self.elements += 1;
        if self.depth > DEPTH_MAX || self.elements > ELEMENTS_MAX {
            return Err(XmlError::TooLarge);
        }
        Ok(Element(element))
    }
}

impl Element<'_> {
    /// Its name without a prefix. Some notifiers get their namespaces wrong, so those are not looked at.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.local_name().into_inner()
    }

    /// The value of the attribute with this name; none when it is missing or empty.
    ///
    /// # Errors
    /// When an attribute before it, or it, is malformed or too long.
    pub fn attribute(&self, name: &str) -> Result<Option<String>, XmlError> {
        for attribute in self.0.attributes().with_checks(false) {
            let attribute = attribute.map_err(|_| XmlError::Malformed)?;
            if attribute.key.local_name().into_inner() != name {
                continue;
            }
            let value = attribute.normalized_value(XmlVersion::Explicit1_0).map_err(|_| XmlError::Malformed)?;
            let value = value.trim();
            if value.len() > VALUE_LEN_MAX {
                return Err(XmlError::TooLarge);
            }
            return Ok((!value.is_empty()).then(|| value.to_owned()));
        }
        Ok(None)
    }
}

/// The character that a reference means. Only those that need no declaration have one.
fn character(reference: &quick_xml::events::BytesRef<'_>) -> Result<char, XmlError> {
    if let Some(character) = reference.resolve_char_ref().map_err(|_| XmlError::Malformed)? {
        return Ok(character);
    }
    match &**reference {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "apos" => Ok('\''),
        "quot" => Ok('"'),
        _ => Err(XmlError::Malformed),
    }
}

/// Longest document, in bytes: what a SIP message holds.
const LEN_MAX: usize = 65_535;
const DEPTH_MAX: usize = 16;
const ELEMENTS_MAX: usize = 4_096;
/// Longest attribute or text, in bytes.
const VALUE_LEN_MAX: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    /// The document as a line: names, attributes `a`, texts, and `/` for each end.
    fn shape(text: &str) -> Result<String, XmlError> {
        let mut xml = Xml::new(text)?;
        let mut out = Vec::new();
        while let Some(piece) = xml.read()? {
            out.push(match piece {
                Piece::Open(element) => format!("{}{}", element.name(), element.attribute("a")?.unwrap_or_default()),
                Piece::Text(text) => format!("[{text}]"),
                Piece::Close => "/".into(),
            });
        }
        Ok(out.join(" "))
    }

    #[test]
    fn elements_attributes_and_texts_come_out_in_order() {
        let text = "<?xml version=\"1.0\"?><!-- x --><p:r a=' &lt;1&gt; ' b='2'><e/>t&amp;&#65;<![CDATA[<c>]]></p:r>";
        assert_eq!(shape(text).unwrap(), "r<1> e / [t] [&] [A] [<c>] /");
    }

    #[test]
    fn what_could_grow_or_is_broken_is_refused() {
        let bomb = "<!DOCTYPE r [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><r>&b;</r>";
        assert_eq!(shape(bomb), Err(XmlError::DocumentType));
        assert_eq!(shape("<r>&b;</r>"), Err(XmlError::Malformed));
        assert_eq!(shape("<r a='&b;'/>"), Err(XmlError::Malformed));
        for bad in ["", "text", "<r>", "<r></s>", "</r>", "<r a=/>", "<r/", "<r>&</r>"] {
            assert_eq!(shape(bad), Err(XmlError::Malformed), "{bad}");
        }
        assert_eq!(shape(&"<r>".repeat(DEPTH_MAX + 1)), Err(XmlError::TooLarge));
        assert_eq!(shape(&format!("<r>{}</r>", "<e/>".repeat(ELEMENTS_MAX))), Err(XmlError::TooLarge));
        assert_eq!(shape(&format!("<r a='{}'/>", "x".repeat(3_000))), Err(XmlError::TooLarge));
        assert_eq!(shape(&" ".repeat(LEN_MAX + 1)), Err(XmlError::TooLarge));
    }
}
