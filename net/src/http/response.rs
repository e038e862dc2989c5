//! The heads of replies.

use alloc::format;
use alloc::string::String;

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The page follows.
    Ok,
    /// It is no request.
    BadRequest,
    /// There is no such page.
    NotFound,
    /// Only GET and HEAD are served.
    MethodNotAllowed,
    /// The request did not come in time.
    Timeout,
    /// Its target is too long.
    TargetTooLong,
    /// Its fields are.
    FieldsTooLarge,
    /// There are too many connections, or the page could not be made in time.
    Unavailable,
    /// It is of another version than HTTP/1.
    VersionNotSupported,
}

impl Status {
    /// Its number and its words (RFC 9110, section 15; RFC 6585, section 5).
    #[must_use]
    pub const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::Timeout => "408 Request Timeout",
            Self::TargetTooLong => "414 URI Too Long",
            Self::FieldsTooLarge => "431 Request Header Fields Too Large",
            Self::Unavailable => "503 Service Unavailable",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }

    /// The field that belongs to it.
    const fn field(self) -> &'static str {
        match self {
            Self::MethodNotAllowed => "Allow: GET, HEAD\r\n",
            Self::Unavailable => "Retry-After: 1\r\n",
            _ => "",
        }
    }
}

/// What a browser may do with a page of ours: nothing but what comes from the same port.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Returns the head of a reply with a body of so many bytes. The connection ends behind it. There is no Date: there is no
/// clock that knows it (RFC 9110, section 6.6.1).
#[must_use]
pub fn head(status: Status, content_type: &str, body_bytes: usize) -> String {
    format!(
        "HTTP/1.1 {}\r\nContent-Type: {content_type}\r\nContent-Length: {body_bytes}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\nContent-Security-Policy: {POLICY}\r\nX-Content-Type-Options: nosniff\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\nReferrer-Policy: no-referrer\r\n{}\r\n",
        status.line(),
        status.field(),
    )
}
