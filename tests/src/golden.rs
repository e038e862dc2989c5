//! The golden images under `fixtures/golden`: BTTs that an unmodified Linux made, and what they must read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::dimm::Dimm;

/// What is known of an image. Fields as in its JSON; the folder's README has their meaning.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct Golden {
    pub id: String,
    pub labels: Option<String>,
    pub file_size: u64,
    pub label_size: u64,
    pub namespaces: Vec<GoldenNamespace>,
    pub linux: Value,
}

/// One namespace of an image.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct GoldenNamespace {
    /// External sector size, metadata bytes included.
    pub lbasize: u32,
    /// The data part of it.
    pub io_size: u32,
    pub nlba: u64,
    /// Where it is in the file.
    pub ns_offset: u64,
    pub ns_size: u64,
    pub btt_offset_in_ns: u64,
    pub btt_version: String,
    pub btt_uuid: String,
    pub parent_uuid: String,
    pub geometry: Geometry,
    pub map_counts: MapCounts,
    /// Flog entries whose map update is missing.
    pub pending: Vec<Value>,
    /// LBA → sha256 in hex, or `EIO`.
    pub expected: BTreeMap<u64, String>,
    /// LBA → the versions that it may have.
    #[serde(default)]
    pub allowed: BTreeMap<u64, [String; 2]>,
}

/// The geometry of the first arena.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct Geometry {
    pub ext_lbasize: u32,
    pub int_lbasize: u32,
    pub ext_nlba: u32,
    pub int_nlba: u32,
    pub nfree: u32,
    pub nextoff: u64,
    pub dataoff: u64,
    pub mapoff: u64,
    pub logoff: u64,
    pub info2off: u64,
}

/// How many map entries of each kind there are.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct MapCounts {
    pub initial: u64,
    pub error: u64,
    pub trim: u64,
    pub normal: u64,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden")
}

/// All images, by name.
///
/// # Panics
/// When one cannot be read.
#[must_use]
pub fn all() -> Vec<Golden> {
    let files = fs::read_dir(folder()).expect("there are golden images");
    let mut ids: Vec<String> =
        files.filter_map(|file| Some(file.ok()?.file_name().to_str()?.strip_suffix(".json")?.to_owned())).collect();
    ids.sort();
    ids.iter().map(|id| named(id)).collect()
}

/// The image of that name.
///
/// # Panics
/// When there is none, or its description is not understood.
#[must_use]
pub fn named(id: &str) -> Golden {
    let text = fs::read_to_string(folder().join(format!("{id}.json"))).unwrap_or_else(|error| panic!("{id}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{id}.json: {error}"))
}

impl Golden {
    /// The image, as an NVDIMM.
    ///
    /// # Panics
    /// When it cannot be unpacked.
    #[must_use]
    pub fn unpack(&self) -> Dimm {
        let mut dimm = Dimm::blank(self.file_size);
        dimm.label_bytes = self.label_size;
        let packed = folder().join(format!("{}.img.zst", self.id));
        if packed.exists() {
            unpack_zstd(&packed, &dimm);
        } else {
            unpack_sparse(&folder().join(format!("{}.sparse.tsv", self.id)), &dimm);
        }
        dimm
    }
}

fn unpack_zstd(packed: &Path, dimm: &Dimm) {
    let packed = File::open(packed).unwrap_or_else(|error| panic!("{}: {error}", packed.display()));
    let mut image = ruzstd::decoding::StreamingDecoder::new(packed).expect("a golden image is zstd");
    let (mut piece, mut at) = (vec![0; 64 << 10], 0);
    loop {
        let bytes = image.read(&mut piece).expect("a golden image unpacks");
        if bytes == 0 {
            break;
        }
        put_unless_zero(dimm, at, &piece[..bytes]);
        at += bytes as u64;
    }
    assert_eq!(at, dimm.file().metadata().expect("an NVDIMM file has a size").len(), "the image has another size");
}

fn unpack_sparse(packed: &Path, dimm: &Dimm) {
    let text = fs::read_to_string(packed).unwrap_or_else(|error| panic!("{}: {error}", packed.display()));
    for line in text.lines().skip(1) {
        let [at, bytes, data] = line.split('\t').collect::<Vec<_>>().try_into().expect("an offset, a length, bytes");
        let data = STANDARD.decode(data).expect("the bytes are base64");
        let data = miniz_oxide::inflate::decompress_to_vec_zlib(&data).expect("the bytes are zlib");
        assert_eq!(data.len().to_string(), bytes);
        dimm.put(at.parse().expect("an offset is a number"), &data);
    }
}

/// Leaves holes where there is nothing.
fn put_unless_zero(dimm: &Dimm, at: u64, bytes: &[u8]) {
    if bytes.iter().any(|&byte| byte != 0) {
        dimm.file().write_all_at(bytes, at).expect("an NVDIMM file is written");
    }
}

/// A sector's data as the descriptions name it.
#[must_use]
pub fn digest(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}
