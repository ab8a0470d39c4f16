//! What is asked for on the command line.

/// Sizes of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Spans that each way exports while it is measured.
    pub spans: u64,
    /// Spans of a request.
    pub batch: usize,
    /// Exports under way at a time, where a way has more than one.
    pub in_flight: usize,
    /// The ways to go; all where none is named.
    pub ways: Vec<String>,
    /// Times that each way is gone; the best in spans a second is told.
    pub rounds: usize,
}

impl Settings {
    /// Reads `--name value`; `--smoke` makes everything small.
    ///
    /// # Errors
    ///
    /// What is wrong with the arguments.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut settings = Self {
            spans: 4_000_000,
            batch: 512,
            in_flight: 8,
            ways: Vec::new(),
            rounds: 3,
        };
        let mut arguments = arguments;
        while let Some(name) = arguments.next() {
            if name == "--smoke" {
                settings.spans = 20_000;
                settings.rounds = 1;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || {
                let number = value.replace('_', "").parse::<u64>().ok();
                let number = number.filter(|number| *number > 0);
                number.ok_or_else(|| format!("{name} {value}: a number above zero is needed"))
            };
            match name.as_str() {
                "--spans" => settings.spans = number()?,
                "--batch" => settings.batch = number()? as usize,
                "--in-flight" => settings.in_flight = number()? as usize,
                "--rounds" => settings.rounds = number()? as usize,
                "--ways" => settings.ways = value.split(',').map(str::to_owned).collect(),
                _ => return Err(format!("{name} is not known")),
            }
        }
        Ok(settings)
    }

    /// The same, for another process.
    pub fn arguments(&self) -> Vec<String> {
        [
            ("--spans", self.spans),
            ("--batch", self.batch as u64),
            ("--in-flight", self.in_flight as u64),
        ]
        .into_iter()
        .flat_map(|(name, number)| [name.to_owned(), number.to_string()])
        .collect()
    }

    /// Requests of the measured time; the last may be smaller.
    pub fn requests(&self) -> u64 {
        self.spans.div_ceil(self.batch as u64)
    }

    /// Spans of a request of the measured time, by its number.
    pub fn spans_of(&self, request: u64) -> usize {
        let before = request * self.batch as u64;
        (self.spans - before).min(self.batch as u64) as usize
    }

    /// Requests before the measured time: connections are opened and buffers grow.
    pub fn warm_up_requests(&self) -> u64 {
        (self.requests() / 20).clamp(4, 200)
    }
}
