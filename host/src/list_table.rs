//! `untornctl list --table`: the reply to `list` as tables, for people. Without it, what `ndctl list` prints.

use serde_json::Value;

use crate::top::{bytes, name};

/// The devices of a reply, by kind.
#[derive(Default)]
struct Devices<'a> {
    dimms: Vec<&'a Value>,
    regions: Vec<&'a Value>,
    namespaces: Vec<&'a Value>,
}

impl<'a> Devices<'a> {
    /// Finds them, however they nest.
    fn find(&mut self, value: &'a Value) {
        let kinds = [("nmem", &mut self.dimms), ("region", &mut self.regions), ("namespace", &mut self.namespaces)];
        for (begin, devices) in kinds {
            if value["dev"].as_str().is_some_and(|dev| dev.starts_with(begin)) {
                devices.push(value);
            }
        }
        match value {
            Value::Array(values) => values.iter().for_each(|value| self.find(value)),
            Value::Object(members) => members.values().for_each(|value| self.find(value)),
            _ => {}
        }
    }
}

/// The reply to `list`, in JSON, as tables: one for each kind of device that it has. Nothing for nothing.
#[must_use]
pub fn tables(reply: &Value) -> String {
    let mut devices = Devices::default();
    devices.find(&reply["result"]);
    // With -u the appliance has put them into words.
    let size = |value: &Value| value.as_f64().map_or_else(|| name(value), bytes);
    let dimms = devices.dimms.iter().map(|dimm| {
        [name(&dimm["dev"]), name(&dimm["id"]), state(dimm, "active"), name(&dimm["health"]["health_state"])].to_vec()
    });
    let regions = devices.regions.iter().map(|region| {
        let texts = [name(&region["dev"]), name(&region["type"]), size(&region["size"])];
        [&texts[..], &[size(&region["available_size"]), state(region, "active")]].concat()
    });
    let namespaces = devices.namespaces.iter().map(|namespace| {
        let texts = [name(&namespace["dev"]), name(&namespace["name"]), name(&namespace["mode"])];
        let sector = namespace["sector_size"].as_u64().map_or_else(String::new, |bytes| bytes.to_string());
        let usual = namespace["btt"]["state"].as_str().unwrap_or("active");
        let rest = [size(&namespace["size"]), sector, name(&namespace["blockdev"]), state(namespace, usual)];
        [&texts[..], &rest].concat()
    });
    let tables = [
        table(&["DIMM", "ID", "STATE", "HEALTH"], dimms.collect()),
        table(&["REGION", "TYPE", "SIZE", "FREE", "STATE"], regions.collect()),
        table(&["NAMESPACE", "NAME", "MODE", "SIZE", "SECTOR", "DISK", "STATE"], namespaces.collect()),
    ];
    tables.into_iter().filter(|table| !table.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The state of a device, and why it has it: a reason, or the flags that are set.
fn state(device: &Value, usual: &str) -> String {
    let state = device["state"].as_str().unwrap_or(usual);
    let reasons = [&device["reason"], &device["btt"]["reason"]].into_iter().filter_map(Value::as_str);
    let flags = device.as_object().into_iter().flatten().filter(|(_, value)| **value == Value::Bool(true));
    let flags = flags.filter_map(|(key, _)| key.strip_prefix("flag_"));
    let why: Vec<&str> = reasons.chain(flags).collect();
    let text = if why.is_empty() { state.to_owned() } else { format!("{state}: {}", why.join(", ")) };
    name(&text.into())
}

/// Rows below a heading, in columns as wide as they must be. Columns without a text are left out.
fn table(heading: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let columns = (0..heading.len()).filter(|column| rows.iter().any(|row| !row[*column].is_empty()));
    let columns: Vec<usize> = columns.collect();
    let heading: Vec<String> = heading.iter().map(|text| (*text).to_owned()).collect();
    let width = |column: usize| std::iter::once(&heading).chain(&rows).map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = columns.iter().map(|&column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = columns.iter().zip(&widths);
        let line: String = cells.map(|(&column, width)| format!("{:<width$}  ", row[column])).collect();
        format!("{}\n", line.trim_end())
    };
    std::iter::once(&heading).chain(&rows).map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::tables;

    #[test]
    fn devices_stand_in_tables_however_they_nest() {
        let reply = json!({ "ok": true, "result": [{
            "provider": "ACPI.NFIT", "dev": "ndbus0",
            "dimms": [{ "dev": "nmem0", "id": "8680-56341200", "flag_failed_arm": true, "flag_x": false }],
            "regions": [{
                "dev": "region0", "size": 134_217_728, "available_size": 0, "type": "pmem",
                "mappings": [{ "dimm": "nmem0" }],
                "namespaces": [
                    { "dev": "namespace0.0", "mode": "sector", "size": 33_130_496, "sector_size": 512,
                      "blockdev": "pmem0s", "btt": { "state": "active" } },
                    { "dev": "namespace0.1", "mode": "raw", "size": 16_777_216, "state": "disabled", "reason": "x\u{1b}[2J" },
                ],
            }],
        }] });
        let expected = "DIMM   ID             STATE\nnmem0  8680-56341200  active: failed_arm\n\n\
                        REGION   TYPE  SIZE  FREE  STATE\nregion0  pmem  128M  0     active\n\n\
                        NAMESPACE     MODE    SIZE   SECTOR  DISK    STATE\n\
                        namespace0.0  sector  31.6M  512     pmem0s  active\n\
                        namespace0.1  raw     16.0M                  disabled: x[2J\n";
        assert_eq!(tables(&reply), expected);
        assert_eq!(tables(&json!({ "ok": true, "result": [] })), "");
    }
}
