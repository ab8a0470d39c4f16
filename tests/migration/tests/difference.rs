//! Migrating changes the exporters and nothing else, and MIGRATING.md shows all of it.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

const BEFORE: &str = include_str!("../before.rs");
const AFTER: &str = include_str!("../after.rs");
const WITH_PROCESSORS: &str = include_str!("../with_processors.rs");
/// The steps that the page shows: names and texts of both files.
const STEPS: [[(&str, &str); 2]; 2] = [
    [("before.rs", BEFORE), ("after.rs", AFTER)],
    [("after.rs", AFTER), ("with_processors.rs", WITH_PROCESSORS)],
];
/// Lines of context around what differs.
const CONTEXT: usize = 3;

#[derive(Clone, Copy, PartialEq)]
enum Line<'a> {
    Kept(&'a str),
    Removed(&'a str),
    Added(&'a str),
}

#[test]
fn nothing_but_the_exporter_differs() {
    assert_ne!(BEFORE, AFTER);
    let (before, after) = (application(BEFORE), application(AFTER));
    assert_eq!(before, after);
    for kept in ["fn run(", "fn start(", "fn checkout(", "fn shutdown("] {
        assert!(
            before.iter().any(|line| line.contains(kept)),
            "{kept} is compared"
        );
    }
}

/// The lines of a file that are not about exporters: what makes them, and imports, are left out.
fn application(text: &str) -> Vec<&str> {
    let mut is_exporter = false;
    let mut kept = Vec::new();
    for line in text.lines() {
        is_exporter |= ["fn exporters(", "fn grpc<", "fn http<"]
            .iter()
            .any(|start| line.starts_with(start));
        if !is_exporter && !line.starts_with("use ") && !line.is_empty() {
            kept.push(line);
        }
        is_exporter &= line != "}";
    }
    kept
}

#[test]
fn the_applications_are_of_a_readable_length() {
    for (name, text) in STEPS.into_iter().flatten() {
        assert!(text.lines().count() < 120, "{name} is too long for a page");
    }
    let (before, after) = (BEFORE.lines().count(), AFTER.lines().count());
    assert!(after < before, "{after} lines after, {before} before");
    assert!(!AFTER.contains("opentelemetry_otlp"));
}

/// With `OTLP_EMBED_BLESS` set it writes the page anew.
#[test]
fn the_page_shows_the_difference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../MIGRATING.md");
    for [(old, before), (new, after)] in STEPS {
        let page = fs::read_to_string(&path).expect("MIGRATING.md");
        let start = format!("```diff\n--- {old}\n+++ {new}\n");
        let (head, rest) = page
            .split_once(&start)
            .expect("the page shows a difference of the two files");
        let (shown, tail) = rest.split_once("```\n").expect("the block ends");
        let made = unified(&difference(before, after));
        if env::var_os("OTLP_EMBED_BLESS").is_some() {
            fs::write(&path, format!("{head}{start}{made}```\n{tail}")).expect("the page is written");
        } else {
            assert!(
                shown == made,
                "MIGRATING.md shows another difference; OTLP_EMBED_BLESS=1 writes this one:\n{made}"
            );
        }
    }
}

/// The second step leaves the telemetry alone too: what is told is told by the same lines.
#[test]
fn the_second_step_leaves_the_application_alone() {
    let told = |text: &'static str| {
        let (_, rest) = text.split_once("fn checkout(").expect("it tells something");
        rest.split_once("\n}\n").expect("the function ends").0
    };
    assert_eq!(told(AFTER), told(WITH_PROCESSORS));
}

/// What is shown, read backwards: the page says how one file becomes the other, without any knowledge of how it was made.
#[test]
fn the_difference_leads_from_one_to_the_other() {
    for [(_, before), (_, after)] in STEPS {
        leads(before, after);
    }
}

fn leads(before: &str, after: &str) {
    let lines = difference(before, after);
    let read = |leaves_out: fn(&Line<'_>) -> bool| -> String {
        let kept = lines.iter().filter(|line| !leaves_out(line));
        kept.map(|line| {
            let (Line::Kept(text) | Line::Removed(text) | Line::Added(text)) = line;
            format!("{text}\n")
        })
        .collect()
    };
    assert_eq!(read(|line| matches!(line, Line::Added(_))), before);
    assert_eq!(read(|line| matches!(line, Line::Removed(_))), after);
}

/// The longest common subsequence of lines is kept; what is removed stands before what is added.
fn difference<'a>(before: &'a str, after: &'a str) -> Vec<Line<'a>> {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    // How many lines of the rests are common.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = match old[i] == new[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Kept(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && common[i + 1][j] >= common[i][j + 1] {
            lines.push(Line::Removed(old[i]));
            i += 1;
        } else {
            lines.push(Line::Added(new[j]));
            j += 1;
        }
    }
    lines
}

/// Hunks with their numbers of lines, as `diff -u` writes them.
fn unified(lines: &[Line<'_>]) -> String {
    let changed = |at: usize| !matches!(lines[at], Line::Kept(_));
    let near: Vec<bool> = (0..lines.len())
        .map(|at| (at.saturating_sub(CONTEXT)..(at + CONTEXT + 1).min(lines.len())).any(changed))
        .collect();
    let (mut old, mut new, mut at) = (1, 1, 0);
    let mut text = String::new();
    while at < lines.len() {
        let end = (at..lines.len())
            .find(|&end| near[end] != near[at])
            .unwrap_or(lines.len());
        let hunk = &lines[at..end];
        let removed = hunk.iter().filter(|line| !matches!(line, Line::Added(_))).count();
        let added = hunk
            .iter()
            .filter(|line| !matches!(line, Line::Removed(_)))
            .count();
        if near[at] {
            let _ = writeln!(text, "@@ -{old},{removed} +{new},{added} @@");
            for line in hunk {
                let (sign, line) = match line {
                    Line::Kept(line) => (' ', line),
                    Line::Removed(line) => ('-', line),
                    Line::Added(line) => ('+', line),
                };
                // No page ends a line with a space.
                let _ = writeln!(text, "{}", format!("{sign}{line}").trim_end());
            }
        }
        (old, new, at) = (old + removed, new + added, end);
    }
    text
}
