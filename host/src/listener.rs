//! A Unix socket that is this user's alone.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::geteuid;

use crate::identity::Identity;

/// Whether a socket may be made at `path`: nothing is there, or a socket without a listener.
///
/// # Errors
/// The thing that is there instead, for people.
pub(crate) fn check_path(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if folder.is_dir() { Ok(()) } else { Err(format!("there is no folder {}", folder.display())) }
        }
        Err(error) => Err(format!("{}: {error}", path.display())),
        Ok(there) if !there.file_type().is_socket() => {
            Err(format!("{} exists, and is no socket: it is left as it is", path.display()))
        }
        Ok(there) => match connect_at_once(path) {
            // A listener that is too busy to take us is one, too.
            Ok(()) | Err(Errno::EAGAIN) => Err(format!("somebody listens on {} already", path.display())),
            // Left behind by one that was killed.
            Err(Errno::ECONNREFUSED) if there.uid() == geteuid().as_raw() => Ok(()),
            Err(Errno::ECONNREFUSED) => {
                Err(format!("{} is a socket of user {}: it is left as it is", path.display(), there.uid()))
            }
            Err(error) => Err(format!("{}: {error}", path.display())),
        },
    }
}

/// Connects to a socket, if it takes us without a wait.
fn connect_at_once(path: &Path) -> nix::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
}

/// Listens at a name that is not there yet. From the start only this user can connect, whatever the umask is: Linux
/// takes a socket's own mode for its file.
fn listen_at(path: &Path) -> nix::Result<UnixListener> {
    const BACKLOG: i32 = 128;
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket.into())
}

/// A socket that this user can connect to (mode 0600) from the moment that its name is there. Gone when it is dropped.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    identity: Identity,
}

impl Listener {
    /// Listens at `path`, in the place of a socket without a listener.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn bind(path: &Path) -> Result<Self, String> {
        check_path(path)?;
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        // Made under another name: a name that is there takes connections.
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{:08x}", RandomState::new().hash_one(std::process::id()) >> 32));
        let beside = PathBuf::from(beside);
        let listener = listen_at(&beside).map_err(|error| failed(error.into()))?;
        let placed = Identity::at(&beside).and_then(|identity| fs::rename(&beside, path).map(|()| identity));
        match placed {
            Ok(identity) => Ok(Self { listener, path: path.to_owned(), identity }),
            Err(error) => {
                let _ = fs::remove_file(&beside);
                Err(failed(error))
            }
        }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Another one's by now, perhaps.
        if Identity::at(&self.path).is_ok_and(|there| there == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::os::unix::net::{UnixListener, UnixStream};

    use nix::sys::stat::{Mode, umask};
    use nix::unistd::geteuid;

    use super::{Listener, connect_at_once};

    #[test]
    fn a_socket_is_this_users_alone_and_takes_no_name_but_that_of_its_own_stale_one() {
        let folder = std::env::temp_dir().join(format!("untorn-listen-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("socket");
        let before = umask(Mode::empty());
        let listener = Listener::bind(&path).unwrap();
        umask(before);
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        assert!(Listener::bind(&path).unwrap_err().contains("somebody listens"));
        drop(listener);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "it goes, and leaves nothing beside it");

        // A busy listener is one, and is not waited for.
        let busy = UnixListener::bind(&path).unwrap();
        let crowd: Vec<_> = (0..10_000).map_while(|_| connect_at_once(&path).is_ok().then_some(())).collect();
        assert!(crowd.len() < 10_000);
        assert!(Listener::bind(&path).unwrap_err().contains("somebody listens"));
        drop(busy);
        // Stale by now.
        if geteuid().is_root() {
            std::os::unix::fs::lchown(&path, Some(65534), None).unwrap();
            assert!(Listener::bind(&path).unwrap_err().contains("is a socket of user 65534"));
            chown(&path, Some(0), None).unwrap();
        }
        drop(Listener::bind(&path).unwrap());

        fs::write(folder.join("letter"), "a letter").unwrap();
        symlink(folder.join("letter"), &path).unwrap();
        assert!(Listener::bind(&path).unwrap_err().contains("is no socket"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
