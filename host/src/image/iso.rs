//! A hybrid ISO for a PC BIOS, made by GRUB's `grub-mkrescue`: a CD, and byte for byte a disk or a USB stick. GRUB starts
//! the image by multiboot2.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::slim::slim;
use super::{fault, replace};
use crate::append::Append;

/// Where Debian's grub-pc-bin has GRUB for a PC BIOS. Named, so that the ISO is the same whatever else is installed.
pub const GRUB_PC: &str = "/usr/lib/grub/i386-pc";

/// GRUB's modules that the menu needs, on whatever the ISO is written.
const MODULES: &str = "multiboot2 normal configfile biosdisk part_gpt part_msdos iso9660";

/// Makes the ISO of the linked image at `image`, which gets the command line `append`. Replaces `iso` at once.
///
/// # Errors
/// Why it could not be made, for people.
pub fn make(image: &Path, append: &Append, iso: &Path) -> Result<(), String> {
    let made = replace(iso, |folder| make_in(folder, image, append));
    made.map_err(|why| format!("the ISO could not be made: {why}"))
}

fn make_in(folder: &Path, image: &Path, append: &Append) -> Result<PathBuf, String> {
    let elf = fs::read(image).map_err(fault(image))?;
    let grub = folder.join("tree/boot/grub");
    fs::create_dir_all(&grub).map_err(fault(&grub))?;
    let program = folder.join("tree/boot/untorn");
    fs::write(&program, slim(&elf)?).map_err(fault(&program))?;
    let menu = grub.join("grub.cfg");
    fs::write(&menu, menu_text(append)).map_err(fault(&menu))?;

    let made = folder.join("made.iso");
    let mut command = Command::new("grub-mkrescue");
    command.arg(format!("--directory={GRUB_PC}")).arg("-o").arg(&made);
    command.args(["--compress=xz", "--fonts=", "--locales=", "--themes="]);
    command.arg(format!("--install-modules={MODULES}")).arg(folder.join("tree"));
    let output =
        command.output().map_err(|error| format!("grub-mkrescue: {error} (host/setup.sh bios installs it)"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("grub-mkrescue: {}: {}", output.status, words.trim_end()));
    }
    Ok(made)
}

/// GRUB's menu: starts the image at once. Each word is quoted: GRUB is a shell, too.
fn menu_text(append: &Append) -> String {
    let words: String = append.words().map(|word| format!(" '{word}'")).collect();
    format!("set timeout=0\nmenuentry untorn {{\n    multiboot2 /boot/untorn{words}\n}}\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use super::*;

    #[test]
    fn each_word_of_the_command_line_stands_quoted_in_the_menu() {
        let append = Append::parse("a=b c=$HOME;x").unwrap();
        assert!(menu_text(&append).contains("    multiboot2 /boot/untorn 'a=b' 'c=$HOME;x'\n"));
        assert!(menu_text(&Append::default()).contains("    multiboot2 /boot/untorn\n"));
    }
}
