//! The file that tells what was sent and what became of it.

use crate::plan::Batch;
use otlp_embed::pipeline::Account;
use otlp_embed::{Error, Outcome};
use serde_json::json;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// A manifest that any number of callers write. Clones share the file.
#[derive(Clone)]
pub struct Manifest(Arc<Mutex<BufWriter<File>>>);

impl Manifest {
    /// Begins a file anew.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(BufWriter::new(File::create(path)?)))))
    }

    /// Writes the items of a batch and its verdict.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn write(&self, batch: &Batch, verdict: &Result<Outcome, Error>) -> io::Result<()> {
        let verdict = match verdict {
            Ok(outcome) => json!({
                "batch": batch.number,
                "outcome": "ok",
                "delivered": outcome.delivered(),
                "rejected": outcome.rejected(),
                "attempts": outcome.attempts(),
                "message": outcome.message(),
            }),
            Err(error) => json!({
                "batch": batch.number,
                "outcome": "error",
                "error": error.to_string(),
                "grpc_status": error.grpc_status().map(|code| code.as_u32()),
                "counts": error.counts().to_string(),
            }),
        };
        let mut lines = items(batch)?;
        serde_json::to_writer(&mut lines, &verdict)?;
        lines.push(b'\n');
        self.append(&lines)
    }

    /// Writes the items of a batch that has no verdict of its own.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn write_items(&self, batch: &Batch) -> io::Result<()> {
        self.append(&items(batch)?)
    }

    /// Writes what became of everything that went to one collector, or to one of several.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn write_account(&self, account: &Account, possible_duplicates: u64) -> io::Result<()> {
        let account = json!({
            "accepted": account.accepted,
            "delivered": account.delivered,
            "rejected": account.rejected,
            "dropped": account.dropped_total(),
            "unknown": account.unknown,
            "possible_duplicates": possible_duplicates,
        });
        let mut line = serde_json::to_vec(&json!({ "account": account }))?;
        line.push(b'\n');
        self.append(&line)
    }

    fn append(&self, lines: &[u8]) -> io::Result<()> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(lines)
    }

    /// Puts everything into the file.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn close(&self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

fn items(batch: &Batch) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for item in batch.to_json() {
        serde_json::to_writer(&mut lines, &json!({ "batch": batch.number, "item": item }))?;
        lines.push(b'\n');
    }
    Ok(lines)
}
