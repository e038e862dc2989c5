//! The least that a host of NVMe/TCP says (NVMe/TCP Transport 1.0, Fabrics in Base 2.0): what opens a queue, reads and
//! writes. No digests; flow control is off, so that the last data of a read are its reply.

/// The bytes of ICReq and ICResp.
pub const INIT_BYTES: usize = 128;

/// The bytes of a common header, and of a command with it.
const COMMON_BYTES: usize = 8;
const CAPSULE_BYTES: usize = COMMON_BYTES + 64;

// PDU types.
const COMMAND: u8 = 4;
/// A reply without data: CapsuleResp.
pub const RESPONSE: u8 = 5;
/// Data of a read: C2HData.
pub const DATA: u8 = 7;

// Opcodes, and types of Fabrics commands.
const FABRICS: u8 = 0x7f;
const PROPERTY_SET: u8 = 0;
const CONNECT: u8 = 1;
const WRITE: u8 = 1;
const READ: u8 = 2;

/// CC with EN, and the sizes of queue entries.
const CC: u32 = 0x14;
const CC_ENABLE: u32 = 0x46_0001;

/// Any controller: the target chooses.
pub const ANY_CONTROLLER: u16 = 0xffff;

/// ICReq.
#[must_use]
pub fn init_request() -> Vec<u8> {
    let mut pdu = vec![0; INIT_BYTES];
    pdu[2] = 128;
    pdu[4] = 128;
    pdu
}

/// A command capsule. `sgl` is the kind of its data's descriptor.
fn capsule(opcode: u8, cid: u16, specific: u32, dwords: [u32; 4], sgl: (u8, u32), data: &[u8]) -> Vec<u8> {
    let bytes = u32::try_from(CAPSULE_BYTES + data.len()).expect("a capsule is short");
    let mut pdu = Vec::with_capacity(bytes as usize);
    pdu.extend_from_slice(&[COMMAND, 0, 72, if data.is_empty() { 0 } else { 72 }]);
    pdu.extend_from_slice(&bytes.to_le_bytes());
    pdu.extend_from_slice(&[opcode, 0x40]);
    pdu.extend_from_slice(&cid.to_le_bytes());
    pdu.extend_from_slice(&specific.to_le_bytes());
    pdu.resize(COMMON_BYTES + 32, 0);
    pdu.extend_from_slice(&sgl.1.to_le_bytes());
    pdu.extend_from_slice(&[0, 0, 0, sgl.0]);
    dwords.iter().for_each(|dword| pdu.extend_from_slice(&dword.to_le_bytes()));
    pdu.resize(CAPSULE_BYTES, 0);
    pdu.extend_from_slice(data);
    pdu
}

/// The descriptors of data in the capsule, and of data that the transport moves.
const IN_CAPSULE: u8 = 0x01;
const TRANSPORT: u8 = 0x5a;

/// Connect: a queue of 32 commands to a subsystem, without a keep-alive time.
///
/// # Panics
/// If a name is longer than 223 bytes.
#[must_use]
pub fn connect(subsystem: &str, host: &str, queue: u16, controller: u16) -> Vec<u8> {
    const ENTRIES_LESS_ONE: u32 = 31;
    const NO_FLOW_CONTROL: u32 = 1 << 18;
    let mut data = vec![0; 1024];
    data[..16].fill(0x0b);
    data[16..18].copy_from_slice(&controller.to_le_bytes());
    for (at, name) in [(256, subsystem), (512, host)] {
        assert!(name.len() < 224, "a name is short");
        data[at..at + name.len()].copy_from_slice(name.as_bytes());
    }
    let dwords = [u32::from(queue) << 16, ENTRIES_LESS_ONE | NO_FLOW_CONTROL, 0, 0];
    capsule(FABRICS, 0, CONNECT.into(), dwords, (IN_CAPSULE, 1024), &data)
}

/// Enables the controller.
#[must_use]
pub fn enable() -> Vec<u8> {
    capsule(FABRICS, 0, PROPERTY_SET.into(), [0, CC, CC_ENABLE, 0], (TRANSPORT, 0), &[])
}

fn split(lba: u64) -> [u32; 2] {
    [u32::try_from(lba & u64::from(u32::MAX)).expect("32 bits"), u32::try_from(lba >> 32).expect("32 bits")]
}

/// Read, of one sector of so many bytes.
#[must_use]
pub fn read(cid: u16, lba: u64, bytes: u32) -> Vec<u8> {
    let [low, high] = split(lba);
    capsule(READ, cid, 1, [low, high, 0, 0], (TRANSPORT, bytes), &[])
}

/// Write, of one sector, in the capsule.
///
/// # Panics
/// If there are more data than a capsule takes.
#[must_use]
pub fn write(cid: u16, lba: u64, data: &[u8]) -> Vec<u8> {
    let [low, high] = split(lba);
    let bytes = u32::try_from(data.len()).expect("a sector is short");
    capsule(WRITE, cid, 1, [low, high, 0, 0], (IN_CAPSULE, bytes), data)
}

/// A PDU that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pdu {
    /// Its type.
    pub kind: u8,
    /// All of its bytes.
    pub bytes: usize,
    /// Of [`RESPONSE`] and [`DATA`]: the command that it is about.
    pub cid: u16,
    /// Of [`RESPONSE`]: its status; 0 is success.
    pub status: u16,
}

/// Returns the first PDU, if all of it is there.
#[must_use]
pub fn next(received: &[u8]) -> Option<Pdu> {
    let common = received.get(..COMMON_BYTES)?;
    let kind = common[0];
    let bytes = u32::from_le_bytes(common[4..8].try_into().expect("four bytes")) as usize;
    if received.len() < bytes.max(COMMON_BYTES) {
        return None;
    }
    let word = |at: usize| received.get(at..at + 2).map_or(0, |two| u16::from_le_bytes([two[0], two[1]]));
    let (cid, status) = match kind {
        RESPONSE => (word(20), word(22) >> 1),
        DATA => (word(8), 0),
        _ => (0, 0),
    };
    Some(Pdu { kind, bytes, cid, status })
}
