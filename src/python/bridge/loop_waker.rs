//! The waker of an event loop's futures: wakes the loop, unless its thread is looking anyway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Wake, Waker};

use super::Process;
use super::wake_channel::WakeChannel;

pub(super) struct LoopWaker {
    process: &'static Process,
    pub(super) wake_channel: WakeChannel,
    /// Whether the loop's thread went to sleep, or does something else.
    asleep: AtomicBool,
    /// Whether a future was woken since the thread last looked.
    woken: AtomicBool,
}

impl LoopWaker {
    pub(super) fn new(process: &'static Process, wake_channel: WakeChannel) -> Arc<Self> {
        Arc::new(Self {
            process,
            wake_channel,
            asleep: AtomicBool::new(true),
            woken: AtomicBool::new(false),
        })
    }

    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// The loop's thread looks at its futures: no one needs to wake it.
    pub(super) fn awake(&self) {
        self.asleep.store(false, SeqCst);
        self.woken.store(false, SeqCst);
    }

    /// The loop's thread is about to stop looking. False if it has to look once more.
    pub(super) fn sleep(&self) -> bool {
        self.asleep.store(true, SeqCst);
        // Whoever woke a future in between has seen one of the two: it woke the loop, or this thread goes on.
        !(self.woken.swap(false, SeqCst) && self.asleep.swap(false, SeqCst))
    }

    /// Has the loop look again, after others had their turn.
    pub(super) fn signal(&self) {
        self.wake_channel.signal(self.process);
    }
}

impl Wake for LoopWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, SeqCst);
        if self.asleep.swap(false, SeqCst) {
            self.signal();
        }
    }
}
