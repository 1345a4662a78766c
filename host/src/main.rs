//! The `thimble` command; everything it does is in the library.

fn main() -> std::process::ExitCode {
    thimble::cli::main()
}
