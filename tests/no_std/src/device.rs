//! What a device has to write: a loop around the engine, on byte functions of its own.

use core::net::SocketAddr;
use otlp_embed::endpoint::Target;
use otlp_embed::export::{Action, ConnId, Engine, Fact};
use otlp_embed::time::Instant;
use otlp_embed::{Config, Error, Outcome, Request};

/// The network and the clock of the device. Each function blocks for a moment at most.
pub trait Board {
    /// Opens the one connection that the device can have.
    fn connect(&mut self, to: SocketAddr) -> Result<(), &'static str>;
    /// Writes; how many bytes were taken.
    fn send(&mut self, bytes: &[u8]) -> Result<usize, &'static str>;
    /// Reads for a moment: nothing yet, or so many bytes, of which none means the end.
    fn receive(&mut self, bytes: &mut [u8]) -> Result<Option<usize>, &'static str>;
    /// Closes the connection.
    fn close(&mut self);
    /// Nanoseconds on a clock that never runs backwards.
    fn now(&self) -> u64;
}

/// An exporter on a board.
pub struct Exporter<B> {
    board: B,
    engine: Engine,
    conn: Option<ConnId>,
}

impl<B: Board> Exporter<B> {
    /// Nothing is connected before the first export.
    pub fn new(config: Config, board: B) -> Result<Self, Error> {
        let seed = board.now();
        Ok(Self {
            board,
            engine: Engine::new(config, seed)?,
            conn: None,
        })
    }

    /// Exports one request and waits for its verdict, which comes by its deadline.
    pub fn export(&mut self, request: Request) -> Result<Outcome, Error> {
        self.engine.submit(self.now(), request);
        loop {
            self.act();
            if let Some((_, verdict)) = self.engine.poll_outcome() {
                return verdict;
            }
            self.listen();
            let now = self.now();
            if self.engine.poll_timeout().is_some_and(|at| at <= now) {
                self.engine.handle(now, Fact::Timeout);
            }
        }
    }

    /// Does what the engine asks for.
    fn act(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            let now = self.now();
            match action {
                Action::Connect(conn, Target::Tcp(to)) => match self.board.connect(to) {
                    Ok(()) => {
                        self.conn = Some(conn);
                        self.engine.handle(now, Fact::Connected(conn));
                    }
                    Err(why) => self.engine.handle(now, Fact::ConnectFailed(conn, why)),
                },
                Action::Connect(conn, _) => {
                    self.engine
                        .handle(now, Fact::ConnectFailed(conn, "the board has TCP alone"));
                }
                Action::Resolve(conn, _) => {
                    self.engine
                        .handle(now, Fact::ResolveFailed(conn, "the board resolves no names"));
                }
                Action::Transmit(conn, pieces) => {
                    for piece in pieces {
                        if !self.write(conn, &piece) {
                            break;
                        }
                    }
                }
                Action::Close(conn) if self.conn.take_if(|open| *open == conn).is_some() => {
                    self.board.close()
                }
                // A connection that was never opened is closed already, and later kinds of action are for exporters
                // that are set up to need them.
                _ => {}
            }
        }
    }

    fn write(&mut self, conn: ConnId, mut piece: &[u8]) -> bool {
        while !piece.is_empty() {
            match self.board.send(piece) {
                Ok(count) => {
                    piece = &piece[count..];
                    self.engine.handle(self.now(), Fact::Sent(conn, count));
                }
                Err(why) => {
                    self.engine.handle(self.now(), Fact::Failed(conn, why));
                    return false;
                }
            }
        }
        true
    }

    /// Reads what has come.
    fn listen(&mut self) {
        let Some(conn) = self.conn else { return };
        let mut buffer = [0; 512];
        let read = self.board.receive(&mut buffer);
        let now = self.now();
        match read {
            Ok(None) => {}
            Ok(Some(0)) => self.engine.handle(now, Fact::Eof(conn)),
            Ok(Some(count)) => self.engine.handle(now, Fact::Input(conn, &buffer[..count])),
            Err(why) => self.engine.handle(now, Fact::Failed(conn, why)),
        }
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.board.now())
    }
}
