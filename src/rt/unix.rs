//! Unix domain sockets, opened the same way under every adapter.

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use std::io;
use std::os::unix::net::UnixStream;

/// Opens a non-blocking socket to the path of a [`Target::Unix`](crate::endpoint::Target::Unix).
///
/// Such a connect never waits: where the listener's queue is full it fails, and is tried again like any other.
pub(super) fn connect(path: &str) -> io::Result<UnixStream> {
    let address = address(path)?;
    let fd = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(true)?;
    match rustix::net::connect(&stream, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(stream),
        Err(rustix::io::Errno::AGAIN) => Err(io::Error::other("the listener's queue is full")),
        Err(error) => Err(error.into()),
    }
}

fn address(path: &str) -> io::Result<SocketAddrUnix> {
    match path.strip_prefix('@') {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        Some(name) => Ok(SocketAddrUnix::new_abstract_name(name.as_bytes())?),
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        Some(_) => Err(io::Error::other(
            "abstract sockets exist on Linux alone; give a path",
        )),
        None => Ok(SocketAddrUnix::new(path)?),
    }
}
