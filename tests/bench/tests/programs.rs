//! The programs measure what they say: sectors are read as they were written, and each line has its form.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::process::Command;

/// What a program prints, which must end well.
fn printed(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn sector_bench_prints_a_line_for_each_mix_and_finds_every_sector_as_it_was_written() {
    let mixes = ["randwrite", "randread", "seqwrite", "seqread", "rw7030"];
    for options in ["--sector 512 --threads 2", "--run 8"] {
        let arguments = format!("--mib 24 --seconds 0.02 --mix {} {options}", mixes.join(","));
        let text = printed(env!("CARGO_BIN_EXE_sector-bench"), &arguments);
        assert_eq!(text.lines().count(), mixes.len(), "{text}");
        for (line, mix) in text.lines().zip(mixes) {
            let fields: Vec<&str> = line.split(',').collect();
            assert_eq!((fields.len(), fields[5], fields[15]), (16, mix, "0"), "{line}");
            assert!(fields[6].parse::<u64>().unwrap() > 0, "{line}");
        }
    }
}

#[test]
fn scattered_sectors_are_written_and_only_written() {
    let program = env!("CARGO_BIN_EXE_sector-bench");
    // Half of them are drawn twice in the end, and some in one operation.
    let text = printed(program, "--mib 24 --seconds 0.02 --scatter 200 --threads 2");
    let fields: Vec<&str> = text.trim().split(',').collect();
    assert_eq!((fields[1], fields[5], fields[15]), ("untorn-scatter200", "randwrite", "0"), "{text}");
    let refused = Command::new(program).args("--mib 24 --scatter 8 --mix randread".split(' ')).output().unwrap();
    assert!(!refused.status.success());
}

#[test]
fn attach_bench_prints_how_long_and_how_much() {
    let text = printed(env!("CARGO_BIN_EXE_attach-bench"), "--mib 1048576 --rounds 3");
    let fields: Vec<&str> = text.trim().split(',').collect();
    assert_eq!(fields[..5], ["1048576", "4096", "1", "2", "3"], "{text}");
    assert!(fields[8].parse::<u64>().unwrap() > 0, "{text}");
}

#[test]
fn block_bench_reads_what_it_wrote_and_measures_each_part() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("block-bench-{}", std::process::id()));
    std::fs::File::create(&file).unwrap().set_len(1 << 20).unwrap();
    let program = env!("CARGO_BIN_EXE_block-bench");
    for mix in [100, 0, 50] {
        let text = printed(program, &format!("load {} --sector 4096 --seconds 0.02 --mix {mix}", file.display()));
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!((words.len(), words[2]), (3, "0"), "{text}");
    }
    std::fs::remove_file(&file).unwrap();
    let text = printed(program, "parts --sector 512");
    for part in ["word in", "word out", "rep movsb", "pattern made", "pattern checked"] {
        let found = text.lines().find_map(|line| line.split_once(',').filter(|(name, _)| *name == part));
        assert!(found.is_some_and(|(_, ns)| ns.parse::<f64>().is_ok()), "{part}: {text}");
    }
}
