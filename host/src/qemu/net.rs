//! A network device: its option, and QEMU's options for it.

/// What the first device's address begins with, "un" among it; the device's number ends it.
const MAC: &str = "52:54:00:75:6e";

/// QEMU's `-netdev` without its id, and the address of the device that uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetWords {
    /// What kind of network: `user`, `stream`.
    kind: String,
    /// The rest, from its comma on.
    rest: String,
    mac: Option<String>,
}

impl NetWords {
    /// Reads `NETDEV[,mac=ADDRESS]`. A comma that is twice stands in a value, as QEMU has it.
    ///
    /// # Errors
    /// The fault, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = split(text).into_iter();
        let kind = words.next().unwrap_or_default();
        if kind.is_empty() || kind.contains('=') {
            return Err(format!("'{text}' does not begin with a kind of network, such as user or stream"));
        }
        let (mut rest, mut mac) = (String::new(), None);
        for word in words {
            if word.starts_with("id=") {
                return Err(format!("'{word}': the id is net0 for the first one, and so on"));
            }
            match word.strip_prefix("mac=") {
                Some(address) if is_mac(address) => mac = Some(address.to_owned()),
                Some(_) => return Err(format!("'{word}' is no address of a device: six bytes as 52:54:00:12:34:56")),
                None => rest.extend([",", &word]),
            }
        }
        Ok(Self { kind, rest, mac })
    }

    /// Returns QEMU's options for the device of this number, which is at this place on PCI.
    pub(super) fn arguments(&self, number: usize, address: &str) -> [String; 4] {
        let Self { kind, rest, mac } = self;
        let mac = mac.clone().unwrap_or_else(|| format!("{MAC}:{number:02x}"));
        // Without a ROM to boot from, which needs another package.
        let device = format!("virtio-net-pci,netdev=net{number},mac={mac},romfile=,disable-legacy=on,addr={address}");
        ["-netdev".into(), format!("{kind},id=net{number}{rest}"), "-device".into(), device]
    }
}

/// Splits at single commas; those that are twice stay so.
fn split(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut rest = text;
    while let Some(at) = rest.find(',') {
        let (before, after) = rest.split_at(at);
        let twice = after.starts_with(",,");
        let word = words.last_mut().expect("there is one from the start");
        word.push_str(before);
        if twice {
            word.push_str(",,");
        } else {
            words.push(String::new());
        }
        rest = &after[if twice { 2 } else { 1 }..];
    }
    words.last_mut().expect("there is one from the start").push_str(rest);
    words
}

/// Whether it is an address that one device can have.
fn is_mac(text: &str) -> bool {
    let bytes: Vec<&str> = text.split(':').collect();
    let is_byte = |text: &str| text.len() == 2 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let byte = |text: &str| is_byte(text).then(|| u8::from_str_radix(text, 16).ok()).flatten();
    let bytes: Option<Vec<u8>> = bytes.into_iter().map(byte).collect();
    bytes.is_some_and(|bytes| bytes.len() == 6 && bytes[0] & 1 == 0 && bytes.iter().any(|byte| *byte != 0))
}

#[cfg(test)]
mod tests {
    use super::NetWords;

    #[test]
    fn a_netdev_gets_its_id_and_a_device() {
        for (text, number, netdev, mac) in [
            ("user", 0, "user,id=net0", "52:54:00:75:6e:00"),
            (
                "user,hostfwd=tcp:127.0.0.1:4420-:4420",
                17,
                "user,id=net17,hostfwd=tcp:127.0.0.1:4420-:4420",
                "52:54:00:75:6e:11",
            ),
            (
                "stream,server=off,mac=52:54:00:ab:CD:ef,addr.type=unix,addr.path=a,,mac=b",
                1,
                "stream,id=net1,server=off,addr.type=unix,addr.path=a,,mac=b",
                "52:54:00:ab:CD:ef",
            ),
        ] {
            let words = NetWords::parse(text).expect("a netdev");
            let [_, found, _, device] = words.arguments(number, "1.0");
            assert_eq!(found, netdev);
            let expected = format!("virtio-net-pci,netdev=net{number},mac={mac},romfile=,disable-legacy=on,addr=1.0");
            assert_eq!(device, expected);
        }
    }

    #[test]
    fn what_is_no_netdev_is_refused_by_its_word() {
        for (text, said) in [
            ("", "a kind of network"),
            (",server=on", "a kind of network"),
            ("mac=52:54:00:12:34:56", "a kind of network"),
            ("user,id=mine", "id=mine"),
            ("user,mac=", "mac="),
            ("user,mac=52:54:00:12:34", "six bytes"),
            ("user,mac=52:54:00:12:34:5", "six bytes"),
            ("user,mac=53:54:00:12:34:56", "six bytes"),
            ("user,mac=00:00:00:00:00:00", "six bytes"),
            ("user,mac=52:54:00:12:34:+6", "six bytes"),
            ("user,mac=52:54:00:12:34:56:78", "six bytes"),
        ] {
            let refused = NetWords::parse(text);
            assert!(refused.as_ref().is_err_and(|why| why.contains(said)), "{text}: {refused:?}");
        }
    }
}
