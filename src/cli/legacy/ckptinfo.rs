//! `ckptinfo`: the records of an image, without a look at what they mean.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use super::super::Failure;
use super::{Outcome, open_image};
use crate::error::Error;
use crate::image::records::{self, RecordInfo};
use crate::restart::source;

/// No text of an error record is shown beyond this many bytes.
const LONGEST: usize = 4096;

/// No more error records than this are shown.
const MOST: usize = 1000;

/// Show the records of an image
#[derive(Debug, Parser)]
#[command(name = "ckptinfo", version, max_term_width = 100)]
#[command(infer_long_args = true, args_override_self = true)]
pub struct Arguments {
    /// Show the error records
    #[arg(short, long)]
    error: bool,
    /// Show all records: offset, type, length, and the object that a reference is to
    #[arg(short, long)]
    verbose: bool,
    /// The image; without it, standard input
    file: Option<PathBuf>,
}

pub fn run(args: &Arguments) -> Outcome {
    let image = open_image(args.file.as_ref())?;
    let mut image = source::open(image.as_fd())?;
    let mut out = io::stdout().lock();
    let (mut count, mut errors) = (0u64, 0u64);
    let mut texts = Vec::new();
    // A writer may have put the text into the STRING behind the error record.
    let mut pending = false;
    let mut end = Ok(());
    for record in records::walk(image.source_mut()) {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                end = Err(Error::from(error));
                break;
            }
        };
        count += 1;
        if args.verbose {
            writeln!(out, "{}", line(&record)).map_err(Failure::Output)?;
        }
        let behind = pending && record.kind == records::STRING.number;
        pending = record.kind == records::ERROR.number;
        errors += u64::from(pending);
        if args.error && (pending || behind) && texts.len() < MOST {
            texts.push(record);
        }
    }
    let (file, base) = image.source_mut().pages_file().map_err(Failure::file("image"))?;
    let file = File::from(file.try_clone_to_owned().map_err(Failure::file("image"))?);
    for record in &texts {
        let text = text(&file, base, record).map_err(Failure::file("image"))?;
        writeln!(out, "{:>10} error: {text}", record.offset).map_err(Failure::Output)?;
    }
    // A checkpoint that failed has written nothing behind its error record.
    if texts.is_empty() {
        end?;
    }
    writeln!(out, "records {count}, errors {errors}").map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

fn line(record: &RecordInfo) -> String {
    let RecordInfo { offset, kind, name, len, objref } = record;
    let object = objref
        .map_or_else(String::new, |(kind, tag)| format!(" {} {tag}", records::object_name(kind)));
    format!("{offset:>10} {kind:>5} {name} {len}{object}")
}

/// What an error record says, harmless for terminals. The image begins at `base` of the file.
fn text(file: &File, base: u64, record: &RecordInfo) -> io::Result<String> {
    let len = record.len.saturating_sub(records::HEADER_LEN) as usize;
    let mut bytes = vec![0; len.min(LONGEST)];
    file.read_exact_at(&mut bytes, base + record.offset + u64::from(records::HEADER_LEN))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim_matches('\0').escape_debug().to_string())
}
