//! The operator's program: reads the command line, calls the library, ends with its exit code.

use std::process::ExitCode;

/// Wipes all memory that is freed, the buffers of TLS, HTTP/2 and JSON among it.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    secret_broker::app::operator::main()
}
