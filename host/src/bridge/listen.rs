//! The vhost-user sockets: one for each export, there from the moment that its capacity is known, and one front end on
//! it at a time.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect, listen,
    recvmsg, socket,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::geteuid;
use service::control::Disk;
use vhost::vhost_user::{BackendReqHandler, Error};

use super::front::Front;
use super::ram::Identity;
use super::shared::Shared;

/// How long a front end that has just gone may stand in the way of the next one.
const GRACE: Duration = Duration::from_secs(2);

/// How long a front end may take over its first message, and over the rest of any: what takes longer is none.
const MESSAGE: Duration = Duration::from_secs(10);

/// `VHOST_USER_SET_BACKEND_REQ_FD`.
const SET_BACKEND_REQ_FD: u32 = 21;

/// Whether a socket may be made at `path`: nothing is there, or a socket that nobody listens on.
///
/// # Errors
/// What is there instead.
pub(super) fn check_path(path: &Path) -> Result<(), String> {
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
            // One that is too busy to take us listens, too.
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

/// Listens at a name that is not there yet. From the start nobody but this user can connect, whatever the umask says: Linux
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
    /// Listens at `path`, in the place of a socket that nobody listens on any more.
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
        let identity = Identity::at(&beside).map_err(failed)?;
        if let Err(error) = fs::rename(&beside, path) {
            let _ = fs::remove_file(&beside);
            return Err(failed(error));
        }
        Ok(Self { listener, path: path.to_owned(), identity })
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

/// Opens the socket of an export whose disk is known now.
pub(super) fn open(shared: &Arc<Shared>, export: usize, disk: &Disk) {
    let path = &shared.sockets[export];
    match Listener::bind(path) {
        Ok(listener) => {
            shared.say(&format!("{}: {}, {} bytes", path.display(), disk.name, disk.capacity.saturating_mul(512)));
            let its = Arc::clone(shared);
            shared.spawn(move || accept(&its, export, &listener));
        }
        Err(why) => shared.say(&format!("{} is not served: {why}", disk.name)),
    }
}

/// Takes front ends, one at a time, until the bridge closes.
fn accept(shared: &Arc<Shared>, export: usize, listener: &Listener) {
    while wait(listener.socket(), shared, None) == Ready::Yes {
        let Ok((stream, _)) = listener.socket().accept() else {
            // Out of descriptors, or the like: it may pass.
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        if shared.windows[shared.window_of[export]].is_left_out() {
            shared.complain(
                export,
                &format!("{}: the consumer's RAM file was cut short", shared.sockets[export].display()),
            );
            continue;
        }
        if !take_place(shared, export) {
            shared.say(&format!("{}: a second front end is refused", shared.sockets[export].display()));
            continue;
        }
        let its = Arc::clone(shared);
        shared.spawn(move || {
            serve(&its, export, stream);
            leave(&its, export);
        });
    }
}

/// Makes a session for a front end, when the last one's is over.
fn take_place(shared: &Shared, export: usize) -> bool {
    let begun = Instant::now();
    let mut state = shared.lock();
    while state.occupied[export] {
        let left = GRACE.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return false;
        }
        state = shared.changed.wait_timeout(state, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
    }
    state.occupied[export] = true;
    state.exports[export].begin();
    true
}

/// Ends a front end's session: the next one may come when the appliance has let go of all queues.
fn leave(shared: &Shared, export: usize) {
    shared.lock().exports[export].end();
    shared.wake_all();
    shared.wait_for_rest(export, super::state::Export::rests);
    let mut state = shared.lock();
    for queue in 0..state.exports[export].queues.len() {
        state.forget_way(export, queue, shared.window_of[export]);
    }
    state.occupied[export] = false;
    drop(state);
    shared.wake_all();
}

/// Takes a front end's messages until it goes.
fn serve(shared: &Arc<Shared>, export: usize, stream: UnixStream) {
    let path = shared.sockets[export].display();
    // A message that begins comes to its end.
    if stream.set_read_timeout(Some(MESSAGE)).and_then(|()| stream.set_write_timeout(Some(MESSAGE))).is_err() {
        return;
    }
    let Ok(peek) = stream.try_clone() else { return };
    let front = Arc::new(Front::new(Arc::clone(shared), export, &peek));
    let mut handler = BackendReqHandler::from_stream(stream, Arc::clone(&front));
    let mut first = Some(MESSAGE);
    loop {
        match wait(&peek, shared, first) {
            Ready::Yes => {}
            Ready::Late => return shared.say(&format!("{path}: whoever connected says nothing, and is dropped")),
            Ready::Closed => return,
        }
        first = None;
        if let Some(channel) = backend_channel(&peek) {
            shared.lock().exports[export].channel = Some(channel);
        }
        let why = match handler.handle_request() {
            Ok(()) => continue,
            Err(Error::Disconnected) => return,
            Err(error) => front.complaint().unwrap_or_else(|| format!("no vhost-user message ({error})")),
        };
        return shared.complain(export, &format!("{path}: the front end is dropped: {why}"));
    }
}

#[derive(PartialEq, Eq)]
enum Ready {
    Yes,
    Late,
    Closed,
}

/// Waits for something to read; not longer than `patience`, if there is one, nor than the bridge lives.
fn wait(file: &impl AsFd, shared: &Shared, patience: Option<Duration>) -> Ready {
    let patience = patience.map_or(PollTimeout::NONE, |time| PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX));
    loop {
        let mut watched =
            [PollFd::new(file.as_fd(), PollFlags::POLLIN), PollFd::new(shared.closed.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, patience) {
            Ok(0) => return Ready::Late,
            Ok(_) if shared.is_closing() => return Ready::Closed,
            Ok(_) => return Ready::Yes,
            Err(Errno::EINTR) => {}
            Err(_) => return Ready::Closed,
        }
    }
}

/// The channel that a message which waits on `stream` brings for our own messages. The message layer takes it, but has
/// no way to say that the configuration has changed: so we look first, and have a copy of the descriptor.
fn backend_channel(stream: &UnixStream) -> Option<fs::File> {
    let mut header = [0; 12];
    let mut buffer = [IoSliceMut::new(&mut header)];
    let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    // Without room for descriptors: none is copied.
    recvmsg::<()>(stream.as_raw_fd(), &mut buffer, None, peek).ok()?;
    if u32::from_ne_bytes(header[..4].try_into().ok()?) != SET_BACKEND_REQ_FD {
        return None;
    }
    let mut space = nix::cmsg_space!([i32; 8]);
    let mut buffer = [IoSliceMut::new(&mut header)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut buffer, Some(&mut space), peek).ok()?;
    let mut files = Vec::new();
    for part in message.cmsgs().ok()? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            // SAFETY: the system has just made these descriptors for us, and nobody else knows them.
            files.extend(fds.into_iter().map(|fd| unsafe { fs::File::from_raw_fd(fd) }));
        }
    }
    let channel = files.pop().filter(|_| files.is_empty())?;
    // One that does not listen must not hold us up.
    nix::fcntl::fcntl(channel.as_fd(), nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).ok()?;
    Some(channel)
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

        // One that is too busy is one that listens, and is not waited for.
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
