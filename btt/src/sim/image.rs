//! A medium's bytes, cheap to copy: a base that all copies share, and the pages that differ from it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

const PAGE: usize = 4096;

/// Bytes with copies that share what they have in common.
#[derive(Clone, Debug)]
pub(super) struct Image {
    /// Zeroes follow, up to `len`.
    base: Arc<Vec<u8>>,
    len: usize,
    pages: BTreeMap<usize, Box<[u8; PAGE]>>,
}

impl Image {
    /// `bytes`, and zeroes up to `len`, which take no memory.
    pub(super) fn new(bytes: Vec<u8>, len: usize) -> Self {
        Self { len, base: Arc::new(bytes), pages: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Copies bytes out; the range lies within the image.
    pub(super) fn read(&self, at: usize, into: &mut [u8]) {
        let mut done = 0;
        while done < into.len() {
            let (page, offset) = ((at + done) / PAGE, (at + done) % PAGE);
            let count = (PAGE - offset).min(into.len() - done);
            let part = &mut into[done..done + count];
            match self.pages.get(&page) {
                Some(own) => part.copy_from_slice(&own[offset..offset + count]),
                None => copy_or_zero(part, &self.base, at + done),
            }
            done += count;
        }
    }

    /// Copies bytes in; the range lies within the image.
    pub(super) fn write(&mut self, at: usize, from: &[u8]) {
        let mut done = 0;
        while done < from.len() {
            let (page, offset) = ((at + done) / PAGE, (at + done) % PAGE);
            let count = (PAGE - offset).min(from.len() - done);
            let base = &self.base;
            let own = self.pages.entry(page).or_insert_with(|| {
                let mut copy = Box::new([0; PAGE]);
                copy_or_zero(&mut copy[..], base, page * PAGE);
                copy
            });
            own[offset..offset + count].copy_from_slice(&from[done..done + count]);
            done += count;
        }
    }

    /// All bytes.
    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = alloc::vec![0; self.len()];
        self.read(0, &mut bytes);
        bytes
    }
}

/// Copies what `base` has from `at` on; zeroes follow its end.
fn copy_or_zero(into: &mut [u8], base: &[u8], at: usize) {
    let shared = base.get(at..).unwrap_or_default();
    let count = shared.len().min(into.len());
    into[..count].copy_from_slice(&shared[..count]);
    into[count..].fill(0);
}
