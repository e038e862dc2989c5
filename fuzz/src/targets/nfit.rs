//! The NFIT: from bytes to regions and namespaces.

use nvdimm::discover;
use nvdimm::label::NoLabels;

use super::sound;

/// As the bytes are, and as if the firmware had meant them. Whatever they are, what is found is sound.
pub(super) fn run(bytes: &[u8]) {
    sound::check(&discover(&[bytes], &mut NoLabels));
    let mut meant = bytes.to_vec();
    super::acpi::seal(&mut meant);
    sound::check(&discover(&[&meant], &mut NoLabels));
    // Some firmware has several tables: they are one to us.
    let (first, second) = meant.split_at(meant.len() / 2);
    let mut halves = [first.to_vec(), [bytes.get(..40).unwrap_or_default(), second].concat()];
    halves.iter_mut().for_each(|half| super::acpi::seal(half));
    sound::check(&discover(&halves, &mut NoLabels));
}
