//! The image's command line: `KEY=VALUE` words between blanks. `service::config::keys` has the keys.

use service::config::Key;

/// Returns the values of a key, in order.
pub fn values<'a>(line: &'a str, key: &str) -> impl DoubleEndedIterator<Item = &'a str> {
    words(line).filter_map(move |(found, value)| (found == key).then_some(value))
}

/// Returns the keys that look like ours and are none: slips. Others are a loader's or another system's, and Firecracker has
/// some of Linux's by default.
pub fn slips(line: &str) -> impl Iterator<Item = &str> {
    let is_ours = |key: &&str| key.starts_with("pmem.") || key.starts_with("nvme.");
    words(line).map(|(key, _)| key).filter(is_ours).filter(|key| Key::named(key).is_none())
}

/// Returns the words, each with its key and its value.
pub fn words(line: &str) -> impl DoubleEndedIterator<Item = (&str, &str)> {
    line.split_ascii_whitespace().filter_map(|word| word.split_once('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_key_has_its_values_and_no_other_keys() {
        let line =
            "image a=b net0=off net10=dhcp net1=1 net1=2 xnet2=3 net3 net=4 nvme.allow=a=b,c net0x=5 nvme.exports=x";
        assert_eq!(values(line, "net1").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(values(line, "net10").next_back(), Some("dhcp"));
        assert_eq!(values(line, "net3").next(), None);
        assert_eq!(values(line, "nvme.allow").collect::<Vec<_>>(), ["a=b,c"]);
        assert_eq!(slips(line).collect::<Vec<_>>(), ["nvme.exports"]);
    }
}
