//! The board that the checks run on: sockets and clock of the C library.

use crate::device::Board;
use core::ffi::{c_char, c_int, c_long, c_short, c_ulong, c_void};
use core::net::SocketAddr;

const AF_INET: c_int = 2;
const SOCK_STREAM: c_int = 1;
const POLLIN: c_short = 1;
const CLOCK_MONOTONIC: c_int = 1;
/// How long a read waits for bytes, in milliseconds.
const PATIENCE_MS: c_int = 10;

/// A socket of the C library.
pub struct Host {
    socket: c_int,
}

#[repr(C)]
struct Ipv4Address {
    family: u16,
    port: u16,
    address: [u8; 4],
    zero: [u8; 8],
}

#[repr(C)]
struct PollEntry {
    socket: c_int,
    events: c_short,
    returned: c_short,
}

#[repr(C)]
struct Time {
    seconds: c_long,
    nanos: c_long,
}

unsafe extern "C" {
    safe fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn connect(socket: c_int, address: *const Ipv4Address, len: u32) -> c_int;
    fn send(socket: c_int, bytes: *const c_void, len: usize, flags: c_int) -> isize;
    fn recv(socket: c_int, bytes: *mut c_void, len: usize, flags: c_int) -> isize;
    fn poll(entries: *mut PollEntry, count: c_ulong, timeout_ms: c_int) -> c_int;
    safe fn close(socket: c_int) -> c_int;
    fn clock_gettime(clock: c_int, time: *mut Time) -> c_int;
    fn write(file: c_int, bytes: *const c_void, len: usize) -> isize;
    fn strlen(text: *const c_char) -> usize;
}

/// Instead of a signal, an error for a socket that the peer closed.
const MSG_NOSIGNAL: c_int = 0x4000;

impl Host {
    pub fn new() -> Self {
        Self { socket: -1 }
    }
}

impl Board for Host {
    fn connect(&mut self, to: SocketAddr) -> Result<(), &'static str> {
        let SocketAddr::V4(to) = to else {
            return Err("the board has IPv4 alone");
        };
        self.socket = socket(AF_INET, SOCK_STREAM, 0);
        let address = Ipv4Address {
            family: AF_INET as u16,
            port: to.port().to_be(),
            address: to.ip().octets(),
            zero: [0; 8],
        };
        // SAFETY: the address is a `sockaddr_in` of the length told, and outlives the call.
        match unsafe { connect(self.socket, &address, size_of::<Ipv4Address>() as u32) } {
            0 => Ok(()),
            _ => Err("nobody listens there"),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        // SAFETY: the bytes are as long as told, and outlive the call.
        let count = unsafe { send(self.socket, bytes.as_ptr().cast(), bytes.len(), MSG_NOSIGNAL) };
        usize::try_from(count).map_err(|_| "the peer takes nothing more")
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<Option<usize>, &'static str> {
        let mut entry = PollEntry {
            socket: self.socket,
            events: POLLIN,
            returned: 0,
        };
        // SAFETY: there is one entry, which outlives the call.
        if unsafe { poll(&raw mut entry, 1, PATIENCE_MS) } == 0 {
            return Ok(None);
        }
        // SAFETY: the bytes are as long as told, and outlive the call.
        let count = unsafe { recv(self.socket, bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        usize::try_from(count)
            .map(Some)
            .map_err(|_| "the connection broke")
    }

    fn close(&mut self) {
        close(self.socket);
    }

    fn now(&self) -> u64 {
        let mut time = Time { seconds: 0, nanos: 0 };
        // SAFETY: the time is a `timespec`, and outlives the call.
        unsafe { clock_gettime(CLOCK_MONOTONIC, &raw mut time) };
        time.seconds as u64 * 1_000_000_000 + time.nanos as u64
    }
}

/// Writes to standard output.
pub fn say(words: &str) {
    // SAFETY: the bytes are as long as told. What could not be written is no concern of the checks.
    unsafe { write(1, words.as_ptr().cast(), words.len()) };
}

/// An argument of the program.
pub fn argument(count: c_int, vector: *const *const c_char, at: usize) -> Option<&'static str> {
    if at >= usize::try_from(count).ok()? {
        return None;
    }
    // SAFETY: the C runtime gives `main` so many texts, each ended by a zero, for as long as the program runs.
    let bytes = unsafe {
        let text = *vector.add(at);
        core::slice::from_raw_parts(text.cast::<u8>(), strlen(text))
    };
    core::str::from_utf8(bytes).ok()
}
