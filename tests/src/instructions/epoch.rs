//! What is durable at each fence, in a form in which two traces compare.
//!
//! An epoch ends with a fence. Of each piece that was stored in it, the form has where it is, what was stored, and
//! whether the fence covers it: it does if the piece was streamed, or if its line was written back after it. A trace of
//! the simulated medium streams a range as one event; the machine streams it in vectors, and where a range begins or
//! ends inside a line, stores those pieces through the cache and writes the line back, which is durable by the same
//! fence. The order of a
//! line's other stores is compared by itself, [`line_orders`]. A fence that covers nothing ends no epoch: the machine has one
//! where the simulated medium only orders stores (`Medium::order_stores`).

use btt::sim::{Event, Pending, Persistence};

/// One piece, and what the fence makes of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    /// Where it is.
    pub at: u64,
    /// What was stored.
    pub bytes: Vec<u8>,
    /// Whether the fence covers it.
    pub covered: bool,
}

/// What one epoch stored.
pub type Epoch = Vec<Piece>;

/// The epochs of a trace; the last one has no fence at its end.
#[must_use]
pub fn epochs(events: &[Event]) -> Vec<Epoch> {
    let mut all = Vec::new();
    let mut pending = Pending::new(Persistence::Lines);
    for event in events {
        match event {
            Event::Store { at, bytes } => pending.store(0, at.0, bytes, false),
            Event::Stream { at, bytes } => pending.store(0, at.0, bytes, true),
            Event::WriteBack { at, bytes } => pending.write_back(0, at.0, *bytes),
            Event::Fence => all.extend(close(&mut pending, true)),
        }
    }
    all.extend(close(&mut pending, false));
    all
}

/// Ends an epoch, unless with a fence that covers nothing. What no fence has covered is listed again at the end of each
/// epoch, until one does.
fn close(pending: &mut Pending, fence: bool) -> Option<Epoch> {
    let mut pieces: Vec<Piece> = Vec::new();
    if fence {
        pending.fence(0, |store| {
            pieces.push(Piece { at: store.at(), bytes: store.bytes().to_vec(), covered: true });
        });
    }
    if fence && pieces.is_empty() {
        return None;
    }
    for store in pending.stores() {
        pieces.push(Piece { at: store.at(), bytes: store.bytes().to_vec(), covered: false });
    }
    // Single bytes at a ragged end make whole pieces, as the simulated medium has them.
    pieces.sort_by_key(|piece| piece.at);
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        match joined.last_mut() {
            Some(last)
                if last.at / 8 == piece.at / 8
                    && last.at + last.bytes.len() as u64 == piece.at
                    && last.covered == piece.covered =>
            {
                last.bytes.extend(piece.bytes);
            }
            _ => joined.push(piece),
        }
    }
    Some(joined)
}

/// For each line, its cached stores in the order in which they came: what must be a prefix after a cut.
#[must_use]
pub fn line_orders(events: &[Event], is_streamed: impl Fn(u64) -> bool) -> Vec<(u64, Vec<u64>)> {
    let mut lines: Vec<(u64, Vec<u64>)> = Vec::new();
    for event in events {
        if let Event::Store { at, .. } = event
            && !is_streamed(at.0)
        {
            match lines.iter_mut().find(|(line, _)| *line == at.0 / 64) {
                Some((_, order)) => order.push(at.0),
                None => lines.push((at.0 / 64, vec![at.0])),
            }
        }
    }
    lines.sort();
    lines
}
