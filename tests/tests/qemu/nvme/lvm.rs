//! A mirror of LVM, whose halves two appliances serve.

use tests::dimm::{Dimm, MIB};
use tests::linux::{Consumer, HOST_NQN};
use tests::place::{Place, eventually};

use super::{Link, VERIFY, connect, controller, fail_soon, serve, wait_for};

/// How much of the mirror is on both halves, what it does about that, and what is wrong with it.
fn state(linux: &mut Consumer) -> String {
    // Of a half that is not there it warns.
    let printed = linux.run("lvs --noheadings -o sync_percent,raid_sync_action,lv_health_status rack/data 2>/dev/null");
    printed.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn an_lvm_mirror_over_two_appliances_outlives_one_of_them() {
    let place = Place::new();
    let dimms = [(); 2].map(|()| Dimm::blank(96 * MIB));
    let links = ["10.0.2.2", "10.0.3.2"].map(|address| Link { socket: place.at(address), address });
    let netdevs = links.each_ref().map(Link::netdev);
    let mut linux = Consumer::boot_with_lvm(&netdevs.each_ref().map(String::as_str), 2, &place.at("ram"), 512);
    let mut first = links[0].appliance(&dimms[0], "").boot();
    let mut second = links[1].appliance(&dimms[1], "").boot_beside(&first);
    let controllers = [(&links[0], &mut first), (&links[1], &mut second)].map(|(link, appliance)| {
        appliance.ask("create-namespace -l 4096");
        let nqn = serve(appliance, link.address);
        connect(&mut linux, link.address, &nqn);
        let name = controller(&mut linux, &nqn);
        fail_soon(&mut linux, &name);
        name
    });
    let [one, other] = controllers.each_ref().map(|name| format!("/dev/{name}n1"));
    linux.run(&format!("vgcreate rack {one} {other}"));
    linux.run(&format!("lvcreate --type raid1 -m 1 -L 40M -n data rack {one} {other}"));
    eventually("both halves are alike", || state(&mut linux) == "100.00 idle");
    linux.run("mkfs.ext4 -q /dev/rack/data && mount /dev/rack/data /mnt");

    // The first half's appliance loses its power under load, and the mirror goes on with the other half.
    let load = format!("fio {VERIFY} --rw=randwrite --bs=4k --size=12M --directory=/mnt --numjobs=2");
    linux.start("load", &format!("trap '' PIPE; {load}"));
    linux.run("sleep 1");
    first.cut();
    assert!(linux.is_busy("load"), "its power is cut under load");
    linux.finish("load");
    assert_eq!(state(&mut linux), "100.00 idle partial");

    // It is there again, and stays as it is until LVM is told.
    let words = format!("nvme.export=pmem0s nvme.allow={HOST_NQN}");
    let first = links[0].appliance(&dimms[0], &words).boot_beside(&second);
    wait_for(&mut linux, &controllers[0]);
    assert_eq!(state(&mut linux), "100.00 idle refresh needed");
    linux.run("umount /mnt && lvchange --refresh rack/data");
    eventually("it has what it missed", || state(&mut linux) == "100.00 idle");
    linux.run("cmp /dev/mapper/rack-data_rimage_0 /dev/mapper/rack-data_rimage_1");

    // It alone has all that was written, before it was gone and while it was.
    second.cut();
    linux.run(&format!("mount /dev/rack/data /mnt && {load} --verify_only"));
    assert_eq!(state(&mut linux), "100.00 idle partial");
    linux.run("umount /mnt && e2fsck -fn /dev/rack/data");
    drop(linux);
    first.power_off();
}
