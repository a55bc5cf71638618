//! The binary interface: exported symbols, their versions and sizes, the SONAME, the header, and the
//! one variable as callers of every kind see it.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod cc;

use std::fs;
use std::mem::offset_of;
use std::process::Command;
use std::time::Duration;

use cc::Link;

/// One line of the dynamic symbol table.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Symbol {
    kind: String,
    name: String,
    size: u64,
}

/// The symbols that the shared library defines for others.
fn exported() -> Vec<Symbol> {
    let library = cc::libraries().dir.join("libusercr.so");
    let table = cc::succeeds(Command::new("nm").args(["-D", "-S", "--defined-only"]).arg(library));
    let mut symbols = Vec::new();
    for line in table.lines() {
        let columns: Vec<&str> = line.split_whitespace().collect();
        match columns.as_slice() {
            // The version's own name has no size.
            [_, "A", name] => assert_eq!(*name, "USERCR_1"),
            [_, size, kind, name] => symbols.push(Symbol {
                kind: (*kind).to_owned(),
                name: (*name).to_owned(),
                size: u64::from_str_radix(size, 16).expect("a size in base 16"),
            }),
            _ => panic!("nm printed {line:?}"),
        }
    }
    symbols.sort();
    symbols
}

#[test]
fn exactly_the_documented_symbols_are_exported() {
    let symbols = exported();
    let names: Vec<_> = symbols.iter().map(|s| (s.kind.as_str(), s.name.as_str())).collect();
    let wanted = [
        ("D", "global_send_sigint@@USERCR_1"),
        ("T", "cr_checkpoint@@USERCR_1"),
        ("T", "cr_restart@@USERCR_1"),
        ("T", "usercr_last_error@@USERCR_1"),
    ];
    assert_eq!(names, wanted);
    // A variable without its size cannot be copied into a caller that is linked at a fixed address.
    assert!(symbols.iter().all(|s| s.size >= 4), "{symbols:?}");
    assert_eq!(symbols.first().map(|s| s.size), Some(4));
}

/// Compiled callers depend on what `abi/usercr.abi` says: a change of it is a change of the SONAME, unless it only adds lines.
#[test]
fn the_interface_is_the_described_one() {
    let library = cc::libraries().dir.join("libusercr.so");
    let mut lines = Vec::new();
    let dynamic = cc::succeeds(Command::new("readelf").args(["-d", "-W"]).arg(library));
    let soname = dynamic.lines().find_map(|l| l.split_once("soname: [")?.1.strip_suffix(']'));
    lines.push(format!("soname {}", soname.expect("a soname")));
    for Symbol { kind, name, size } in exported() {
        let (name, version) = name.split_once("@@").expect("a version");
        lines.push(match kind.as_str() {
            "T" => format!("function {name} {version}"),
            _ => format!("variable {name} {version} size {size}"),
        });
    }
    let header = cc::top().join("include/checkpoint.h");
    let header = fs::read_to_string(header).expect("read include/checkpoint.h");
    lines.extend(described(&header));
    let path = cc::top().join("abi/usercr.abi");
    let text = fs::read_to_string(&path).expect("read abi/usercr.abi");
    let wanted: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    let only = |a: &[String], b: &[&str]| -> Vec<String> {
        a.iter().filter(|l| !b.contains(&l.as_str())).cloned().collect()
    };
    let new = only(&lines, &wanted);
    let built: Vec<&str> = lines.iter().map(String::as_str).collect();
    let gone: Vec<_> = wanted.iter().filter(|l| !built.contains(l)).collect();
    assert!(built == wanted, "not in abi/usercr.abi: {new:#?}\nonly there: {gone:#?}");
}

/// What a header declares, as the C compiler lays it out: names with values, structs, prototypes.
fn described(header: &str) -> Vec<String> {
    let declarations = without_comments(header);
    let (mut print, mut prototypes) = (String::new(), Vec::new());
    let mut within = None;
    for line in declarations.lines().map(str::trim) {
        let line_of = |s: &str, f: &str, rest: &str| {
            format!("printf(\"field {s} {rest} at %zu\\n\", offsetof(struct {s}, {f}));\n")
        };
        if let Some(name) = line.strip_prefix("#define ").and_then(|l| l.split_once(' ')) {
            let name = name.0;
            print += &format!("printf(\"value {name} %d\\n\", (int){name});\n");
        } else if let Some(name) = line.strip_prefix("struct ").and_then(|l| l.strip_suffix(" {")) {
            print += &format!("printf(\"struct {name} size %zu\\n\", sizeof(struct {name}));\n");
            within = Some(name);
        } else if line == "};" {
            within = None;
        } else if let (Some(name), Some(field)) = (within, line.strip_suffix(';')) {
            let last = field.rsplit([' ', '*']).next().expect("a name");
            print += &line_of(name, last, field);
        } else if line.contains('(') && line.ends_with(");") {
            prototypes.push(format!("prototype {line}"));
        }
    }
    let source = cc::build_dir().join("describe.c");
    let text = format!(
        "#include <stddef.h>\n#include <stdio.h>\n#include \"checkpoint.h\"\n\
         int main(void)\n{{\n{print}return 0;\n}}\n"
    );
    fs::write(&source, text).expect("write a source");
    let program = cc::build_dir().join("describe");
    let mut command = cc::cc();
    command.arg("-I").arg(cc::top().join("include")).arg("-o").arg(&program).arg(&source);
    cc::succeeds(&mut command);
    let mut lines: Vec<String> =
        cc::succeeds(&mut Command::new(program)).lines().map(str::to_owned).collect();
    lines.extend(prototypes);
    lines
}

/// A C text without its comments.
fn without_comments(text: &str) -> String {
    let mut parts = text.split("/*");
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        rest += part.split_once("*/").map_or("", |(_, after)| after);
    }
    rest
}

/// The header is what C callers are compiled with; these are what the library uses.
#[test]
fn the_library_lays_its_structs_out_as_the_description_says() {
    let text = fs::read_to_string(cc::top().join("abi/usercr.abi")).expect("read abi/usercr.abi");
    let mut lines = Vec::new();
    macro_rules! layout {
        ($c:literal, $rust:ty, $($field:ident)*) => {
            lines.push(format!("struct {} size {}", $c, size_of::<$rust>()));
            $(
                let field = stringify!($field).replace("myself", "self");
                lines.push(format!("field {} {field} at {}", $c, offset_of!($rust, $field)));
            )*
        };
    }
    layout!("cr_restart_args", usercr::ffi::CrRestartArgs,
        myself pids pidns inspect root wait mntns mnt_pty show_status copy_status freezer
        keep_frozen infd klogfd ulogfd uerrfd warn debug verbose fail keep_lsm);
    layout!("cr_checkpoint_args", usercr::ffi::CrCheckpointArgs,
        outfd logfd uerrfd container verbose flags);
    layout!("usercr_error", usercr::ffi::UsercrError, code stage task pid offset text);
    // The description has the types too.
    let untyped = |line: &str| -> String {
        let words: Vec<&str> = line.split([' ', '*']).collect();
        match words.as_slice() {
            ["field", name, .., field, at, offset] => format!("field {name} {field} {at} {offset}"),
            _ => line.to_owned(),
        }
    };
    let of_structs = |l: &&str| l.starts_with("struct ") || l.starts_with("field ");
    let wanted: Vec<String> = text.lines().filter(of_structs).map(untyped).collect();
    assert_eq!(lines, wanted);
}

#[test]
fn the_shared_library_has_its_soname_and_no_executable_stack() {
    let library = cc::libraries().dir.join("libusercr.so");
    let dynamic = cc::succeeds(Command::new("readelf").args(["-d", "-W"]).arg(&library));
    assert!(dynamic.contains("soname: [libusercr.so.1]"), "{dynamic}");
    assert!(!dynamic.contains("TEXTREL"), "{dynamic}");
    let segments = cc::succeeds(Command::new("readelf").args(["-l", "-W"]).arg(&library));
    let stack = segments.lines().find(|l| l.contains("GNU_STACK")).expect("a GNU_STACK line");
    assert!(!stack.contains("RWE"), "{stack}");
}

#[test]
fn the_header_is_up_to_date() {
    let made = include_str!(concat!(env!("OUT_DIR"), "/checkpoint.h"));
    let path = cc::top().join("include/checkpoint.h");
    let checked_in = fs::read_to_string(&path).expect("read include/checkpoint.h");
    let hint = concat!("include/checkpoint.h is stale: copy ", env!("OUT_DIR"), "/checkpoint.h");
    assert!(made == checked_in, "{hint}");
}

#[test]
fn the_header_compiles_as_every_c_and_as_cxx() {
    let source = cc::build_dir().join("header.c");
    let text = "#include \"checkpoint.h\"\n#include \"checkpoint.h\"\n\
                struct both { struct cr_restart_args r; struct cr_checkpoint_args c; };\n\
                int call(struct both *b);\n\
                int call(struct both *b) { return cr_restart(&b->r) + cr_checkpoint(1, &b->c) + \
                global_send_sigint; }\n";
    fs::write(&source, text).expect("write a source");
    let include = cc::top().join("include");
    for standard in ["c89", "c99", "c11", "gnu11", "c17"] {
        let mut command = cc::cc();
        command.arg(format!("-std={standard}")).arg("-pedantic-errors").arg("-I").arg(&include);
        cc::succeeds(command.arg("-c").arg(&source).arg("-o").arg("/dev/null"));
    }
    for standard in ["c++98", "c++17"] {
        let mut command = cc::cxx();
        command.arg(format!("-std={standard}")).arg("-pedantic-errors").arg("-I").arg(&include);
        cc::succeeds(command.args(["-x", "c++", "-c"]).arg(&source).arg("-o").arg("/dev/null"));
    }
}

/// Where the compiler can make 32-bit code, as on most x86_64 machines.
#[test]
fn on_32_bit_the_layout_is_the_historic_one() {
    let fields = [
        ("self", 0),
        ("inspect", 12),
        ("root", 16),
        ("wait", 20),
        ("copy_status", 36),
        ("freezer", 40),
        ("keep_frozen", 44),
        ("uerrfd", 60),
        ("warn", 64),
        ("verbose", 72),
        ("fail", 76),
        ("keep_lsm", 80),
    ];
    let at = |(name, offset): (&str, usize)| {
        format!(
            "_Static_assert(offsetof(struct cr_restart_args, {name}) == {offset}, \"{name}\");\n"
        )
    };
    let sizes = "_Static_assert(sizeof(struct cr_restart_args) == 84, \"restart\");\n\
                 _Static_assert(sizeof(struct cr_checkpoint_args) == 24, \"checkpoint\");\n";
    let source = cc::build_dir().join("narrow.c");
    let text = fields.map(at).concat();
    let head = "#include <stddef.h>\n#include \"checkpoint.h\"\n";
    fs::write(&source, format!("{head}{text}{sizes}")).expect("write a source");
    let mut command = cc::cc();
    command.args(["-std=c11", "-m32", "-ffreestanding", "-fsyntax-only", "-I"]);
    cc::succeeds(command.arg(cc::top().join("include")).arg(&source));
}

#[test]
fn conditions_of_the_callers_own_headers_are_left_alone() {
    let source = cc::build_dir().join("conditions.c");
    let text = "#define CKPT_COND_MNTPTY 4L\n#include \"checkpoint.h\"\n\
                int size[sizeof CKPT_COND_MNTPTY == sizeof(long) ? 1 : -1];\n\
                int others[CKPT_COND_PIDZERO + CKPT_COND_MNTPROC == 3 ? 1 : -1];\n";
    fs::write(&source, text).expect("write a source");
    let mut command = cc::cc();
    command.arg("-std=c89").arg("-I").arg(cc::top().join("include"));
    cc::succeeds(command.arg("-c").arg(&source).arg("-o").arg("/dev/null"));
}

#[test]
fn the_variable_is_one_for_library_and_caller() {
    // In a program at a fixed address the variable is copied into the program, and the library must
    // use that copy.
    let source = cc::top().join("c-tests/variable.c");
    let cwd = tempfile::tempdir().expect("a folder to run in");
    for (link, options) in [
        (Link::Shared, ["-fPIE", "-pie"].as_slice()),
        (Link::Shared, &["-fno-pie", "-no-pie"]),
        (Link::Archive, &["-fPIE", "-pie"]),
        (Link::Archive, &["-fno-pie", "-no-pie"]),
        (Link::Static, &[]),
    ] {
        let program = cc::build(&source, link, options);
        let limit = Duration::from_secs(20);
        let (status, text) = cc::run(&program, &[], &[], cwd.path(), limit).expect("it ends");
        assert!(
            matches!(status.code(), Some(0 | cc::SKIPPED)),
            "{link:?} {options:?}: {status}\n{text}"
        );
    }
}

#[test]
fn the_library_finds_the_variable_through_its_table() {
    // Otherwise it would go on using its own when the variable was copied into the program.
    let library = cc::libraries().dir.join("libusercr.so");
    let relocations = cc::succeeds(Command::new("readelf").args(["-r", "-W"]).arg(library));
    let mut of_variable = relocations.lines().filter(|l| l.contains("global_send_sigint"));
    assert!(of_variable.any(|l| l.contains("R_X86_64_GLOB_DAT")), "{relocations}");
}

#[test]
fn pkg_config_file_names_what_the_static_library_needs() {
    let path = cc::libraries().dir.join("usercr.pc");
    let text = fs::read_to_string(path).expect("read usercr.pc");
    let version = format!("Version: {}", env!("CARGO_PKG_VERSION"));
    let private = format!("Libs.private: {}", cc::SYSTEM_LIBS.join(" "));
    for line in [version.as_str(), private.as_str()] {
        assert!(text.lines().any(|l| l == line), "no {line:?} in:\n{text}");
    }
}
