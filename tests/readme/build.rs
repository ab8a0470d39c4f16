//! Makes a module of every Rust block of the README and of MIGRATING.md.
//!
//! A block is named after its heading: `tokio` is the first below "tokio", `tokio_2` the second. What is a whole program,
//! with a `main`, can be run by its name; the functions of the others are made public, to be called by the tests. Every
//! string `"http://..."` becomes `crate::endpoint("http://...")`, so that the collector of a test stands behind it: in no other
//! respect is what is compiled different from what is printed.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The pages, and what the names of their blocks begin with.
const PAGES: [(&str, &str); 2] = [("README.md", ""), ("MIGRATING.md", "migrating_")];

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut blocks = Vec::new();
    for (page, prefix) in PAGES {
        let path = root.join(page);
        println!("cargo::rerun-if-changed={}", path.display());
        match fs::read_to_string(&path) {
            Ok(text) => blocks.extend(extract(page, prefix, &text)),
            Err(error) if page == "README.md" => panic!("{}: {error}", path.display()),
            Err(_) => {}
        }
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("blocks.rs"), modules(&blocks)).expect("the modules are written");
}

struct Block {
    name: String,
    place: String,
    code: String,
    is_program: bool,
}

/// The Rust blocks of a page, whatever attributes follow the word `rust`: none can be excepted.
fn extract(page: &str, prefix: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut heading = String::from("top");
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let body: Vec<&str> = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| *line != "```")
                .collect();
            if info != "rust" && !info.starts_with("rust,") {
                assert!(
                    !is_hidden(line),
                    "{page}, line {}: is this a block of Rust? It would say ```rust",
                    at + 1
                );
                continue;
            }
            let count = counts.entry(heading.clone()).or_default();
            *count += 1;
            let name = match *count {
                1 => format!("{prefix}{heading}"),
                n => format!("{prefix}{heading}_{n}"),
            };
            let place = format!("{page}, line {}", at + 2);
            let code: String = body.iter().map(|line| rewritten(line) + "\n").collect();
            let is_program = body.iter().any(|line| line.contains("fn main("));
            let is_callable = body
                .iter()
                .any(|line| line.starts_with("fn ") || line.starts_with("async fn "));
            assert!(
                is_callable,
                "{place}: a block is a whole program or has functions, so that a test can run it"
            );
            blocks.push(Block {
                name,
                place,
                code,
                is_program,
            });
        } else if is_hidden(line) {
            panic!(
                "{page}, line {}: a block of Rust begins with ```rust at the margin, or no test sees it",
                at + 1
            );
        } else if line.starts_with('#') {
            heading = slug(line);
        }
    }
    blocks
}

/// Whether a line begins a block of Rust in a way that is not looked for.
fn is_hidden(line: &str) -> bool {
    let fence = line.trim_start().to_lowercase();
    ["```r", "``` r", "````", "~~~"]
        .iter()
        .any(|start| fence.starts_with(start))
}

/// A line with its items public and its endpoints those of the test.
fn rewritten(line: &str) -> String {
    let is_item = ["fn ", "async fn ", "struct ", "trait "]
        .iter()
        .any(|start| line.starts_with(start));
    let mut text = String::from(if is_item { "pub " } else { "" });
    let mut rest = line;
    while let Some(at) = rest.find("\"http://") {
        let end = rest[at + 1..]
            .find('"')
            .expect("a URL in a string ends where it began")
            + at
            + 2;
        let _ = write!(text, "{}crate::endpoint({})", &rest[..at], &rest[at..end]);
        rest = &rest[end..];
    }
    text + rest
}

/// A heading as the name of a module: what stands in parentheses is left out.
fn slug(heading: &str) -> String {
    let words = heading
        .trim_start_matches('#')
        .split('(')
        .next()
        .unwrap_or_default();
    let words = words
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_").to_lowercase()
}

fn modules(blocks: &[Block]) -> String {
    let mut text = String::new();
    for block in blocks {
        let Block {
            name, place, code, ..
        } = block;
        let _ = writeln!(
            text,
            "#[allow(missing_docs, clippy::disallowed_methods)]\n#[doc = \"{place}.\"]\npub mod {name} {{\n{code}}}\n"
        );
    }
    let _ = writeln!(text, "/// The names of all blocks.\npub const ALL: &[&str] = &[");
    for Block { name, .. } in blocks {
        let _ = writeln!(text, "    \"{name}\",");
    }
    let _ = writeln!(
        text,
        "];\n\n/// Runs the `main` of a block; false where it has none.\n///\n/// # Errors\n///\n/// That of its `main`."
    );
    let _ = writeln!(
        text,
        "pub fn run(name: &str) -> Result<bool, Box<dyn std::error::Error>> {{\n    match name {{"
    );
    for Block { name, .. } in blocks.iter().filter(|block| block.is_program) {
        let _ = writeln!(text, "        \"{name}\" => {name}::main()?,");
    }
    text + "        _ => return Ok(false),\n    }\n    Ok(true)\n}\n"
}
