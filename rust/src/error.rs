//! What an entry point reports instead of a result.

/// Values of `PmtStatus` in `pagemill_text.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    Ok = 0,
    /// The input is wrong; the message says what to change.
    Invalid = 1,
    /// A limit was hit.
    Limit = 2,
    /// The template called `raise_exception`; the message is the template's own.
    Raised = 3,
    /// A bug of this library.
    Panic = 4,
}

#[derive(Debug)]
pub struct Error {
    pub status: Status,
    pub message: String,
}

impl Error {
    pub fn invalid(message: impl Into<String>) -> Error {
        Error { status: Status::Invalid, message: message.into() }
    }

    pub fn limit(message: impl Into<String>) -> Error {
        Error { status: Status::Limit, message: message.into() }
    }
}

pub type Result<T> = std::result::Result<T, Error>;
