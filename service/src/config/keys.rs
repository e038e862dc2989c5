//! The keys. A key that is not here may be a newer version's: it is kept with its value, and does nothing.

use alloc::string::String;

use crate::admin::suggest::nearest;

/// A key that means something.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name. [`INTERFACE`]'s stands for all of `net0`, `net1`, …
    pub name: &'static str,
    /// The value that it has if nobody gives it one.
    pub default: &'static str,
    /// The form of its values.
    pub form: Form,
    /// When it takes effect.
    pub when: When,
    /// Values that it may have on every machine, beside its default.
    pub words: &'static [&'static str],
    /// What it does, in a line.
    pub summary: &'static str,
}

/// The form of a key's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One value. The last one counts where there are several.
    One,
    /// Items, a comma between. Where there are several values, all items count.
    Items,
}

/// When a key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once.
    AtOnce,
    /// Before any medium is read: only the command line can have it.
    OnCommandLine,
    /// By itself, when the rest is saved.
    BySave,
}

/// `netN`.
pub const INTERFACE: &str = "netN";

/// The name of the console's.
pub const CONSOLE: &str = "console";
/// The name of the one about a console's colours.
pub const CONSOLE_COLOR: &str = "console.color";
/// The name of the one about a console's pages.
pub const CONSOLE_PAGER: &str = "console.pager";
/// The name of the one that keeps namespaces disabled.
pub const DISABLED: &str = "disabled";
/// The name of the bridge's devices.
pub const EXPORT: &str = "export";
/// The name of the port of pages.
pub const METRICS: &str = "metrics";
/// The name of the one that has what names stood for.
pub const NAMES: &str = "names";
/// The name of the hosts that may connect.
pub const NVME_ALLOW: &str = "nvme.allow";
/// The name of NVMe/TCP's devices.
pub const NVME_EXPORT: &str = "nvme.export";
/// The name of the watchdog's time.
pub const WATCHDOG: &str = "watchdog";
/// The name of the one about old firmware's memory.
pub const PMEM_TYPE12: &str = "pmem.type12";

const fn key(name: &'static str, default: &'static str, form: Form, summary: &'static str) -> Key {
    Key { name, default, form, when: When::AtOnce, words: &[], summary }
}

impl Key {
    const fn with(mut self, words: &'static [&'static str]) -> Self {
        self.words = words;
        self
    }

    const fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }
}

/// All keys, by name.
pub static KEYS: &[Key] = &[
    key(CONSOLE, "person", Form::One, "how the console talks: person, text or json").with(&["person", "text", "json"]),
    key(CONSOLE_COLOR, "off", Form::One, "errors in red on a person's console: on or off").with(SWITCH),
    key(CONSOLE_PAGER, "on", Form::One, "long replies page by page, on a terminal that tells its size: on or off")
        .with(SWITCH),
    key(DISABLED, "none", Form::Items, "namespaces that stay disabled, or none"),
    key(EXPORT, "all", Form::Items, "devices that the bridge is offered, or all, or none").with(&["all"]),
    key(METRICS, "off", Form::One, "the TCP port of a page for people, and of /metrics for Prometheus, or off"),
    key(NAMES, "none", Form::Items, "what the names in other keys stood for when they were saved: NAME:UUID")
        .when(When::BySave),
    key(INTERFACE, "dhcp", Form::One, "an interface's addresses: dhcp, off, or ADDRESS/PREFIX,…,gateway=ADDRESS")
        .with(&["dhcp", "off"]),
    key(NVME_ALLOW, "none", Form::Items, "hosts that may connect: HOSTNQN or any, then =NQN, then =SECRET, or none")
        .with(&["any"]),
    key(NVME_EXPORT, "none", Form::Items, "devices that are served by NVMe/TCP: DEV or DEV=NQN, or none"),
    key(PMEM_TYPE12, "off", Form::One, "use memory of type 12, of old firmware: on or off; on the command line only")
        .with(SWITCH)
        .when(When::OnCommandLine),
    key(
        WATCHDOG,
        "off",
        Form::One,
        "seconds after which a stuck CPU restarts the machine, as a panic does then, or off",
    ),
];

/// The values of a key that is on or off.
const SWITCH: &[&str] = &["on", "off"];

impl Key {
    /// Returns the key of that name. [`INTERFACE`] itself is none.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        let row = match interface(name) {
            Some(_) => INTERFACE,
            None if name == INTERFACE => return None,
            None => name,
        };
        KEYS.iter().find(|key| key.name == row)
    }
}

/// Returns the key that was meant by a name of none: one that is near to it, whatever its case.
#[must_use]
pub fn meant(name: &str) -> Option<String> {
    let small = name.to_ascii_lowercase();
    match interface(&small) {
        Some(_) => Some(small),
        None => nearest(&small, KEYS.iter().map(|key| if key.name == INTERFACE { "net0" } else { key.name }))
            .map(Into::into),
    }
}

/// Returns the number of the interface that a key is for: 7 for `net7`. One that is too long is no interface's either.
#[must_use]
pub fn interface(name: &str) -> Option<usize> {
    let digits = name.strip_prefix("net").filter(|digits| !digits.is_empty())?;
    // Each has one name: no net00.
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().unwrap_or(usize::MAX))
}

/// Returns a value's items: what stands between the commas. `none` has none.
pub fn items(value: &str) -> impl DoubleEndedIterator<Item = &str> {
    value.split(',').filter(|item| !item.is_empty() && *item != "none")
}

/// Returns the parts of an item of `nvme.export`: the device, and its subsystem's name, if it has one of its own.
#[must_use]
pub fn served(item: &str) -> (&str, Option<&str>) {
    item.split_once('=').map_or((item, None), |(dev, nqn)| (dev, Some(nqn)))
}

/// Returns the value of these items.
pub fn of_items<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let mut value = String::new();
    for item in items {
        if !value.is_empty() {
            value.push(',');
        }
        value += item;
    }
    if value.is_empty() { "none".into() } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn keys_are_sorted_and_found_by_name() {
        assert!(KEYS.is_sorted_by_key(|key| key.name));
        assert_eq!(Key::named("net12").map(|key| key.name), Some("netN"));
        assert_eq!(Key::named("export").map(|key| key.default), Some("all"));
        for no_key in ["netN", "net", "netx", "net00", "net07", "net1x", "Export", ""] {
            assert_eq!(Key::named(no_key), None, "{no_key}");
        }
        assert_eq!(interface("net99999999999999999999999"), Some(usize::MAX));
    }

    #[test]
    fn a_slip_is_near_to_a_key_and_other_systems_words_are_not() {
        for (slip, key) in [
            ("watchdg", "watchdog"),
            ("metrcs", "metrics"),
            ("net", "net0"),
            ("netO", "net0"),
            ("net00", "net0"),
            ("netN", "net0"),
            ("NET12", "net12"),
            ("console.colour", "console.color"),
            ("CONSOLE.PAGER", "console.pager"),
            ("nvme.alow", "nvme.allow"),
            ("Export", "export"),
        ] {
            assert_eq!(meant(slip).as_deref(), Some(key), "{slip}");
        }
        // What GRUB, Firecracker, dracut and people who come from Linux write.
        for word in "BOOT_IMAGE root rootfstype rootflags init initrd panic reboot pci acpi apic ip rd.luks.uuid resume mem \
                     memmap maxcpus nr_cpus nohz isolcpus loglevel consoleblank earlycon earlyprintk nmi_watchdog vga video \
                     tsc clocksource iommu intel_iommu idle mitigations net.ifnames netdev netroot nfsroot nameserver \
                     virtio_mmio.device i8042.noaux 8250.nr_uarts nvme_core.multipath memhp_default_state selinux audit \
                     systemd.unit modules crashkernel hugepages default_hugepagesz rw edd x nosuchword pmem.other"
            .split_whitespace()
        {
            assert_eq!(meant(word), None, "{word}");
        }
    }

    #[test]
    fn items_stand_between_commas_and_none_are_none() {
        assert_eq!(items("a,,b").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((items("none").count(), items("").count()), (0, 0));
        assert_eq!((of_items(["a", "b"]).as_str(), of_items([]).as_str()), ("a,b", "none"));
    }
}
