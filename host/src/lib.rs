//! What runs beside the appliance on a host: a client of its admin service, and a way to start it in QEMU.
//!
//! From the bottom up:
//! - [`deadline`]: nothing here waits without a bound; [`quantity`]: sizes and times as people write them;
//! - [`event`]: event descriptors, ours and others'; [`journal`]: lines for people;
//! - [`identity`]: which file it is; [`listener`]: a socket that is this user's alone; [`limits`]: shared bounds;
//! - [`session`]: the admin service at the end of a byte stream: prompt, modes, commands and their replies;
//! - [`appliance`]: a program (QEMU) that is an appliance, its console on standard input and output;
//! - [`backing`]: the files that are a machine's memory, and what its end by SIGBUS means;
//! - [`bridge`]: gives its disks to other QEMU machines by vhost-user; [`export_words`]: such a disk in words;
//! - [`append`]: the image's command line; [`image`]: files that firmware boots the image from;
//! - [`launch`]: how an appliance is started, whichever command asked for it;
//! - [`qemu`]: the machine that `run-qemu.sh` starts: its options, its files, its command line;
//! - [`options`]: the command line;
//! - [`script`]: several commands in a row, as `run-qemu.sh --exec` has them;
//! - [`admin`]: a socket at which programs ask for commands while the appliance runs; [`events`]: and follow what happens;
//! - [`client`]: such a program; [`settings`]: a configuration as a file; [`dump`]: all that an appliance tells, as one;
//! - [`top`]: what an appliance does now, of two readings of its counters;
//! - [`complete`]: what shells complete our words by; [`manual`]: our manual pages;
//! - [`list_table`]: the reply to `list`, for people;
//! - [`media_dump`]: a medium's metadata, in a file and back;
//! - [`beside`]: how they are asked for on the person's console;
//! - [`port`]: how they are asked for by the appliance's admin port;
//! - [`screen`]: standard output, which may take nothing;
//! - [`console`]: a person's terminal joined to the appliance's console.

pub mod admin;
pub mod append;
pub mod appliance;
pub mod backing;
pub mod beside;
pub mod bridge;
pub mod client;
pub mod complete;
pub mod console;
pub mod deadline;
pub mod dump;
pub mod event;
pub mod events;
pub mod export_words;
pub mod identity;
pub mod image;
pub mod journal;
pub mod launch;
pub mod limits;
pub mod list_table;
pub mod listener;
pub mod manual;
pub mod media_dump;
pub mod options;
pub mod port;
pub mod qemu;
pub mod quantity;
pub mod screen;
pub mod script;
pub mod session;
pub mod settings;
pub mod top;
