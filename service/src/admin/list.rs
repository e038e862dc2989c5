//! `list`: the inventory in ndctl's JSON, key for key and in its order (ndctl 76 to 81: ndctl/list.c, ndctl/json.c).
//!
//! How types nest: DIMMs and regions in their bus, namespaces in their region; where the outer type is not asked for,
//! the inner ones stand by themselves, and several of those in one object. With nothing to show, the reply is `[]`, and
//! its text is empty.
//!
//! Ours, and not ndctl's: the `btt` object at the end of a namespace in sector mode; of a namespace that is not as it should
//! be, `state` with another word than "disabled", and `reason`; with -M, the bad blocks of one in sector mode. Not ours: `scrub_state`, `security`
//! and firmware, which need DIMM commands that no DIMM here has (ndctl leaves them out, too, where it cannot ask);
//! `capabilities` has the one mode that we can make.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::filter::Names;
use crate::inventory::{self, BadBlocks, BttState, Inventory, RegionType, SECTOR_SIZES};

/// The choice of what `list` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// `-B`: buses.
    pub buses: bool,
    /// `-D`: DIMMs.
    pub dimms: bool,
    /// `-R`: regions.
    pub regions: bool,
    /// `-N`: namespaces; the default when no type is asked for.
    pub namespaces: bool,
    /// `-i`: what is disabled, too.
    pub idle: bool,
    /// `-H`: the DIMMs' health.
    pub health: bool,
    /// `-M`: bad blocks.
    pub media_errors: bool,
    /// `-u`: numbers for people.
    pub human: bool,
    /// Only what has these names.
    pub names: Names,
    /// `-v`, counted: 1 adds details and bad blocks, 2 all types, 3 everything.
    pub verbose: u8,
}

/// The parts to show: a request with the meaning of `-v` worked in.
#[derive(Clone, Copy)]
struct Choice {
    buses: bool,
    dimms: bool,
    regions: bool,
    namespaces: bool,
    idle: bool,
    health: bool,
    /// Details: raw uuids, NUMA nodes.
    verbose: bool,
    /// Bad blocks one by one.
    media_errors: bool,
    /// Those of a BTT, too.
    of_btts: bool,
    human: bool,
    capabilities: bool,
}

impl Choice {
    const fn new(request: &ListRequest) -> Self {
        let all_types = request.verbose >= 2;
        let buses = request.buses || all_types;
        let dimms = request.dimms || all_types;
        let regions = request.regions || all_types;
        Self {
            buses,
            dimms,
            regions,
            namespaces: request.namespaces || request.verbose >= 1 || !(buses || dimms || regions),
            idle: request.idle || request.verbose >= 3,
            health: request.health || request.verbose >= 3,
            verbose: request.verbose >= 1,
            media_errors: request.media_errors || request.verbose >= 1,
            of_btts: request.media_errors,
            human: request.human,
            capabilities: request.verbose >= 3,
        }
    }
}

/// The JSON that ndctl would print, on one line.
#[must_use]
pub fn list(inventory: &Inventory, request: &ListRequest) -> String {
    let choice = Choice::new(request);
    let inventory = &request.names.of(inventory);
    if choice.buses {
        return json(&inventory.buses.iter().map(|found| bus(found, choice)).collect::<Vec<_>>());
    }
    let found = Platform {
        dimms: some(inventory.buses.iter().flat_map(|bus| dimms(bus, choice)).collect()),
        regions: some(inventory.buses.iter().flat_map(|bus| regions(bus, choice)).collect()),
        namespaces: some(inventory.buses.iter().flat_map(|bus| loose_namespaces(bus, choice)).collect()),
    };
    match found {
        Platform { dimms: None, regions: None, namespaces: None } => "[]".into(),
        Platform { dimms: Some(dimms), regions: None, namespaces: None } => json(&dimms),
        // Namespaces inside regions count as another type.
        Platform { dimms: None, regions: Some(regions), namespaces: None }
            if regions.iter().all(|region| region.namespaces.is_none()) =>
        {
            json(&regions)
        }
        Platform { dimms: None, regions: None, namespaces: Some(namespaces) } => json(&namespaces),
        several => json(&several),
    }
}

/// One namespace as `list -N` shows it.
#[must_use]
pub fn namespace_json(found: &inventory::Namespace) -> String {
    json(&namespace(found, &[], Choice::new(&ListRequest::default())))
}

/// These shapes have string keys and plain values: they always serialise.
fn json(shape: &impl Serialize) -> String {
    serde_json::to_string(shape).expect("numbers, texts and lists always have a JSON form")
}

/// A number that ndctl writes for people with -u (util/json.c).
#[derive(Clone, Copy)]
enum Number {
    Plain(u64),
    /// Bytes, with units from 5000 KiB on.
    Size(u64),
    /// In base 16.
    Hex(u64),
}

impl Choice {
    const fn size(self, bytes: u64) -> Number {
        if self.human { Number::Size(bytes) } else { Number::Plain(bytes) }
    }

    const fn hex(self, number: u64) -> Number {
        if self.human { Number::Hex(number) } else { Number::Plain(number) }
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const UNITLESS: u64 = 5000 << 10;
        match *self {
            Self::Plain(number) => serializer.serialize_u64(number),
            Self::Size(bytes) if bytes < UNITLESS => serializer.serialize_u64(bytes),
            Self::Size(bytes) => serializer.collect_str(&format_args!("{} ({})", binary(bytes), decimal(bytes))),
            // C's %#llx.
            Self::Hex(0) => serializer.serialize_str("0"),
            Self::Hex(number) => serializer.collect_str(&format_args!("{number:#x}")),
        }
    }
}

/// The largest unit of which there are two at least, from the second on.
fn unit<const N: usize>(bytes: u64, units: [(u64, &'static str); N]) -> (u64, &'static str) {
    units.into_iter().rev().find(|(unit, _)| bytes / 2 >= *unit).unwrap_or(units[0])
}

/// `256.00 MiB`.
fn binary(bytes: u64) -> String {
    let (unit, name) = unit(bytes, [(1 << 20, "MiB"), (1 << 30, "GiB"), (1 << 40, "TiB")]);
    let hundredths = (u128::from(bytes) * 200 / u128::from(unit)).div_ceil(2);
    format!("{}.{:02} {name}", hundredths / 100, hundredths % 100)
}

/// `268.44 MB`.
fn decimal(bytes: u64) -> String {
    let (unit, name) = unit(bytes, [(1_000_000, "MB"), (1_000_000_000, "GB"), (1_000_000_000_000, "TB")]);
    let hundredths = (bytes / (unit / 200)).div_ceil(2);
    format!("{}.{:02} {name}", hundredths / 100, hundredths % 100)
}

/// ndctl leaves a list out that would be empty.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

const fn yes(flag: bool) -> Option<bool> {
    if flag { Some(true) } else { None }
}

const fn disabled(enabled: bool) -> Option<&'static str> {
    if enabled { None } else { Some("disabled") }
}

#[derive(Serialize)]
struct Platform<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    dimms: Option<Vec<Dimm<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    regions: Option<Vec<Region<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespaces: Option<Vec<Namespace<'a>>>,
}

#[derive(Serialize)]
struct Bus<'a> {
    provider: &'a str,
    dev: &'a str,
    #[serde(flatten)]
    contents: Platform<'a>,
}

fn bus(found: &inventory::Bus, choice: Choice) -> Bus<'_> {
    Bus {
        provider: &found.provider,
        dev: &found.dev,
        contents: Platform {
            dimms: some(dimms(found, choice)),
            regions: some(regions(found, choice)),
            namespaces: some(loose_namespaces(found, choice)),
        },
    }
}

#[derive(Serialize)]
struct Dimm<'a> {
    dev: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phys_id: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flag_failed_map: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flag_failed_save: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flag_failed_arm: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flag_failed_restore: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flag_failed_flush: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flag_smart_event: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health<'a>>,
}

#[derive(Serialize)]
struct Health<'a> {
    health_state: &'a str,
}

fn dimms(bus: &inventory::Bus, choice: Choice) -> Vec<Dimm<'_>> {
    let shown = bus.dimms.iter().filter(|dimm| choice.dimms && (dimm.enabled || choice.idle));
    shown
        .map(|dimm| Dimm {
            dev: &dimm.dev,
            id: dimm.id.as_deref(),
            handle: dimm.handle.map(|handle| choice.hex(handle.into())),
            phys_id: dimm.phys_id.map(|id| choice.hex(id.into())),
            state: disabled(dimm.enabled),
            flag_failed_map: yes(dimm.flags.failed_map),
            flag_failed_save: yes(dimm.flags.failed_save),
            flag_failed_arm: yes(dimm.flags.failed_arm),
            flag_failed_restore: yes(dimm.flags.failed_restore),
            flag_failed_flush: yes(dimm.flags.failed_flush),
            flag_smart_event: yes(dimm.flags.smart_event),
            health: dimm
                .health
                .as_ref()
                .filter(|_| choice.health)
                .map(|health| Health { health_state: &health.health_state }),
        })
        .collect()
}

#[derive(Serialize)]
struct Region<'a> {
    dev: &'a str,
    size: Number,
    #[serde(skip_serializing_if = "Option::is_none")]
    align: Option<Number>,
    available_size: Number,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_available_extent: Option<Number>,
    #[serde(rename = "type")]
    region_type: RegionType,
    #[serde(skip_serializing_if = "Option::is_none")]
    numa_node: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iset_id: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mappings: Option<Vec<Mapping<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    badblock_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    badblocks: Option<Vec<BadBlock<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<[Capability; 1]>,
    persistence_domain: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespaces: Option<Vec<Namespace<'a>>>,
}

#[derive(Serialize)]
struct Mapping<'a> {
    dimm: &'a str,
    offset: Number,
    length: Number,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u32>,
}

#[derive(Serialize)]
struct BadBlock<'a> {
    offset: u64,
    length: u64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    dimms: &'a [String],
}

#[derive(Serialize)]
struct Capability {
    mode: &'static str,
    sector_sizes: [u32; SECTOR_SIZES.len()],
}

fn regions(bus: &inventory::Bus, choice: Choice) -> Vec<Region<'_>> {
    let shown = bus.regions.iter().filter(|region| choice.regions && (region.enabled || choice.idle));
    shown
        .map(|region| Region {
            dev: &region.dev,
            size: choice.size(region.size),
            align: region.align.map(|bytes| choice.size(bytes)),
            available_size: choice.size(region.available_size),
            max_available_extent: region.max_available_extent.map(|bytes| choice.size(bytes)),
            region_type: region.region_type,
            numa_node: region.numa_node.filter(|_| choice.verbose),
            iset_id: region.iset_id.map(|id| choice.hex(id)),
            mappings: some(mappings(bus, region, choice)),
            state: disabled(region.enabled),
            badblock_count: badblock_count(&region.badblocks),
            badblocks: badblocks(&region.badblocks, choice),
            capabilities: choice.capabilities.then_some([Capability { mode: "sector", sector_sizes: SECTOR_SIZES }]),
            persistence_domain: region.persistence_domain.as_str(),
            namespaces: some(namespaces(region, choice).collect()),
        })
        .collect()
}

fn mappings<'a>(bus: &inventory::Bus, region: &'a inventory::Region, choice: Choice) -> Vec<Mapping<'a>> {
    let enabled = |name: &str| bus.dimms.iter().any(|dimm| dimm.dev == name && dimm.enabled);
    let shown = region.mappings.iter().filter(|map| choice.dimms && (choice.idle || enabled(&map.dimm)));
    shown
        .map(|map| Mapping {
            dimm: &map.dimm,
            offset: choice.hex(map.offset),
            length: choice.hex(map.length),
            position: map.position,
        })
        .collect()
}

fn badblock_count(found: &[BadBlocks]) -> Option<u64> {
    let count = found.iter().fold(0, |sum: u64, run| sum.saturating_add(run.length));
    (count > 0).then_some(count)
}

fn badblocks(found: &[BadBlocks], choice: Choice) -> Option<Vec<BadBlock<'_>>> {
    let runs = found.iter().filter(|_| choice.media_errors);
    some(runs.map(|run| BadBlock { offset: run.offset, length: run.length, dimms: &run.dimms }).collect())
}

#[derive(Serialize)]
struct Namespace<'a> {
    dev: &'a str,
    mode: &'static str,
    size: Number,
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_uuid: Option<Uuid>,
    sector_size: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    blockdev: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    numa_node: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    badblock_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    badblocks: Option<Vec<BadBlock<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    btt: Option<Btt<'a>>,
}

#[derive(Serialize)]
struct Btt<'a> {
    uuid: Uuid,
    version: String,
    arenas: u32,
    nfree: u32,
    lanes: u32,
    flog_slots: [u8; 2],
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// The namespaces that no region in the reply holds.
fn loose_namespaces(bus: &inventory::Bus, choice: Choice) -> Vec<Namespace<'_>> {
    let regions = bus.regions.iter().filter(|_| !choice.regions);
    regions.flat_map(|region| namespaces(region, choice)).collect()
}

fn namespaces(region: &inventory::Region, choice: Choice) -> impl Iterator<Item = Namespace<'_>> {
    let shown = region.namespaces.iter().filter(move |found| choice.namespaces && (found.enabled || choice.idle));
    shown.map(move |found| namespace(found, &region.badblocks, choice))
}

fn namespace<'a>(found: &'a inventory::Namespace, region_badblocks: &'a [BadBlocks], choice: Choice) -> Namespace<'a> {
    let btt = found.btt.as_ref();
    Namespace {
        dev: &found.dev,
        mode: if btt.is_some() { "sector" } else { "raw" },
        size: choice.size(found.size),
        uuid: btt.map(|btt| btt.uuid).or(found.label_uuid),
        raw_uuid: found.label_uuid.filter(|_| choice.verbose && btt.is_some()),
        sector_size: found.sector_size,
        blockdev: found.blockdev.as_deref(),
        state: found.fault.as_ref().filter(|_| found.enabled).map(|fault| fault.state).or(disabled(found.enabled)),
        reason: found.fault.as_ref().map(|fault| fault.reason.as_str()),
        name: found.name.as_deref().filter(|name| !name.is_empty()),
        numa_node: found.numa_node.filter(|_| choice.verbose),
        badblock_count: Some(found.badblock_count).filter(|count| *count > 0),
        // ndctl lists a raw namespace's bad blocks as its region's, and none for a BTT.
        badblocks: match btt {
            None => badblocks(region_badblocks, choice),
            Some(_) if choice.of_btts => badblocks(&found.badblocks, choice),
            Some(_) => None,
        },
        btt: btt.map(|btt| Btt {
            uuid: btt.uuid,
            version: format!("{}.{}", btt.version.0, btt.version.1),
            arenas: btt.arenas,
            nfree: btt.nfree,
            lanes: btt.lanes,
            flog_slots: [btt.flog_slots.0, btt.flog_slots.1],
            state: match btt.state {
                BttState::Active => "active",
                BttState::ReadOnly(_) => "read-only",
            },
            reason: match &btt.state {
                BttState::Active => None,
                BttState::ReadOnly(why) => Some(why),
            },
        }),
    }
}
