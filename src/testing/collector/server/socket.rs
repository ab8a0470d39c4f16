//! The sockets of the collector: TCP, and Unix domain sockets where the system has them.

use core::net::SocketAddr;
use core::time::Duration;
use rustix::event::{PollFd, PollFlags};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
#[cfg(unix)]
use std::path::PathBuf;

/// Where the collector listens.
#[derive(Clone, Debug)]
pub(in crate::testing::collector) enum Address {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(PathBuf),
}

/// What it listens with.
pub(in crate::testing::collector) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

/// One end of a connection.
pub(super) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Address {
    /// Listens there.
    pub(in crate::testing::collector) fn listen(&self) -> io::Result<Listener> {
        match self {
            Self::Tcp(addr) => {
                let listener = TcpListener::bind(addr)?;
                listener.set_nonblocking(true)?;
                Ok(Listener::Tcp(listener))
            }
            #[cfg(unix)]
            Self::Unix(path) => {
                let listener = UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                Ok(Listener::Unix(listener))
            }
        }
    }

    /// Removes what listening leaves behind.
    pub(in crate::testing::collector) fn vacate(&self) {
        #[cfg(unix)]
        if let Self::Unix(path) = self {
            // Fails where somebody else has removed it, which is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Listener {
    /// The address as the system knows it, its port chosen.
    pub(in crate::testing::collector) fn address(&self, asked: &Address) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            #[cfg(unix)]
            Self::Unix(_) => Ok(asked.clone()),
        }
    }

    pub(super) fn poll_fd(&self, flags: PollFlags) -> PollFd<'_> {
        match self {
            Self::Tcp(listener) => PollFd::new(listener, flags),
            #[cfg(unix)]
            Self::Unix(listener) => PollFd::new(listener, flags),
        }
    }

    pub(super) fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (socket, _) = listener.accept()?;
                socket.set_nonblocking(true)?;
                // A client that has gone already makes this fail, which reading is going to tell.
                let _ = socket.set_nodelay(true);
                Ok(Socket::Tcp(socket))
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                let (socket, _) = listener.accept()?;
                socket.set_nonblocking(true)?;
                Ok(Socket::Unix(socket))
            }
        }
    }
}

impl Socket {
    pub(super) fn poll_fd(&self, flags: PollFlags) -> PollFd<'_> {
        match self {
            Self::Tcp(socket) => PollFd::new(socket, flags),
            #[cfg(unix)]
            Self::Unix(socket) => PollFd::new(socket, flags),
        }
    }

    /// Says FIN.
    pub(super) fn shut_down(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Write),
            #[cfg(unix)]
            Self::Unix(socket) => socket.shutdown(Shutdown::Write),
        }
    }

    /// Lets the socket be closed with RST. Where the system will not, it is closed with FIN; Unix sockets have no RST.
    pub(super) fn reset_on_close(&self) {
        if let Self::Tcp(socket) = self {
            let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer),
            #[cfg(unix)]
            Self::Unix(socket) => socket.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            #[cfg(unix)]
            Self::Unix(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
