//! Where logs and panics go while a full screen is up: they would tear it. They are held back, and
//! come on stderr once it is down.

use std::io::{self, Write};
use std::panic;
use std::sync::{Mutex, PoisonError};

/// Of logs that are held back, in bytes: the first ones, which tell what began.
const MAX_HELD: usize = 64 * 1024;

/// What is held back, while anything is.
static HELD: Mutex<Option<Vec<u8>>> = Mutex::new(None);

/// Stderr, or what is held back of it.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match HELD.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(held) => {
                let room = MAX_HELD.saturating_sub(held.len());
                held.extend_from_slice(&bytes[..bytes.len().min(room)]);
                Ok(bytes.len())
            }
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Holds back until it is dropped.
#[derive(Debug)]
pub(super) struct Hold;

impl Hold {
    pub(super) fn new() -> Self {
        *HELD.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
        panic::set_hook(Box::new(|info| {
            // Stderr cannot fail while it is held back.
            let _held = writeln!(Stderr, "{info}");
        }));
        Hold
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // Back to the usual one; while unwinding it cannot be changed, and is not needed.
            let _ours = panic::take_hook();
        }
        let held = HELD.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Nobody is left to tell where stderr is gone as well.
        let _gone = io::stderr().write_all(&held.unwrap_or_default());
    }
}
