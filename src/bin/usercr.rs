//! The `usercr` command: see [`usercr::cli`].

fn main() -> std::process::ExitCode {
    usercr::cli::main()
}
