//! Requests beside a person at the console (`service::console` has the bytes): how one is sent, and its reply taken out of
//! what the person sees.

use service::admin::line::number_bytes;
use service::console::{BESIDE_END, BESIDE_START, BESIDE_START_TEXT, CANCEL_BESIDE};

use crate::session::{REPLY_BYTES_MAX, ReplyForm};

const ESC: u8 = 0x1b;

/// The bytes of a request, for a reply in `mode` that has this number. `line` is one line of text
/// (`service::admin::line::check`).
#[must_use]
pub fn request(mode: ReplyForm, number: u32, line: &str) -> Vec<u8> {
    let start = match mode {
        ReplyForm::Json => BESIDE_START,
        ReplyForm::Text => BESIDE_START_TEXT,
    };
    [start, format!("#{number} {line}\n").as_bytes()].concat()
}

/// The bytes that end the job whose request had this number.
#[must_use]
pub fn end_of_job(number: u32) -> Vec<u8> {
    [BESIDE_START, format!("#{number} ").as_bytes(), &[CANCEL_BESIDE]].concat()
}

/// Splits a reply's number off; `None` if it has none.
#[must_use]
pub fn numbered(reply: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = reply.split_at(number_bytes(reply));
    let number = number.strip_prefix(b"#")?.strip_suffix(b" ")?;
    Some((str::from_utf8(number).ok()?.parse().ok()?, rest))
}

/// Takes replies out of a console's bytes.
#[derive(Debug, Default)]
pub struct Replies {
    /// Within a reply: its bytes so far.
    reply: Option<Vec<u8>>,
    /// The last byte was an ESC, which may begin or end a reply.
    escape: bool,
}

/// A reply without an end: it is longer than any honest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endless;

impl Replies {
    /// Takes the console's next bytes. What is to be shown goes to the end of `shown`; returns the replies, in order.
    ///
    /// # Errors
    /// [`Endless`].
    pub fn take(&mut self, bytes: &[u8], shown: &mut Vec<u8>) -> Result<Vec<Vec<u8>>, Endless> {
        let mut replies = Vec::new();
        for &byte in bytes {
            let escape = std::mem::replace(&mut self.escape, byte == ESC);
            if byte == ESC && !escape {
                continue;
            }
            match (escape, &mut self.reply) {
                // Within a reply: the appliance has begun anew.
                (true, _) if byte == BESIDE_START[1] => self.reply = Some(Vec::new()),
                (true, Some(_)) if byte == BESIDE_END[1] => replies.extend(self.reply.take()),
                (escape, reply) => {
                    let to = reply.as_mut().unwrap_or(shown);
                    // Of two ESCs the second may still begin something.
                    to.extend(escape.then_some(ESC));
                    to.extend((byte != ESC).then_some(byte));
                    if self.reply.as_ref().is_some_and(|reply| reply.len() > REPLY_BYTES_MAX) {
                        return Err(Endless);
                    }
                }
            }
        }
        Ok(replies)
    }

    /// The bytes of a reply that has no end, without its number: an appliance that dies over one may have said why.
    #[must_use]
    pub fn unfinished(self) -> Vec<u8> {
        let mut reply = self.reply.unwrap_or_default();
        reply.drain(..number_bytes(&reply));
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::{Replies, ReplyForm, numbered, request};

    #[test]
    fn replies_are_taken_out_and_all_else_is_shown_however_the_bytes_come() {
        let bytes =
            b"untorn> sta\x1b_{\"ok\":true}\n\x1b\\tus\r\x1b[8C\x1b\x1b_a\x1bb\nc\n\x1b\\\x1b_\x1b\\\x1b\\.\x1b_#7 never";
        for size in 1..bytes.len() {
            let (mut replies, mut shown, mut taken) = (Replies::default(), Vec::new(), Vec::new());
            for piece in bytes.chunks(size) {
                taken.extend(replies.take(piece, &mut shown).expect("a short reply"));
            }
            assert_eq!(shown, b"untorn> status\r\x1b[8C\x1b\x1b\\.", "{size}");
            assert_eq!(taken, [&b"{\"ok\":true}\n"[..], b"a\x1bb\nc\n", b""], "{size}");
            assert_eq!(replies.unfinished(), b"never");
        }
    }

    #[test]
    fn a_reply_that_was_broken_off_spoils_no_later_one() {
        let (mut replies, mut shown) = (Replies::default(), Vec::new());
        let taken = replies.take(b"\x1b_#1 {\"data\":\"AAA\x1b_#2 {}\n\x1b\\.", &mut shown).expect("a short reply");
        assert_eq!((taken, shown), (vec![b"#2 {}\n".to_vec()], b".".to_vec()));
    }

    #[test]
    fn a_reply_without_an_end_is_refused() {
        let (mut replies, mut shown) = (Replies::default(), Vec::new());
        assert_eq!(replies.take(b"\x1b_", &mut shown), Ok(vec![]));
        let piece = vec![b'x'; 1 << 20];
        assert!((0..65).any(|_| replies.take(&piece, &mut shown).is_err()));
    }

    #[test]
    fn a_request_names_the_form_of_its_reply() {
        assert_eq!(request(ReplyForm::Json, 7, "list -N"), b"\x1b_#7 list -N\n");
        assert_eq!(request(ReplyForm::Text, u32::MAX, "status"), b"\x1b^#4294967295 status\n");
    }

    #[test]
    fn a_reply_has_its_requests_number() {
        assert_eq!(numbered(b"#7 {}\n"), Some((7, &b"{}\n"[..])));
        for none in [&b"{}"[..], b"#", b"#7", b"# 7 {}", b"#7x {}", b"#99999999999 {}", b""] {
            assert_eq!(numbered(none), None);
        }
    }
}
