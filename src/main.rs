//! The command line of Hedgerow: arguments, logging, signals. What it does lives in the crates below.

mod cli;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match cli::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hedgerow: {error:#}");
            ExitCode::from(2)
        }
    }
}
