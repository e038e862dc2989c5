//! The messages of one queue's authentication, from the controller's side (NVMe Base 2.0, sections 8.13.4 and 8.13.5).
//!
//! | the host sends | we reply | then |
//! |---|---|---|
//! | Negotiate: protocols, hashes, groups | Challenge: a hash, a group and our value of it, C1, S1 | |
//! | Reply: its response to C1, its value; perhaps C2, S2 | Success1: perhaps our response to C2 | without C2 it is authenticated |
//! | Success2 | | with C2 it is authenticated |
//!
//! Whatever else comes is replied to with Failure1, and the connection ends.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::group::{Exchange, Group};
use super::hash::{Hash, same};
use super::secret::Secrets;
use crate::name::Nqn;
use crate::random::Random;

/// AUTH_TYPE: of all protocols, and of this one.
const COMMON: u8 = 0;
const DH_HMAC_CHAP: u8 = 1;

/// AUTH_ID.
const NEGOTIATE: u8 = 0x00;
const CHALLENGE: u8 = 0x01;
const REPLY: u8 = 0x02;
const SUCCESS1: u8 = 0x03;
const SUCCESS2: u8 = 0x04;
const FAILURE1: u8 = 0xf1;

/// The header of Challenge, Reply and Success1; and Failure1.
const HEADER_BYTES: usize = 16;
const FAILURE_BYTES: usize = 8;

/// The protocol's identifier in Negotiate, and the group without Diffie-Hellman.
const PROTOCOL: u8 = 1;
const NULL_GROUP: u8 = 0;
/// Where the lists of hashes and groups are in a protocol's descriptor, and how long they may be.
const HASHES_AT: usize = 4;
const GROUPS_AT: usize = 34;
const LIST_MOST: usize = 30;
const DESCRIPTOR_BYTES: usize = 64;

/// Why it failed (figure 453).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Reason {
    Failed = 1,
    NotUsable = 2,
    ConcatenationMismatch = 3,
    HashNotUsable = 4,
    GroupNotUsable = 5,
    IncorrectPayload = 6,
    IncorrectMessage = 7,
}

/// What was said so far.
enum State {
    /// Negotiate is awaited.
    Begin,
    /// Challenge is due.
    Challenge { hash: Hash, group: Option<Group> },
    /// Reply is awaited.
    Challenged { hash: Hash, exchange: Option<Exchange>, challenge: Vec<u8>, sequence: u32 },
    /// Success1 is due, with our response if the host wants one.
    Proved { hash: Hash, response: Option<Vec<u8>> },
    /// Success2 is awaited.
    Responded,
    /// It has ended well.
    Done,
    /// Failure1 is due.
    Failed(Reason),
    /// It was said, or the host has ended it.
    Over,
}

/// The dialogue.
pub(crate) struct Dialogue {
    secrets: Arc<Secrets>,
    host: Nqn,
    subsystem: Nqn,
    random: Random,
    transaction: u16,
    state: State,
    authenticated: bool,
    /// How often the host has begun without proving itself since.
    attempts: u8,
}

/// How often a host may begin before it has proved itself: each exchange of a group costs milliseconds.
const ATTEMPTS_MOST: u8 = 3;

impl Dialogue {
    /// Between that host and that subsystem.
    pub(crate) fn new(secrets: Arc<Secrets>, host: Nqn, subsystem: Nqn, random: Random) -> Self {
        let state = State::Begin;
        Self { secrets, host, subsystem, random, transaction: 0, state, authenticated: false, attempts: 0 }
    }

    /// Whether the host has proved itself.
    pub(crate) const fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// Whether it has failed for good: the connection is to end.
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Takes a message of the host.
    pub(crate) fn take(&mut self, message: &[u8]) {
        self.state = match self.judge(message) {
            Ok(state) => state,
            Err(reason) => State::Failed(reason),
        };
    }

    fn judge(&mut self, message: &[u8]) -> Result<State, Reason> {
        let [kind, id, _, _, t0, t1, rest @ ..] = message else { return Err(Reason::IncorrectPayload) };
        let transaction = u16::from_le_bytes([*t0, *t1]);
        if (*kind, *id) == (COMMON, NEGOTIATE) {
            // It may begin anew at any time, but not again and again.
            self.attempts += 1;
            if self.attempts > ATTEMPTS_MOST {
                return Err(Reason::IncorrectMessage);
            }
            self.transaction = transaction;
            return negotiate(rest);
        }
        let state = core::mem::replace(&mut self.state, State::Begin);
        match (*kind, *id, state) {
            _ if transaction != self.transaction => Err(Reason::IncorrectPayload),
            (DH_HMAC_CHAP, REPLY, State::Challenged { hash, exchange, challenge, sequence }) => {
                self.check(message, hash, exchange, &challenge, sequence)
            }
            (DH_HMAC_CHAP, SUCCESS2, State::Responded) => {
                (self.authenticated, self.attempts) = (true, 0);
                Ok(State::Done)
            }
            // Failure2: the host does not believe us.
            (COMMON, 0xf0, _) => {
                self.authenticated = false;
                Ok(State::Over)
            }
            _ => Err(Reason::IncorrectMessage),
        }
    }

    /// Checks Reply.
    fn check(
        &mut self,
        message: &[u8],
        hash: Hash,
        exchange: Option<Exchange>,
        challenge: &[u8],
        sequence: u32,
    ) -> Result<State, Reason> {
        let bytes = usize::from(hash.bytes());
        let header = message.first_chunk::<HEADER_BYTES>().ok_or(Reason::IncorrectPayload)?;
        let [.., length, _, wants_response, _, d0, d1, s0, s1, s2, s3] = *header;
        let values = &message[HEADER_BYTES..];
        let value_bytes = usize::from(u16::from_le_bytes([d0, d1]));
        if usize::from(length) != bytes || values.len() < 2 * bytes + value_bytes {
            return Err(Reason::IncorrectPayload);
        }
        let (value, values) = (&values[2 * bytes..][..value_bytes], &values[..2 * bytes]);
        // Both challenges are bound to what only the two ends can know (section 8.13.5.3).
        let augment: Vec<Vec<u8>> = match exchange {
            None if value.is_empty() => values[bytes..].chunks(bytes).chain([challenge]).map(Vec::from).collect(),
            None => return Err(Reason::IncorrectPayload),
            Some(exchange) => {
                let secret = exchange.secret(value).ok_or(Reason::IncorrectPayload)?;
                let key = hash.digest(&secret);
                [&values[bytes..], challenge].iter().map(|challenge| hash.hmac(&key, &[challenge])).collect()
            }
        };
        let ([theirs, challenge], response) = (<[_; 2]>::try_from(augment).expect("two"), &values[..bytes]);
        let key = self.secrets.host.key(&self.host);
        let expected = self.response(hash, &key, &challenge, sequence, b"HostHost", [&self.host, &self.subsystem]);
        if !same(response, &expected) {
            return Err(Reason::Failed);
        }
        if wants_response & 1 == 0 {
            return Ok(State::Proved { hash, response: None });
        }
        let secret = self.secrets.controller.as_ref().ok_or(Reason::Failed)?;
        let (key, sequence) = (secret.key(&self.subsystem), u32::from_le_bytes([s0, s1, s2, s3]));
        let names = [&self.subsystem, &self.host];
        Ok(State::Proved { hash, response: Some(self.response(hash, &key, &theirs, sequence, b"Controller", names)) })
    }

    /// A response to a challenge (section 8.13.5.4 and .5): no bit of it is of use elsewhere.
    fn response(
        &self,
        hash: Hash,
        key: &[u8],
        challenge: &[u8],
        sequence: u32,
        role: &[u8],
        names: [&Nqn; 2],
    ) -> Vec<u8> {
        let [first, second] = names.map(|name| name.as_str().as_bytes());
        let (sequence, transaction) = (sequence.to_le_bytes(), self.transaction.to_le_bytes());
        // SC_C is 0: no secure channel follows.
        hash.hmac(key, &[challenge, &sequence, &transaction, &[0], role, first, &[0], second])
    }

    /// The message that is due.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let transaction = self.transaction.to_le_bytes();
        let header = |id: u8, hash: Hash, ninth: u8| {
            let mut message = Vec::from([0; HEADER_BYTES]);
            message[..2].copy_from_slice(&[DH_HMAC_CHAP, id]);
            message[4..6].copy_from_slice(&transaction);
            message[6] = hash.bytes();
            message[8] = ninth;
            message
        };
        match core::mem::replace(&mut self.state, State::Over) {
            State::Challenge { hash, group } => {
                let mut challenge = Vec::from([0; 64]);
                challenge.truncate(hash.bytes().into());
                self.random.fill(&mut challenge);
                let mut sequence = [0; 4];
                self.random.fill(&mut sequence);
                let mut message = header(CHALLENGE, hash, hash as u8);
                message[12..16].copy_from_slice(&sequence);
                message.extend_from_slice(&challenge);
                // Without these bytes it is the NULL group, which has no values.
                let exchange = group.map(|group| Exchange::new(group, &self.random));
                if let Some(exchange) = &exchange {
                    message[9] = exchange.group as u8;
                    message[10..12].copy_from_slice(&exchange.group.bytes().to_le_bytes());
                    message.extend_from_slice(&exchange.public());
                }
                self.state = State::Challenged { hash, exchange, challenge, sequence: u32::from_le_bytes(sequence) };
                message
            }
            State::Proved { hash, response } => {
                let mut message = header(SUCCESS1, hash, response.is_some().into());
                match response {
                    Some(response) => {
                        message.extend_from_slice(&response);
                        self.state = State::Responded;
                    }
                    None => {
                        (self.authenticated, self.attempts) = (true, 0);
                        self.state = State::Done;
                    }
                }
                message
            }
            State::Failed(reason) => self.failure(reason),
            // Nothing is due.
            _ => self.failure(Reason::IncorrectMessage),
        }
    }

    /// Failure1.
    fn failure(&mut self, reason: Reason) -> Vec<u8> {
        const AUTHENTICATION_FAILED: u8 = 1;
        self.authenticated = false;
        let mut message = Vec::from([0; FAILURE_BYTES]);
        message[..2].copy_from_slice(&[COMMON, FAILURE1]);
        message[4..6].copy_from_slice(&self.transaction.to_le_bytes());
        message[6..].copy_from_slice(&[AUTHENTICATION_FAILED, reason as u8]);
        message
    }
}

/// Negotiate, from SC_C on: takes the first hash that the host names and we have, and the first group that
/// we name and the host has.
fn negotiate(rest: &[u8]) -> Result<State, Reason> {
    let [channel, protocols, descriptors @ ..] = rest else { return Err(Reason::IncorrectPayload) };
    if *channel != 0 {
        return Err(Reason::ConcatenationMismatch);
    }
    // Others may come beside it.
    let mut descriptors = descriptors.chunks_exact(DESCRIPTOR_BYTES).take(usize::from(*protocols));
    let ours = descriptors.find(|descriptor| descriptor[0] == PROTOCOL).ok_or(Reason::NotUsable)?;
    let [hashes, groups] = [usize::from(ours[2]), usize::from(ours[3])];
    if hashes > LIST_MOST || groups > LIST_MOST {
        return Err(Reason::IncorrectPayload);
    }
    let hash = ours[HASHES_AT..HASHES_AT + hashes].iter().find_map(|id| Hash::from_id(*id));
    let hash = hash.ok_or(Reason::HashNotUsable)?;
    let theirs = &ours[GROUPS_AT..GROUPS_AT + groups];
    let group = Group::ALL.into_iter().find(|group| theirs.contains(&(*group as u8)));
    if group.is_none() && !theirs.contains(&NULL_GROUP) {
        return Err(Reason::GroupNotUsable);
    }
    Ok(State::Challenge { hash, group })
}
