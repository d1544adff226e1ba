//! The connector's binary: everything is in the library.

fn main() -> std::process::ExitCode {
    destination_aws_datalake::cli::run(std::env::args_os())
}
