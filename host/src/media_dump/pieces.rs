//! Which bytes of a medium describe data, and are none.
//!
//! Only what a sound info block or label says is believed. Where both copies of an info block are damaged, nothing tells
//! where data are: all of that arena but its info block is left out.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use btt::info_block::{InfoBlock, Version};
use btt::layout::{
    ARENA_MAX_BYTES, ARENA_MIN_BYTES, FLOG_GROUP_BYTES, MAP_ENTRY_BYTES, PAGE_BYTES, RawInfoBlock, SIGNATURE,
};
use nvdimm::finding::Findings;
use nvdimm::identity::DeviceHandle;
use nvdimm::label::{self, Claim, LabelError, LabelFlags, LabelSource, Labels};
use uuid::Uuid;
use zerocopy::{FromZeros as _, IntoBytes as _};

/// The sizes that a label area is looked for with: QEMU's least, in steps, to the most that is supported.
const AREA_BYTES: std::ops::RangeInclusive<u64> = 128 << 10..=16 << 20;
const AREA_STEP: usize = 4 << 10;

/// How an index block begins.
const INDEX_SIGNATURE: [u8; 16] = *b"NAMESPACE_INDEX\0";

/// Any handle will do: a file is one DIMM.
const DIMM: DeviceHandle = DeviceHandle(1);

/// Bytes of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where in the medium.
    pub at: u64,
    /// How many.
    pub bytes: u64,
    /// What they are: `arena 0: map`.
    pub what: String,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Pieces {
    /// The label area's size, at the medium's end; 0 if there is none.
    pub label_bytes: u64,
    /// What describes data.
    pub pieces: Vec<Piece>,
    /// What was left out that may not be expected to be, and why.
    pub left_out: Vec<String>,
}

impl Pieces {
    /// Looks at a medium of so many bytes. Its label area is `label_bytes` large; without that it is looked for.
    ///
    /// # Errors
    /// Those of the operating system. The label area is no larger than the medium.
    pub fn of(file: &File, bytes: u64, label_bytes: Option<u64>) -> io::Result<Self> {
        let mut found = Self::default();
        let labels = match label_bytes {
            Some(area) => area_of(file, bytes, area),
            None => look_for_labels(file, bytes)?,
        };
        found.label_bytes = labels.as_ref().map_or(0, |(area, _)| *area);
        let data = bytes - found.label_bytes;
        if found.label_bytes > 0 {
            found.add(data, found.label_bytes, "label area");
        }
        match labels.map(|(_, labels)| labels) {
            None | Some(Labels::None | Labels::Blank { .. }) => {
                if !found.add_btt(file, "namespace", 0..data, Version::V1_1)? {
                    found.left_out.push("the medium: there is no BTT, so nothing tells what is no data".into());
                }
            }
            Some(Labels::Damaged) => {
                found.left_out.push("the medium: its labels are damaged, so nothing tells where namespaces are".into());
            }
            Some(Labels::Valid(set)) => {
                for it in set.labels {
                    found.add_namespace(file, data, &it)?;
                }
            }
        }
        Ok(found)
    }

    fn add(&mut self, at: u64, bytes: u64, what: impl Into<String>) {
        self.pieces.push(Piece { at, bytes, what: what.into() });
    }

    /// Adds what a label leads to.
    fn add_namespace(&mut self, file: &File, data: u64, label: &label::Label) -> io::Result<()> {
        let name = format!("namespace {}", label.uuid);
        let version = match label.claim {
            Claim::None | Claim::Btt => Some(Version::V1_1),
            Claim::Btt2 => Some(Version::V2_0),
            Claim::Pfn | Claim::Dax | Claim::Unknown(_) => None,
        };
        let end = label.dpa + label.raw_bytes;
        let why = match version {
            _ if label.flags.contains(LabelFlags::LOCAL) => "it is behind windows, perhaps in several extents",
            _ if label.labels != 1 => "it is interleaved, and this is one of its DIMMs",
            _ if end > data => "its label leads past the medium's end",
            Some(version) if self.add_btt(file, &name, label.dpa..end, version)? => return Ok(()),
            _ => "it has no BTT, so all of it may be data",
        };
        self.left_out.push(format!("{name}: {why}"));
        Ok(())
    }

    /// Adds the BTT in a namespace; returns whether there is one.
    fn add_btt(&mut self, file: &File, name: &str, space: std::ops::Range<u64>, version: Version) -> io::Result<bool> {
        let bytes = space.end - space.start;
        let most = bytes / ARENA_MAX_BYTES + 16;
        let mut at = version.initial_offset().0;
        for arena in 0..most {
            let left = bytes.saturating_sub(at);
            if left < ARENA_MIN_BYTES {
                // Too small for one, or the end.
                return Ok(arena > 0);
            }
            let start = space.start + at;
            // As btt's own search has it: the arena's last page, or the namespace's last whole one.
            let copy_at = start + left.min(ARENA_MAX_BYTES) / PAGE_BYTES * PAGE_BYTES - PAGE_BYTES;
            let first = info_at(file, start)?;
            // A damaged one may tell of a copy elsewhere.
            let own_copy =
                start.checked_add(first.info2off.get()).filter(|at| *at > start && *at <= space.end - PAGE_BYTES);
            let mut places = vec![(start, first)];
            for at in [Some(copy_at), own_copy].into_iter().flatten() {
                places.push((at, info_at(file, at)?));
            }
            let sound = places.iter().find_map(|(_, raw)| decode(raw, version, left));
            let it = format!("{name}, arena {arena}");
            let Some(info) = sound else {
                let before = self.pieces.len();
                for (at, _) in places.into_iter().filter(|(_, raw)| raw.signature == SIGNATURE) {
                    self.add(at, PAGE_BYTES, format!("{it}: damaged info block"));
                }
                let is_one = arena > 0 || self.pieces.len() > before;
                if is_one {
                    self.left_out.push(format!("{it}: neither info block is sound, so nothing tells where its map is"));
                }
                return Ok(is_one);
            };
            // Judged to lie in the arena and to share no byte.
            let geometry = info.geometry;
            let (map, flog) = (u64::from(geometry.external_nlba), u64::from(geometry.nfree));
            self.add(start, PAGE_BYTES, format!("{it}: info block"));
            self.add(start + geometry.mapoff, map * MAP_ENTRY_BYTES, format!("{it}: map"));
            self.add(start + geometry.logoff, flog * FLOG_GROUP_BYTES, format!("{it}: flog"));
            self.add(start + geometry.info2off, PAGE_BYTES, format!("{it}: info block's copy"));
            if geometry.nextoff == 0 {
                break;
            }
            at += geometry.nextoff;
        }
        Ok(true)
    }
}

fn info_at(file: &File, at: u64) -> io::Result<RawInfoBlock> {
    let mut raw = RawInfoBlock::new_zeroed();
    file.read_exact_at(raw.as_mut_bytes(), at)?;
    Ok(raw)
}

/// The info block in these bytes, whosever it is.
fn decode(raw: &RawInfoBlock, version: Version, left: u64) -> Option<InfoBlock> {
    InfoBlock::decode(raw, version, Uuid::from_bytes(raw.parent_uuid), left).ok()
}

/// A label area of a known size, and what it holds.
fn area_of(file: &File, bytes: u64, area: u64) -> Option<(u64, Labels)> {
    let at = bytes - area;
    let mut source = AreaInFile { file, at, area };
    (area > 0).then(|| (area, label::read(&mut source, DIMM, label::LABELS_MAX, &mut Findings::default())))
}

/// The label area at the medium's end, if one begins there that is sound.
fn look_for_labels(file: &File, bytes: u64) -> io::Result<Option<(u64, Labels)>> {
    for area in AREA_BYTES.step_by(AREA_STEP).take_while(|area| *area < bytes) {
        let mut begins = [0; INDEX_SIGNATURE.len()];
        file.read_exact_at(&mut begins, bytes - area)?;
        // Of the usual size, one whose first index block is damaged is found by its second one, too.
        if begins != INDEX_SIGNATURE && area != *AREA_BYTES.start() {
            continue;
        }
        if let Some(found @ (_, Labels::Valid(_))) = area_of(file, bytes, area) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// A label area in a file.
struct AreaInFile<'a> {
    file: &'a File,
    at: u64,
    area: u64,
}

impl LabelSource for AreaInFile<'_> {
    fn area_bytes(&mut self, _: DeviceHandle) -> Result<Option<u64>, LabelError> {
        Ok(Some(self.area))
    }

    fn read(&mut self, _: DeviceHandle, offset: u64, into: &mut [u8]) -> Result<(), LabelError> {
        let is_inside = offset.checked_add(into.len() as u64).is_some_and(|end| end <= self.area);
        if !is_inside {
            return Err(LabelError::OutOfRange);
        }
        self.file.read_exact_at(into, self.at + offset).map_err(|_| LabelError::NoAnswer)
    }
}
