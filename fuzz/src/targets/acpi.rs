//! The firmware's tables but for the NFIT.

use boot::root_pointer::{ROOT_POINTER_BYTES, RootTable};
use kernel::tables::cedt::Cedt;
use kernel::tables::fadt::Fadt;
use kernel::tables::madt::Madt;
use kernel::tables::{Table, host_bridges, mcfg, sleep};

/// Each reader on the bytes as they are, and as if the firmware had meant them.
pub(super) fn run(bytes: &[u8]) {
    read(bytes);
    let mut meant = bytes.to_vec();
    seal(&mut meant);
    read(&meant);
    if let Some(pointer) = bytes.first_chunk::<ROOT_POINTER_BYTES>() {
        let mut pointer = *pointer;
        let _ = RootTable::read(&pointer);
        pointer[..8].copy_from_slice(b"RSD PTR ");
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
        pointer[8] = pointer[8].wrapping_add(sum(&pointer[..20]));
        pointer[32] = pointer[32].wrapping_add(sum(&pointer));
        let _ = RootTable::read(&pointer);
    }
}

fn read(bytes: &[u8]) {
    let _ = sleep::find_off(bytes);
    assert!(host_bridges::count(bytes) <= bytes.len() / 5, "each has its bytes");
    let Ok(table) = Table::check(bytes) else { return };
    if let Ok(madt) = Madt::read(&table) {
        let mut cpus = madt.cpus.clone();
        cpus.sort_unstable();
        assert!(cpus.windows(2).all(|pair| pair[0] < pair[1]), "each CPU once");
        assert!(madt.broken_at.is_none_or(|at| at < bytes.len()), "it broke within the table");
    }
    let _ = Fadt::read(&table);
    let cedt = Cedt::read(&table);
    assert!(cedt.broken_at.is_none_or(|at| at < bytes.len()), "it broke within the table");
    let described = cedt.bridges.len() + cedt.windows.iter().map(|window| window.targets.len()).sum::<usize>();
    assert!(described <= bytes.len() / 4, "each host bridge and each target has its bytes");
    if let Ok((bridge, windows)) = cedt.one_way() {
        assert!(windows.iter().all(|window| window.targets == [bridge.uid]), "one way to one host bridge");
    }
    let ranges = mcfg::read(&table).unwrap_or_default();
    assert!(ranges.len() <= bytes.len() / 16, "each range has its bytes");
}

/// Sets a table's length and checksum, if it has room for them.
pub(super) fn seal(table: &mut [u8]) {
    let length = u32::try_from(table.len()).unwrap_or(u32::MAX);
    if let Some(field) = table.get_mut(4..8) {
        field.copy_from_slice(&length.to_le_bytes());
    }
    if let Some(field) = table.get_mut(9) {
        *field = 0;
        let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
        table[9] = sum;
    }
}
