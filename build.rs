//! Makes `checkpoint.h` of `src/ffi` in `OUT_DIR`. The tests compare it with `include/checkpoint.h`.
#![allow(clippy::print_stdout, reason = "a build script talks to cargo on its standard output")]

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let top = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?).join("checkpoint.h");
    let sources = ["src/ffi/args.rs", "src/ffi/mod.rs"];
    for file in sources.iter().chain(&["src/ffi/last.rs", "cbindgen.toml", "build.rs"]) {
        println!("cargo::rerun-if-changed={file}");
    }
    let config = cbindgen::Config::from_file(top.join("cbindgen.toml"))?;
    let mut builder = cbindgen::Builder::new().with_config(config);
    for file in sources {
        builder = builder.with_src(top.join(file));
    }
    let mut header = Vec::new();
    builder.generate()?.write(&mut header);
    fs::write(out, tidy(&String::from_utf8(header)?))?;
    Ok(())
}

/// What cbindgen has no setting for: comments as C89 has them, short ones on one line.
fn tidy(header: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in header.lines() {
        let line = line.split("//").next().unwrap_or(line).trim_end();
        let end = lines.len();
        let above = |n: usize| end.checked_sub(n).and_then(|i| lines.get(i)).map(String::as_str);
        if line.is_empty() && matches!(above(1), None | Some("")) {
            continue;
        }
        match (above(2).map(str::trim), above(1).map(str::trim)) {
            (Some("/*"), Some(text)) if line.trim() == "*/" => {
                let indent = line.len() - line.trim_start().len();
                let short = format!("{:w$}/* {text} */", "", w = indent.saturating_sub(1));
                lines.truncate(end - 2);
                lines.push(short);
            }
            _ => lines.push(line.replace("# Safety", "The caller sees to it that these hold:")),
        }
    }
    lines.join("\n") + "\n"
}
