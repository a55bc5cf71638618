use std::io;

/// An image cannot be read: what is wrong, in which record, at which offset in the stream.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The stream itself cannot be read.
    #[error("image, offset {offset}: read: {source}")]
    Read {
        /// Offset in the stream, in bytes.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// A record has a value that cannot be.
    #[error("image, offset {offset}: {record}: {reason}")]
    Bad {
        /// Name of the record, as in the format document.
        record: &'static str,
        /// Offset in the stream of the record, in bytes.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
}

impl ImageError {
    /// The errno that a C caller is given.
    pub fn errno(&self) -> i32 {
        match self {
            ImageError::Read { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
            ImageError::Bad { .. } => libc::EINVAL,
        }
    }
}
