//! The host's end of one connection.

use nvmf::{Connection, Millis, Target};

use super::disk::RamDisk;
use super::{ENDPOINT, HOST, SUBSYSTEM};

/// CRC32C, bit by bit.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

/// A command, byte by byte.
#[derive(Clone, Copy)]
pub(crate) struct Sqe(pub [u8; 64]);

impl Sqe {
    pub(crate) fn new(opcode: u8, cid: u16, nsid: u32) -> Self {
        let mut bytes = [0; 64];
        bytes[0] = opcode;
        bytes[1] = 0x40;
        bytes[2..4].copy_from_slice(&cid.to_le_bytes());
        bytes[4..8].copy_from_slice(&nsid.to_le_bytes());
        bytes[39] = 0x5a;
        Self(bytes)
    }

    pub(crate) fn dword(mut self, number: usize, value: u32) -> Self {
        self.0[number * 4..number * 4 + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    /// The transport moves so many bytes.
    pub(crate) fn moves(mut self, bytes: u32) -> Self {
        self.0[32..36].copy_from_slice(&bytes.to_le_bytes());
        self.0[39] = 0x5a;
        self
    }

    /// So many bytes are in the capsule.
    pub(crate) fn carries(mut self, bytes: u32) -> Self {
        self.0[32..36].copy_from_slice(&bytes.to_le_bytes());
        self.0[39] = 0x01;
        self
    }

    pub(crate) fn flags(mut self, flags: u8) -> Self {
        self.0[1] = flags;
        self
    }

    pub(crate) fn cid(&self) -> u16 {
        u16::from_le_bytes([self.0[2], self.0[3]])
    }
}

/// A command of the NVM command set on sectors.
pub(crate) fn io(opcode: u8, cid: u16, first: u64, sectors: u32) -> Sqe {
    let command = Sqe::new(opcode, cid, 1).dword(10, first as u32).dword(11, (first >> 32) as u32);
    command.dword(12, sectors - 1).moves(sectors * 512)
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// ICResp: digests, MAXH2CDATA.
    Init { digests: u8, most: u32 },
    /// CapsuleResp.
    End { cid: u16, status: u16, result: u64, head: u16 },
    /// C2HData.
    Data { cid: u16, offset: u32, data: Vec<u8>, last: bool, success: bool },
    /// R2T.
    Ask { cid: u16, tag: u16, offset: u32, bytes: u32 },
    /// C2HTermReq: FES, FEI.
    Terminated { error: u16, information: u32 },
}

/// The connection, from both ends.
pub(crate) struct Host<'a> {
    pub(crate) target: &'a Target,
    pub(crate) connection: Connection,
    pub(crate) now: Millis,
    pub(crate) digests: u8,
    /// The most bytes that go either way at a time.
    pub(crate) segment: usize,
    /// Data are aligned to so many bytes.
    pub(crate) alignment: usize,
    received: Vec<u8>,
    /// What the target has not taken.
    pub(crate) unsent: Vec<u8>,
}

impl<'a> Host<'a> {
    /// A connection on which nothing was sent.
    pub(crate) fn open(target: &'a Target) -> Self {
        let connection = Connection::accept(target, ENDPOINT, Millis(0)).expect("there are not too many");
        let (received, unsent) = (Vec::new(), Vec::new());
        Self { target, connection, now: Millis(0), digests: 0, segment: 1 << 16, alignment: 4, received, unsent }
    }

    /// After ICReq with those digests.
    pub(crate) fn greet(target: &'a Target, disk: &mut RamDisk, digests: u8) -> Self {
        let mut host = Self::open(target);
        host.init(disk, digests);
        host
    }

    pub(crate) fn init(&mut self, disk: &mut RamDisk, digests: u8) {
        self.send(&icreq(0, (self.alignment / 4 - 1) as u8, digests));
        let replies = self.run(disk);
        self.digests = digests;
        let expected = Reply::Init { digests, most: 128 << 10 };
        assert_eq!(replies, [expected], "both digests are taken as they were asked for");
    }

    /// An admin queue of a controller that is enabled. Returns its number, too.
    pub(crate) fn admin(target: &'a Target, disk: &mut RamDisk, subsystem: &str, kato: u32) -> (Self, u16) {
        let mut host = Self::greet(target, disk, 0);
        let (status, id) = host.connect(disk, subsystem, HOST, 0, 0xffff, kato, 0);
        assert_eq!(status, 0);
        host.enable(disk);
        (host, id as u16)
    }

    pub(crate) fn enable(&mut self, disk: &mut RamDisk) {
        assert_eq!(self.command(disk, property_set(3, 0x14, 0x46_0001)).0, 0);
    }

    /// An I/O queue of that controller, without flow control if asked.
    pub(crate) fn io(target: &'a Target, disk: &mut RamDisk, id: u16, qid: u16, attributes: u8, digests: u8) -> Self {
        let mut host = Self::greet(target, disk, digests);
        assert_eq!(host.connect(disk, SUBSYSTEM, HOST, qid, id, 0, attributes).0, 0);
        host
    }

    /// Connect: status and result.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn connect(
        &mut self,
        disk: &mut RamDisk,
        subsystem: &str,
        name: &str,
        qid: u16,
        cntlid: u16,
        kato: u32,
        attributes: u8,
    ) -> (u16, u64) {
        let (command, data) = connect(subsystem, name, qid, cntlid, kato, attributes);
        self.capsule(command, &data);
        match &self.run(disk)[..] {
            [Reply::End { status, result, .. }] => (*status, *result),
            other => panic!("{other:?}"),
        }
    }

    /// Bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    /// A command capsule, with its data.
    pub(crate) fn capsule(&mut self, command: Sqe, data: &[u8]) {
        let pdu = pdu(0x04, 0, &command.0, data, self.digests);
        self.send(&pdu);
    }

    /// H2CData.
    pub(crate) fn data(&mut self, cid: u16, tag: u16, offset: u32, data: &[u8], last: bool) {
        let mut header = Vec::new();
        header.extend_from_slice(&cid.to_le_bytes());
        header.extend_from_slice(&tag.to_le_bytes());
        header.extend_from_slice(&offset.to_le_bytes());
        header.extend_from_slice(&(data.len() as u32).to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        let pdu = pdu(0x06, if last { 4 } else { 0 }, &header, data, self.digests);
        self.send(&pdu);
    }

    /// Moves bytes both ways until nothing moves any more, and returns what came.
    pub(crate) fn run(&mut self, disk: &mut RamDisk) -> Vec<Reply> {
        self.shuffle(disk);
        take_replies(&mut self.received, self.digests, self.alignment)
    }

    fn shuffle(&mut self, disk: &mut RamDisk) {
        for _ in 0..2_000_000 {
            let offered = self.unsent.len().min(self.segment);
            let taken = self.connection.input(self.target, &self.unsent[..offered], self.now);
            self.unsent.drain(..taken);
            let more = self.connection.step(self.target, disk, self.now);
            let mut room = vec![0xee; self.segment];
            let made = self.connection.output(disk, &mut room);
            self.received.extend_from_slice(&room[..made]);
            if taken == 0 && !more && made == 0 {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// As [`Host::run`], but what comes is not looked at.
    pub(crate) fn pass(&mut self, disk: &mut RamDisk) {
        self.shuffle(disk);
        self.received.clear();
    }

    /// A command without data from the host: status, result, data.
    pub(crate) fn command(&mut self, disk: &mut RamDisk, command: Sqe) -> (u16, u64, Vec<u8>) {
        self.capsule(command, &[]);
        let mut data = Vec::new();
        for reply in self.run(disk) {
            match reply {
                Reply::Data { cid, offset, data: piece, success, last } if cid == command.cid() => {
                    assert_eq!(offset as usize, data.len(), "data come in order");
                    data.extend_from_slice(&piece);
                    if success {
                        assert!(last);
                        return (0, 0, data);
                    }
                }
                Reply::End { cid, status, result, .. } if cid == command.cid() => return (status, result, data),
                other => panic!("{other:?}"),
            }
        }
        panic!("no reply");
    }

    /// A write whose data the target asks for: they are sent in pieces of so many bytes.
    pub(crate) fn write(&mut self, disk: &mut RamDisk, command: Sqe, data: &[u8], piece: usize) -> u16 {
        self.capsule(command, &[]);
        for _ in 0..4 {
            for reply in self.run(disk) {
                match reply {
                    Reply::Ask { cid, tag, offset, bytes } => {
                        assert_eq!((cid, offset as usize + bytes as usize), (command.cid(), data.len()));
                        let mut at = offset as usize;
                        for part in data[at..].chunks(piece) {
                            let last = at + part.len() == data.len();
                            self.data(cid, tag, at as u32, part, last);
                            at += part.len();
                        }
                    }
                    Reply::End { cid, status, .. } if cid == command.cid() => return status,
                    other => panic!("{other:?}"),
                }
            }
        }
        panic!("no reply");
    }
}

/// Takes what was received apart; what is not whole stays.
pub(crate) fn take_replies(received: &mut Vec<u8>, digests: u8, alignment: usize) -> Vec<Reply> {
    let mut replies = Vec::new();
    while received.len() >= 8 {
        let [kind, flags, hlen, pdo] = received[..4].try_into().unwrap();
        let plen = u32::from_le_bytes(received[4..8].try_into().unwrap()) as usize;
        assert!(plen >= usize::from(hlen));
        if received.len() < plen {
            break;
        }
        let pdu: Vec<u8> = received.drain(..plen).collect();
        let u16_at = |at: usize| u16::from_le_bytes([pdu[at], pdu[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes(pdu[at..at + 4].try_into().unwrap());
        let digested = !matches!(kind, 1 | 3);
        let header_digest = usize::from(digested && digests & 1 != 0) * 4;
        assert_eq!(flags & 1 != 0, header_digest > 0, "the flag of the header digest");
        if header_digest > 0 {
            assert_eq!(u32_at(hlen.into()), crc32c(&pdu[..hlen.into()]), "the header digest");
        }
        replies.push(match kind {
            1 => {
                assert_eq!((hlen, plen, u16_at(8), pdu[10]), (128, 128, 0, 0));
                Reply::Init { digests: pdu[11], most: u32_at(12) }
            }
            3 => Reply::Terminated { error: u16_at(8), information: u32_at(10) },
            5 => {
                assert_eq!((usize::from(hlen), plen), (24, 24 + header_digest));
                let result = u64::from_le_bytes(pdu[8..16].try_into().unwrap());
                assert_eq!(pdu[22] & 1, 0, "no phase");
                Reply::End { cid: u16_at(20), status: u16_at(22) >> 1, result, head: u16_at(16) }
            }
            7 => {
                let (at, bytes) = (usize::from(pdo), u32_at(16) as usize);
                assert!(at.is_multiple_of(alignment) && at >= 24 + header_digest, "{at}");
                let data = pdu[at..at + bytes].to_vec();
                let data_digest = usize::from(digests & 2 != 0) * 4;
                assert_eq!(flags & 2 != 0, data_digest > 0, "the flag of the data digest");
                assert_eq!(plen, at + bytes + data_digest);
                if data_digest > 0 {
                    assert_eq!(u32_at(at + bytes), crc32c(&data), "the data digest");
                }
                let (last, success) = (flags & 4 != 0, flags & 8 != 0);
                Reply::Data { cid: u16_at(8), offset: u32_at(12), data, last, success }
            }
            9 => Reply::Ask { cid: u16_at(8), tag: u16_at(10), offset: u32_at(12), bytes: u32_at(16) },
            other => panic!("a PDU of type {other}"),
        });
    }
    replies
}

/// ICReq.
pub(crate) fn icreq(version: u16, alignment: u8, digests: u8) -> Vec<u8> {
    let mut bytes = vec![0; 128];
    bytes[..8].copy_from_slice(&[0, 0, 128, 0, 128, 0, 0, 0]);
    bytes[8..10].copy_from_slice(&version.to_le_bytes());
    (bytes[10], bytes[11]) = (alignment, digests);
    bytes
}

/// Any PDU with a header and perhaps data.
pub(crate) fn pdu(kind: u8, flags: u8, rest_of_header: &[u8], data: &[u8], digests: u8) -> Vec<u8> {
    let hlen = 8 + rest_of_header.len();
    let header_digest = usize::from(digests & 1 != 0) * 4;
    let data_digest = usize::from(digests & 2 != 0 && !data.is_empty()) * 4;
    let pdo = if data.is_empty() { 0 } else { hlen + header_digest };
    let plen = hlen + header_digest + data.len() + data_digest;
    let flags = flags | digests & 1 | if data_digest > 0 { 2 } else { 0 };
    let mut bytes = vec![kind, flags, hlen as u8, pdo as u8];
    bytes.extend_from_slice(&(plen as u32).to_le_bytes());
    bytes.extend_from_slice(rest_of_header);
    if header_digest > 0 {
        bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
    }
    bytes.extend_from_slice(data);
    if data_digest > 0 {
        bytes.extend_from_slice(&crc32c(data).to_le_bytes());
    }
    bytes
}

/// Connect, with its data.
pub(crate) fn connect(subsystem: &str, name: &str, qid: u16, cntlid: u16, kato: u32, attributes: u8) -> (Sqe, Vec<u8>) {
    let size = if qid == 0 { 31 } else { 127 };
    let command = Sqe::new(0x7f, 0xfff0, 1).dword(10, u32::from(qid) << 16);
    let command = command.dword(11, size | u32::from(attributes) << 16).dword(12, kato).carries(1024);
    let mut data = vec![0; 1024];
    data[..16].copy_from_slice(&[0x0b; 16]);
    data[16..18].copy_from_slice(&cntlid.to_le_bytes());
    data[256..256 + subsystem.len()].copy_from_slice(subsystem.as_bytes());
    data[512..512 + name.len()].copy_from_slice(name.as_bytes());
    (command, data)
}

/// Property Get of 4 bytes, or of 8.
pub(crate) fn property_get(cid: u16, offset: u32, eight: bool) -> Sqe {
    Sqe::new(0x7f, cid, 4).dword(10, eight.into()).dword(11, offset)
}

/// Property Set.
pub(crate) fn property_set(cid: u16, offset: u32, value: u32) -> Sqe {
    Sqe::new(0x7f, cid, 0).dword(11, offset).dword(12, value)
}

/// Identify.
pub(crate) fn identify(cid: u16, cns: u32, nsid: u32) -> Sqe {
    Sqe::new(0x06, cid, nsid).dword(10, cns).moves(4096)
}

/// Get Log Page of so many bytes, from an offset on.
pub(crate) fn log(cid: u16, page: u32, bytes: u32, offset: u32) -> Sqe {
    let dwords = bytes / 4 - 1;
    Sqe::new(0x02, cid, u32::MAX)
        .dword(10, page | (dwords & 0xffff) << 16)
        .dword(11, dwords >> 16)
        .dword(12, offset)
        .moves(bytes)
}

/// Set Features.
pub(crate) fn set_feature(cid: u16, feature: u32, value: u32) -> Sqe {
    Sqe::new(0x09, cid, 0).dword(10, feature).dword(11, value)
}
