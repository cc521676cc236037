//! The `sluice` command.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: sluice::allocator::Mimalloc = sluice::allocator::Mimalloc;

fn main() -> ExitCode {
    sluice::cli::run()
}
