//! Why a frame cannot be read, and what is said of it.

/// Why a frame does not give its content.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It holds more than is allowed.
    TooLarge,
    /// It is no whole frame: its codec, and what that says.
    Damaged(&'static str, String),
    /// This machine has not the memory for a content that is allowed.
    NoMemory,
}

impl Unreadable {
    pub(super) fn message(&self, max: usize) -> String {
        match self {
            Self::TooLarge => format!(
                "the stored frame holds more than the {max} bytes that redis_max_value_bytes allows: raise the setting to read it"
            ),
            Self::Damaged(codec, said) => format!(
                "the stored {codec} frame is damaged ({said}): delete the id, or write it again"
            ),
            Self::NoMemory => {
                "no memory for what the stored frame holds: raise the limit of memory".to_owned()
            }
        }
    }
}
