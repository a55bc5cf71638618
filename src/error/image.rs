use std::io;

/// An image cannot be read or written: what is wrong, in which record, at which offset in the stream.
///
/// Offsets are in bytes from the start of the image; `record` is the name in the format document,
/// for the plain buffers of the head the name of what they hold.
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
    /// The stream cannot be written.
    #[error("image, offset {offset}: write: {source}")]
    Write {
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
    /// The stream ends where a record should begin.
    #[error("image, offset {offset}: {record}: the image ends before this record")]
    EndsBefore {
        /// The record that was expected.
        record: &'static str,
        /// Offset of the end.
        offset: u64,
    },
    /// The stream ends inside a record.
    #[error("image, offset {offset}: {record}: the image ends inside this record")]
    EndsInside {
        /// Name of the record.
        record: &'static str,
        /// Offset of the record.
        offset: u64,
    },
    /// The checkpoint failed, and its writer said so in the image.
    #[error("image, offset {offset}: the checkpoint had failed: {text}")]
    Failed {
        /// Offset of the error record.
        offset: u64,
        /// What the writer said.
        text: String,
    },
    /// A reference names an object of another type.
    #[error("image, offset {offset}: {record}: tag {tag} is a {found}, not a {wanted}")]
    WrongObject {
        /// The record that refers.
        record: &'static str,
        /// Its offset.
        offset: u64,
        /// The tag.
        tag: i32,
        /// Type of the object with this tag.
        found: &'static str,
        /// Type that belongs here.
        wanted: &'static str,
    },
    /// The format can say it, but it cannot be restored.
    #[error("image, offset {offset}: {record}: not supported: {what}")]
    Unsupported {
        /// Name of the record.
        record: &'static str,
        /// Its offset.
        offset: u64,
        /// What is not supported.
        what: String,
    },
    /// Values that the format has no room for were given to the writer.
    #[error("image, {record}: cannot be written: {reason}")]
    Unwritable {
        /// Name of the record.
        record: &'static str,
        /// What does not fit.
        reason: String,
    },
}

impl ImageError {
    /// Offset in the stream, in bytes, of what is wrong.
    pub fn offset(&self) -> Option<u64> {
        match self {
            ImageError::Read { offset, .. }
            | ImageError::Write { offset, .. }
            | ImageError::Bad { offset, .. }
            | ImageError::EndsBefore { offset, .. }
            | ImageError::EndsInside { offset, .. }
            | ImageError::Failed { offset, .. }
            | ImageError::WrongObject { offset, .. }
            | ImageError::Unsupported { offset, .. } => Some(*offset),
            ImageError::Unwritable { .. } => None,
        }
    }

    /// The errno that a C caller is given.
    pub fn errno(&self) -> i32 {
        match self {
            ImageError::Read { source, .. } | ImageError::Write { source, .. } => {
                source.raw_os_error().unwrap_or(libc::EIO)
            }
            ImageError::Bad { .. }
            | ImageError::EndsBefore { .. }
            | ImageError::Unwritable { .. } => libc::EINVAL,
            ImageError::EndsInside { .. } | ImageError::Failed { .. } => libc::EIO,
            ImageError::WrongObject { .. } => libc::ENOMSG,
            ImageError::Unsupported { .. } => libc::ENOSYS,
        }
    }
}
