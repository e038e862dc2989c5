//! Takes a stream of bytes apart into PDUs, in pieces of any size.
//!
//! A header is copied here, checked as a whole, and then told. Data are told as they come, and go wherever the caller
//! wants them; their digest is made on the way. Nothing is kept but one header, so no PDU is too long for memory, and none is
//! longer than [`crate::limits`] allows.

use zerocopy::FromBytes;

use super::digest::{DIGEST_BYTES, Digest};
use super::pdu::{
    ALIGNMENT_MAX, COMMAND_HEADER_BYTES, COMMON_BYTES, CommonHeader, DATA_HEADER_BYTES, DataHeader, Digests,
    FLAG_DATA_DIGEST, FLAG_HEADER_DIGEST, FLAG_LAST, FatalError, INIT_BYTES, InitRequest, PduType, TERMINATION_BYTES,
    TERMINATION_BYTES_MAX, Violation,
};
use crate::command::Command;
use crate::limits::{H2C_DATA_BYTES, IN_CAPSULE_BYTES};
use crate::units::wire_length;

/// The offsets of the common header's fields: what a violation names.
const AT_KIND: u32 = 0;
const AT_FLAGS: u32 = 1;
const AT_HEADER_BYTES: u32 = 2;
const AT_DATA_OFFSET: u32 = 3;
const AT_PDU_BYTES: u32 = 4;

/// The longest header with its digest. (ICReq has none, and is longer.)
const HEADER_ROOM: usize = INIT_BYTES;

/// The most padding between a header and its data: what an alignment of 32 dwords makes.
const PAD_MAX: u32 = (ALIGNMENT_MAX as u32 + 1) * 4;

/// A PDU's header, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pdu {
    /// ICReq.
    Init { version: u16, alignment: u8, digests: u8 },
    /// H2CTermReq: the host ends the connection.
    Termination,
    /// CapsuleCmd, with so many bytes of data.
    Command { command: Command, data_bytes: u32 },
    /// H2CData.
    Data { cid: u16, tag: u16, offset: u32, bytes: u32, last: bool },
}

/// What the bytes were.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A header. If its PDU has data, they come next.
    Header(Pdu),
    /// Data.
    Data(&'a [u8]),
    /// The end of the data, and whether they are what the digest says.
    End { intact: bool },
}

/// What is expected next.
enum State {
    Header,
    Pad {
        left: u32,
        data_bytes: u32,
    },
    Data {
        left: u32,
        digest: Digest,
    },
    Digest {
        bytes: [u8; DIGEST_BYTES],
        got: usize,
        expected: [u8; DIGEST_BYTES],
    },
    /// A violation: nothing.
    Stopped,
}

/// The state between two pieces.
pub(crate) struct Receiver {
    /// A header, as far as it is there.
    header: [u8; HEADER_ROOM],
    got: usize,
    state: State,
    digests: Digests,
}

impl Receiver {
    /// At the beginning of a connection: no digests.
    pub(crate) const fn new() -> Self {
        Self { header: [0; HEADER_ROOM], got: 0, state: State::Header, digests: Digests { header: false, data: false } }
    }

    /// From now on PDUs have these digests.
    pub(crate) const fn set_digests(&mut self, digests: Digests) {
        self.digests = digests;
    }

    /// The last header, as far as it was received: what a violation is about.
    pub(crate) fn header(&self) -> &[u8] {
        &self.header[..self.got]
    }

    /// Takes some of the bytes. Returns how many, and what they were, if that is known by now. With no event all of them were
    /// taken.
    ///
    /// # Errors
    /// The host broke the rules. Nothing is taken any more.
    pub(crate) fn take<'a>(&mut self, bytes: &'a [u8]) -> Result<(usize, Option<Event<'a>>), Violation> {
        self.take_some(bytes).inspect_err(|_| self.state = State::Stopped)
    }

    fn take_some<'a>(&mut self, bytes: &'a [u8]) -> Result<(usize, Option<Event<'a>>), Violation> {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            match &mut self.state {
                State::Stopped => return Ok((bytes.len(), None)),
                State::Header => {
                    let (more, pdu) = self.take_header(rest)?;
                    return Ok((taken + more, pdu.map(Event::Header)));
                }
                State::Pad { left, data_bytes } => {
                    let more = (*left as usize).min(rest.len());
                    *left -= wire_length(more);
                    taken += more;
                    if *left > 0 {
                        return Ok((taken, None));
                    }
                    self.state = State::Data { left: *data_bytes, digest: Digest::new() };
                }
                State::Data { left, digest } => {
                    if rest.is_empty() {
                        return Ok((taken, None));
                    }
                    let piece = &rest[..(*left as usize).min(rest.len())];
                    *left -= wire_length(piece.len());
                    if self.digests.data {
                        digest.update(piece);
                    }
                    if *left == 0 {
                        let expected = core::mem::replace(digest, Digest::new()).finish();
                        self.state = State::Digest { bytes: [0; DIGEST_BYTES], got: 0, expected };
                    }
                    return Ok((taken + piece.len(), Some(Event::Data(piece))));
                }
                State::Digest { bytes: found, got, expected } => {
                    let mut intact = true;
                    if self.digests.data {
                        let more = (DIGEST_BYTES - *got).min(rest.len());
                        found[*got..*got + more].copy_from_slice(&rest[..more]);
                        *got += more;
                        taken += more;
                        if *got < DIGEST_BYTES {
                            return Ok((taken, None));
                        }
                        intact = found == expected;
                    }
                    self.next_header();
                    return Ok((taken, Some(Event::End { intact })));
                }
            }
        }
    }

    /// Begins the next PDU.
    fn next_header(&mut self) {
        self.got = 0;
        self.state = State::Header;
    }

    fn take_header(&mut self, bytes: &[u8]) -> Result<(usize, Option<Pdu>), Violation> {
        let mut taken = 0;
        let wanted = loop {
            // The common header first: it has the length of the rest.
            let wanted = if self.got < COMMON_BYTES { COMMON_BYTES } else { self.header_bytes()? };
            let more = wanted.saturating_sub(self.got).min(bytes.len() - taken);
            self.header[self.got..self.got + more].copy_from_slice(&bytes[taken..taken + more]);
            self.got += more;
            taken += more;
            if self.got < wanted {
                return Ok((taken, None));
            }
            if wanted > COMMON_BYTES {
                break wanted;
            }
        };
        let (common, _) = CommonHeader::read_from_prefix(&self.header).expect("it is there");
        let (header, digest) = self.header[..wanted].split_at(common.header_bytes.into());
        if let Ok(digest) = <[u8; DIGEST_BYTES]>::try_from(digest)
            && digest != Digest::of(header)
        {
            return Err(Violation { error: FatalError::HeaderDigest, information: u32::from_le_bytes(digest) });
        }
        let (pdu, data_bytes) = self.parse(&common)?;
        if data_bytes > 0 {
            let left = u32::from(common.data_offset) - wire_length(wanted);
            self.state = State::Pad { left, data_bytes };
        } else if matches!(pdu, Pdu::Termination) {
            self.state = State::Stopped;
        } else {
            self.next_header();
        }
        Ok((taken, Some(pdu)))
    }

    /// Checks the common header, and returns the length of the whole header with its digest.
    fn header_bytes(&self) -> Result<usize, Violation> {
        let (common, _) = CommonHeader::read_from_prefix(&self.header).expect("it is there");
        let kind = PduType::from_host(common.kind).ok_or(Violation::field(AT_KIND))?;
        let (header_bytes, digests, most) = match kind {
            PduType::InitRequest => (INIT_BYTES, Digests::default(), wire_length(INIT_BYTES)),
            PduType::TerminationByHost => (TERMINATION_BYTES, Digests::default(), TERMINATION_BYTES_MAX),
            PduType::Command => (COMMAND_HEADER_BYTES, self.digests, IN_CAPSULE_BYTES),
            _ => (DATA_HEADER_BYTES, self.digests, H2C_DATA_BYTES),
        };
        if usize::from(common.header_bytes) != header_bytes {
            return Err(Violation::field(AT_HEADER_BYTES));
        }
        if (common.flags & FLAG_HEADER_DIGEST != 0) != digests.header {
            return Err(Violation::field(AT_FLAGS));
        }
        let wanted = header_bytes + digests.header_bytes();
        let most = match kind {
            PduType::InitRequest | PduType::TerminationByHost => most,
            _ => wire_length(wanted) + PAD_MAX + most + wire_length(digests.data_bytes()),
        };
        let pdu_bytes = common.pdu_bytes.get();
        if pdu_bytes > most && kind == PduType::DataFromHost {
            // More than MAXH2CDATA.
            return Err(Violation::of(FatalError::LimitExceeded));
        }
        if pdu_bytes < wire_length(wanted) || pdu_bytes > most {
            return Err(Violation::field(AT_PDU_BYTES));
        }
        Ok(wanted)
    }

    /// Reads a whole header. Returns how many bytes of data follow, too.
    fn parse(&self, common: &CommonHeader) -> Result<(Pdu, u32), Violation> {
        let kind = PduType::from_host(common.kind).expect("checked before");
        match kind {
            PduType::InitRequest => {
                let init = InitRequest::read_from_bytes(&self.header[..INIT_BYTES]).expect("it is there");
                if common.pdu_bytes.get() != wire_length(INIT_BYTES) {
                    return Err(Violation::field(AT_PDU_BYTES));
                }
                let (version, alignment) = (init.version.get(), init.alignment);
                Ok((Pdu::Init { version, alignment, digests: init.digests }, 0))
            }
            PduType::Command => {
                let command = &self.header[COMMON_BYTES..COMMAND_HEADER_BYTES];
                let command = Command::read_from_bytes(command).expect("it is there");
                let data_bytes = self.data_bytes(common, IN_CAPSULE_BYTES)?;
                Ok((Pdu::Command { command, data_bytes }, data_bytes))
            }
            PduType::DataFromHost => {
                let header = DataHeader::read_from_bytes(&self.header[..DATA_HEADER_BYTES]).expect("it is there");
                let bytes = self.data_bytes(common, H2C_DATA_BYTES)?;
                if bytes == 0 || bytes != header.bytes.get() {
                    return Err(Violation::field(16));
                }
                let (cid, tag, offset) = (header.cid.get(), header.tag.get(), header.offset.get());
                Ok((Pdu::Data { cid, tag, offset, bytes, last: common.flags & FLAG_LAST != 0 }, bytes))
            }
            _ => Ok((Pdu::Termination, 0)),
        }
    }

    /// How many bytes of data a PDU has, by its lengths and its data's offset.
    fn data_bytes(&self, common: &CommonHeader, most: u32) -> Result<u32, Violation> {
        let header_bytes = u32::from(common.header_bytes) + wire_length(self.digests.header_bytes());
        let (pdu_bytes, offset) = (common.pdu_bytes.get(), u32::from(common.data_offset));
        if pdu_bytes == header_bytes {
            return Ok(0);
        }
        if (common.flags & FLAG_DATA_DIGEST != 0) != self.digests.data {
            return Err(Violation::field(AT_FLAGS));
        }
        if offset < header_bytes || !offset.is_multiple_of(4) || offset > header_bytes + PAD_MAX {
            return Err(Violation::field(AT_DATA_OFFSET));
        }
        let bytes = pdu_bytes.checked_sub(offset + wire_length(self.digests.data_bytes()));
        bytes.filter(|bytes| (1..=most).contains(bytes)).ok_or(Violation::field(AT_PDU_BYTES))
    }
}
