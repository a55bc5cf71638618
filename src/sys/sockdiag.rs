//! What the kernel tells about unix sockets by their inode numbers (sock_diag(7)).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::socket;

/// From linux/sock_diag.h, linux/unix_diag.h, linux/netlink.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
/// Attributes, whose numbers are also the bits that ask for them.
const VFS: u16 = 1;
const PEER: u16 = 2;
const ICONS: u16 = 3;
const RQLEN: u16 = 4;
const SHUTDOWN: u16 = 6;
/// Bytes of struct unix_diag_msg, and of the header in front of it.
const DIAG_MESSAGE: usize = 16;
const HEADER: usize = 16;

/// TCP_LISTEN, which unix sockets have too.
const LISTEN: u8 = 10;

/// A unix socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnixInfo {
    /// Its own inode number.
    pub inode: u32,
    /// Whether it listens.
    pub listens: bool,
    /// Inode number of its peer; 0: one that is closed, or that has not been accepted yet.
    pub peer: Option<u32>,
    /// Inode number of the file that it is bound to.
    pub file: Option<u32>,
    /// Of one that listens, the inode numbers of those that wait; 0: one that is closed.
    pub waiting: Vec<u32>,
    /// Bytes to be read; of one that listens, how many wait.
    pub received: u32,
    /// Memory of what was sent and not yet received; of one that listens, how many may wait.
    pub sent: u32,
    /// What shutdown(2) has ended: 1 receiving, 2 sending.
    pub shutdown: u8,
}

/// Asks about the sockets of one network namespace.
#[derive(Debug)]
pub struct Diag {
    socket: OwnedFd,
}

impl Diag {
    /// For the namespace of the calling thread, or another.
    ///
    /// # Errors
    /// EPERM where it cannot be entered, EPROTONOSUPPORT where the kernel has no sock_diag.
    pub fn open(namespace: Option<File>) -> io::Result<Diag> {
        let open = || socket::new(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_SOCK_DIAG);
        let Some(namespace) = namespace else { return Ok(Diag { socket: open()? }) };
        // A namespace is entered by one thread alone.
        let entered = std::thread::spawn(move || {
            socket::enter_network(&namespace)?;
            open()
        });
        let socket = entered.join().map_err(|_| io::Error::other("the thread ended"))??;
        Ok(Diag { socket })
    }

    /// The unix socket with this inode number, if the namespace has it.
    ///
    /// # Errors
    /// Those of the kernel: ENOENT where it does not know about unix sockets.
    pub fn unix(&self, inode: u32) -> io::Result<Option<UnixInfo>> {
        match self.ask(inode, NLM_F_REQUEST) {
            Ok(found) => Ok(found.into_iter().find(|info| info.inode == inode)),
            // The same error says that the kernel does not know about unix sockets at all.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) && self.ask_any() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// All unix sockets of the namespace.
    ///
    /// # Errors
    /// As for [`Diag::unix`].
    pub fn all_unix(&self) -> io::Result<Vec<UnixInfo>> {
        self.ask(0, NLM_F_REQUEST | NLM_F_DUMP)
    }

    fn ask_any(&self) -> bool {
        self.all_unix().is_ok()
    }

    fn ask(&self, inode: u32, flags: u16) -> io::Result<Vec<UnixInfo>> {
        self.send(inode, flags)?;
        let mut found = Vec::new();
        let mut room = vec![0u8; 64 * 1024];
        loop {
            let fd = self.socket.as_raw_fd();
            // SAFETY: `room` is ours, and as long as said.
            let got = unsafe { libc::recv(fd, room.as_mut_ptr().cast(), room.len(), 0) };
            if got < 0 {
                return Err(io::Error::last_os_error());
            }
            let mut rest = room.get(..got as usize).unwrap_or_default();
            while let Some((kind, body, behind)) = record(rest) {
                rest = behind;
                match kind {
                    NLMSG_DONE => return Ok(found),
                    NLMSG_ERROR => {
                        let code = number(body, 0).unwrap_or(0) as i32;
                        return Err(io::Error::from_raw_os_error(code.wrapping_neg()));
                    }
                    SOCK_DIAG_BY_FAMILY => found.extend(unix(body)),
                    _ => {}
                }
                if flags & NLM_F_DUMP == 0 {
                    return Ok(found);
                }
            }
        }
    }

    fn send(&self, inode: u32, flags: u16) -> io::Result<()> {
        // SHUTDOWN comes unasked.
        let show =
            [VFS, PEER, ICONS, RQLEN].iter().map(|&attribute| 1u32 << attribute).sum::<u32>();
        let mut request = Vec::with_capacity(40);
        request.extend(40u32.to_le_bytes());
        request.extend(SOCK_DIAG_BY_FAMILY.to_le_bytes());
        request.extend(flags.to_le_bytes());
        request.extend([0; 8]);
        request.extend([libc::AF_UNIX as u8, 0, 0, 0]);
        for word in [u32::MAX, inode, show, u32::MAX, u32::MAX] {
            request.extend(word.to_le_bytes());
        }
        let fd = self.socket.as_raw_fd();
        // SAFETY: `request` lives during the call, which reads so many bytes of it.
        let sent = unsafe { libc::send(fd, request.as_ptr().cast(), request.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// The first netlink message: its type, what is in it, what is behind it.
fn record(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = number(bytes, 0)? as usize;
    let kind = u16::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn unix(body: &[u8]) -> Option<UnixInfo> {
    let mut info = UnixInfo {
        inode: number(body, 4)?,
        listens: body.get(2) == Some(&LISTEN),
        ..UnixInfo::default()
    };
    let mut rest = body.get(DIAG_MESSAGE..).unwrap_or_default();
    while let Some(&[l0, l1, k0, k1]) = rest.first_chunk() {
        let length = usize::from(u16::from_le_bytes([l0, l1]));
        let Some(value) = rest.get(4..length) else { break };
        match u16::from_le_bytes([k0, k1]) {
            VFS => info.file = number(value, 0),
            PEER => info.peer = number(value, 0),
            ICONS => {
                info.waiting = (0..value.len() / 4).filter_map(|i| number(value, 4 * i)).collect()
            }
            RQLEN => {
                info.received = number(value, 0).unwrap_or(0);
                info.sent = number(value, 4).unwrap_or(0);
            }
            SHUTDOWN => info.shutdown = value.first().copied().unwrap_or(0),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn inode(socket: impl AsFd) -> u32 {
        let file = File::from(socket.as_fd().try_clone_to_owned().expect("copy"));
        file.metadata().expect("metadata").ino() as u32
    }

    #[test]
    fn pairs_and_those_who_wait() {
        let diag = Diag::open(None).expect("sock_diag");
        let (one, other) = UnixStream::pair().expect("pair");
        other.shutdown(std::net::Shutdown::Write).expect("shutdown");
        let info = diag.unix(inode(&one)).expect("ask").expect("it is there");
        assert_eq!((info.peer, info.shutdown, info.file), (Some(inode(&other)), 1, None));
        drop(other);
        let info = diag.unix(inode(&one)).expect("ask").expect("it is there");
        assert_eq!((info.peer, info.shutdown), (Some(0), 3));

        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("bind");
        let client = UnixStream::connect(&path).expect("connect");
        let info = diag.unix(inode(&listener)).expect("ask").expect("it is there");
        let file = std::fs::metadata(&path).expect("metadata").ino() as u32;
        assert!(info.listens);
        assert_eq!((info.waiting, info.file), (vec![inode(&client)], Some(file)));
        assert!(diag.all_unix().expect("all").iter().any(|info| info.file == Some(file)));
        assert_eq!(diag.unix(u32::MAX).expect("ask"), None);
    }
}
