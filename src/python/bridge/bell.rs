//! The waker of an event loop's futures: rings the loop, unless its thread is looking anyway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Wake, Waker};

use super::Process;
use super::doorbell::Doorbell;

pub(super) struct Bell {
    process: &'static Process,
    pub(super) doorbell: Doorbell,
    /// Whether the loop's thread went to sleep, or does something else.
    asleep: AtomicBool,
    /// Whether a future was woken since the thread last looked.
    woken: AtomicBool,
}

impl Bell {
    pub(super) fn new(process: &'static Process, doorbell: Doorbell) -> Arc<Self> {
        Arc::new(Self {
            process,
            doorbell,
            asleep: AtomicBool::new(true),
            woken: AtomicBool::new(false),
        })
    }

    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// The loop's thread looks at its futures: no one needs to ring.
    pub(super) fn awake(&self) {
        self.asleep.store(false, SeqCst);
        self.woken.store(false, SeqCst);
    }

    /// The loop's thread is about to stop looking. False if it has to look once more.
    pub(super) fn sleep(&self) -> bool {
        self.asleep.store(true, SeqCst);
        // Whoever woke a future in between has seen one of the two: it rang, or this thread goes on.
        !(self.woken.swap(false, SeqCst) && self.asleep.swap(false, SeqCst))
    }

    /// Has the loop look again, after others had their turn.
    pub(super) fn ring(&self) {
        self.doorbell.ring(self.process);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, SeqCst);
        if self.asleep.swap(false, SeqCst) {
            self.ring();
        }
    }
}
