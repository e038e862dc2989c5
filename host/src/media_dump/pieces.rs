//! Which bytes of a medium describe data, and are none.
//!
//! Only what a sound info block or label says is believed. Where both copies of an info block are damaged, nothing tells
//! where data are: all of that arena but its info block is left out.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use btt::chain::{arenas_max, backup_at};
use btt::info_block::{InfoBlock, Version};
use btt::layout::{ARENA_MIN_BYTES, FLOG_GROUP_BYTES, MAP_ENTRY_BYTES, PAGE_BYTES, RawInfoBlock, SIGNATURE};
use btt::media::NsOffset;
use nvdimm::finding::Findings;
use nvdimm::identity::DeviceHandle;
use nvdimm::label::{self, Claim, INDEX_SIGNATURE, LabelError, LabelFlags, LabelSource, Labels};
use uuid::Uuid;
use zerocopy::{FromZeros as _, IntoBytes as _};

/// The sizes that a label area is looked for with: QEMU's least, in steps, to the most that is supported.
const AREA_BYTES: std::ops::RangeInclusive<u64> = 128 << 10..=16 << 20;
const AREA_STEP: usize = 4 << 10;

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
    /// The label area is no larger than the medium. What cannot be read is not sound.
    #[must_use]
    pub fn of(file: &File, bytes: u64, label_bytes: Option<u64>) -> Self {
        let mut found = Self::default();
        let labels = match label_bytes {
            Some(area) => area_of(file, bytes, area),
            None => look_for_labels(file, bytes),
        };
        found.label_bytes = labels.as_ref().map_or(0, |(area, _)| *area);
        let data = bytes - found.label_bytes;
        if found.label_bytes > 0 {
            found.add(data, found.label_bytes, "label area");
        }
        match labels.map(|(_, labels)| labels) {
            None | Some(Labels::None | Labels::Blank { .. }) => {
                if !found.add_btt(file, "namespace", 0..data, Version::V1_1) {
                    found.left_out.push("the medium: there is no BTT, so nothing tells what is no data".into());
                }
            }
            Some(Labels::Damaged) => {
                found.left_out.push("the medium: its labels are damaged, so nothing tells where namespaces are".into());
            }
            Some(Labels::Valid(set)) => {
                for it in set.labels {
                    found.add_namespace(file, data, &it);
                }
            }
        }
        found
    }

    fn add(&mut self, at: u64, bytes: u64, what: impl Into<String>) {
        self.pieces.push(Piece { at, bytes, what: what.into() });
    }

    /// Adds what a label leads to.
    fn add_namespace(&mut self, file: &File, data: u64, label: &label::Label) {
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
            Some(version) if self.add_btt(file, &name, label.dpa..end, version) => return,
            _ => "it has no BTT, so all of it may be data",
        };
        self.left_out.push(format!("{name}: {why}"));
    }

    /// Adds the BTT in a namespace; returns whether there is one.
    fn add_btt(&mut self, file: &File, name: &str, space: std::ops::Range<u64>, version: Version) -> bool {
        let bytes = space.end - space.start;
        let mut at = version.initial_offset().0;
        for arena in 0..arenas_max(bytes) {
            let left = bytes.saturating_sub(at);
            if left < ARENA_MIN_BYTES {
                // Too small for one, or the end.
                return arena > 0;
            }
            let start = space.start + at;
            let NsOffset(copy_at) = backup_at(NsOffset(start), left);
            let first = info_at(file, start);
            // A damaged one may tell of a copy elsewhere.
            let is_elsewhere = |at: &u64| *at > start && *at <= space.end - PAGE_BYTES;
            let own_copy = start.checked_add(first.info2off.get()).filter(is_elsewhere);
            let own_copy = own_copy.filter(|_| first.signature == SIGNATURE);
            let mut places = vec![(start, first)];
            places.extend([Some(copy_at), own_copy].into_iter().flatten().map(|at| (at, info_at(file, at))));
            // A copy is of this arena if it says that it stands there.
            let is_of = |at: u64, info: &InfoBlock| at == start || start + info.geometry.info2off == at;
            let sound = places.iter().find_map(|(at, raw)| decode(raw, version, left).filter(|info| is_of(*at, info)));
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
                return is_one;
            };
            // Judged to lie in the arena and to share no byte.
            let geometry = info.geometry;
            let (map, flog) = (u64::from(geometry.external_nlba), u64::from(geometry.nfree));
            self.add(start, PAGE_BYTES, format!("{it}: info block"));
            self.add(start + geometry.mapoff, map * MAP_ENTRY_BYTES, format!("{it}: map"));
            self.add(start + geometry.logoff, flog * FLOG_GROUP_BYTES, format!("{it}: flog"));
            self.add(start + geometry.info2off, PAGE_BYTES, format!("{it}: info block's copy"));
            if geometry.nextoff == 0 {
                return true;
            }
            at += geometry.nextoff;
        }
        self.left_out.push(format!("{name}: it has more arenas than there is room for"));
        true
    }
}

/// The bytes where an info block is to be: zeroes, if they cannot be read.
fn info_at(file: &File, at: u64) -> RawInfoBlock {
    let mut raw = RawInfoBlock::new_zeroed();
    match file.read_exact_at(raw.as_mut_bytes(), at) {
        Ok(()) => raw,
        Err(_) => RawInfoBlock::new_zeroed(),
    }
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
fn look_for_labels(file: &File, bytes: u64) -> Option<(u64, Labels)> {
    for area in AREA_BYTES.step_by(AREA_STEP).take_while(|area| *area < bytes) {
        let mut begins = [0; INDEX_SIGNATURE.len()];
        let is_read = file.read_exact_at(&mut begins, bytes - area).is_ok();
        // Of the usual size, one whose first index block is damaged is found by its second one, too.
        if !(is_read && begins == *INDEX_SIGNATURE) && area != *AREA_BYTES.start() {
            continue;
        }
        if let Some(found @ (_, Labels::Valid(_))) = area_of(file, bytes, area) {
            return Some(found);
        }
    }
    None
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
