//! `usercr info`: what is in an image, for people and for programs.
//!
//! Comes in: an image, of which nothing is trusted. Goes out: text, JSON, its records, or a picture.
//! What several tasks share is told once, so that the output is never much longer than the image.

/// What the other forms are made from.
mod facts;

/// One JSON document.
mod json;

/// The records one by one.
mod records;

/// A picture of the tree.
mod svg;

/// For people.
mod text;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use self::facts::Info;
use super::args::InfoArgs;
use super::{Failure, open_image};
use crate::error::Error;
use crate::image::{Reader, strict};
use crate::restart::source::{self, ImageFd};

pub fn run(args: &InfoArgs) -> Result<ExitCode, Failure> {
    let image = open_image(&args.image)?;
    let mut reader = source::open(image.as_fd())?;
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        return json::print(&mut out, reader);
    }
    if let Some(file) = &args.svg {
        let info = Info::read(reader)?;
        if file.as_os_str() == "-" {
            svg::draw(&mut out, &info).and_then(|()| out.flush()).map_err(Failure::Output)?;
        } else {
            let written = File::create(file).and_then(|file| {
                let mut out = BufWriter::new(file);
                svg::draw(&mut out, &info)?;
                out.flush()
            });
            written.map_err(Failure::file(file.display()))?;
        }
        return info.done();
    }
    if args.records {
        let walked = records::print(&mut out, reader.source_mut());
        // What was found before a failure is shown, too.
        out.flush().map_err(Failure::Output)?;
        // A strict check has the same fault, or one in front of it.
        if !args.strict {
            return walked.map(|()| ExitCode::SUCCESS);
        }
        if matches!(walked, Err(Failure::Output(_))) {
            return walked.map(|()| ExitCode::FAILURE);
        }
    }
    if args.strict {
        return check(&mut out, &mut reader);
    }
    let info = Info::read(reader)?;
    text::print(&mut out, &info).and_then(|()| out.flush()).map_err(Failure::Output)?;
    info.done()
}

fn check(out: &mut impl Write, reader: &mut Reader<ImageFd>) -> Result<ExitCode, Failure> {
    let checked = strict::check(reader.source_mut()).map_err(Error::from)?;
    let strict::Checked { records, objects, bytes } = checked;
    writeln!(out, "as the format says: {records} records, {objects} objects, {bytes} bytes")
        .and_then(|()| out.flush())
        .map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}
