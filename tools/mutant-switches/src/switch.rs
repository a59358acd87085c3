//! Which mutant a process has. This file becomes a module of the sources that mutants are put into.

use std::ffi::{CString, c_void};
use std::ptr::null_mut;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

static BEGUN: Once = Once::new();
static CHOSEN: AtomicUsize = AtomicUsize::new(usize::MAX);
static REACHED: AtomicPtr<u8> = AtomicPtr::new(null_mut());

/// Whether the process has this mutant: it is the one that `MUTANT` names. A process that has `MUTANTS_REACHED` keeps
/// in that file, a byte for each mutant, which of them it could have had.
pub fn is(number: usize) -> bool {
    BEGUN.call_once(begin);
    let reached = REACHED.load(Relaxed);
    if !reached.is_null() {
        // SAFETY: the file has a byte for each mutant, and is mapped for as long as the process lives.
        unsafe { reached.add(number).write_volatile(1) };
    }
    CHOSEN.load(Relaxed) == number
}

/// Has this process have a mutant from now on, as one that was forked has to.
#[unsafe(no_mangle)]
pub extern "C" fn choose_mutant(number: usize) {
    BEGUN.call_once(begin);
    CHOSEN.store(number, Relaxed);
}

fn begin() {
    let chosen = std::env::var("MUTANT").ok();
    if let Some(number) = chosen.and_then(|number| number.parse().ok()) {
        CHOSEN.store(number, Relaxed);
    }
    if let Ok(file) = std::env::var("MUTANTS_REACHED") {
        REACHED.store(mapped(&file), Relaxed);
    }
}

fn mapped(file: &str) -> *mut u8 {
    let length = std::fs::metadata(file).map_or(0, |file| file.len());
    let name = CString::new(file).unwrap_or_default();
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: plain calls of the system; a mapping outlives the descriptor that it was made by.
    let mapped = unsafe {
        let descriptor = libc::open(name.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        let length = usize::try_from(length).unwrap_or(0);
        let mapped = libc::mmap(null_mut::<c_void>(), length, access, libc::MAP_SHARED, descriptor, 0);
        libc::close(descriptor);
        mapped
    };
    assert_ne!(mapped, libc::MAP_FAILED, "{file}: not mapped");
    mapped.cast()
}
