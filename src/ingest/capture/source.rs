//! Bytes of a file through one buffer, with the place they stand at.

use std::io::{self, Read};

/// Reads ahead in large steps and hands out what is there; memory is the buffer alone, whatever the file's length.
pub(super) struct Source {
    reader: Box<dyn Read>,
    buffer: Vec<u8>,
    /// What is read and not yet passed is `buffer[begin..end]`.
    begin: usize,
    end: usize,
    /// Where in the file `begin` is.
    offset: u64,
    is_over: bool,
}

impl Source {
    pub(super) fn new(reader: Box<dyn Read>) -> Self {
        Self { reader, buffer: vec![0; BUFFER_LEN], begin: 0, end: 0, offset: 0, is_over: false }
    }

    /// What is read and not yet passed.
    pub(super) fn data(&self) -> &[u8] {
        self.buffer.get(self.begin..self.end).unwrap_or_default()
    }

    /// Where in the file [`Source::data`] begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Steps over the first `length` bytes of [`Source::data`].
    pub(super) fn pass(&mut self, length: usize) {
        let length = length.min(self.end - self.begin);
        self.begin += length;
        self.offset += u64::try_from(length).unwrap_or(u64::MAX);
    }

    /// Reads on, so that there is more data than before. False at the end of the file.
    ///
    /// # Errors
    /// When the system can't read.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        if self.is_over {
            return Ok(false);
        }
        if self.begin > 0 {
            self.buffer.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        if self.end == self.buffer.len() {
            // Something is longer than the buffer; its reader says when it is too long.
            self.buffer.resize(self.end * 2, 0);
        }
        loop {
            match self.reader.read(self.buffer.get_mut(self.end..).unwrap_or_default()) {
                Ok(0) => {
                    self.is_over = true;
                    return Ok(false);
                }
                Ok(read) => {
                    self.end += read;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads on until there are `length` bytes or the file is over.
    ///
    /// # Errors
    /// When the system can't read.
    pub(super) fn want(&mut self, length: usize) -> io::Result<&[u8]> {
        while self.end - self.begin < length && self.fill()? {}
        Ok(self.data())
    }
}

const BUFFER_LEN: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte a read.
    struct Drops(Vec<u8>);

    impl Read for Drops {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(first) = (!self.0.is_empty()).then(|| self.0.remove(0)) else { return Ok(0) };
            buffer[0] = first;
            Ok(1)
        }
    }

    #[test]
    fn bytes_come_in_order_however_they_are_read_and_their_place_is_known() {
        let mut source = Source::new(Box::new(Drops(b"abcdef".to_vec())));
        assert_eq!(source.want(3).unwrap(), b"abc");
        source.pass(2);
        assert_eq!(source.want(9).unwrap(), b"cdef");
        assert_eq!(source.offset(), 2);
        source.pass(100);
        assert_eq!((source.offset(), source.fill().unwrap()), (6, false));
    }

    #[test]
    fn the_buffer_grows_only_for_what_is_longer_than_it() {
        let mut source = Source::new(Box::new(io::repeat(7)));
        for _ in 0..10 {
            source.want(BUFFER_LEN).unwrap();
            source.pass(BUFFER_LEN);
        }
        assert_eq!(source.buffer.len(), BUFFER_LEN);
        assert_eq!(source.want(BUFFER_LEN + 1).unwrap().len(), 2 * BUFFER_LEN);
    }
}
