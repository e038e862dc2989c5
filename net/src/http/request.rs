//! The head of a request (RFC 9112, sections 2 to 5): all that a client says before its page comes.
//!
//! It is strict where readers of HTTP have disagreed to somebody's harm: lines end in CR LF, a field's name stands before its
//! colon without a blank, a field is one line, HTTP/1.1 has one Host. A body is not read: the connection ends with the reply.

use super::response::Status;

/// The most bytes of a head.
pub const HEAD_BYTES_MAX: usize = 4096;

/// The most bytes of a request's target.
pub const TARGET_BYTES_MAX: usize = 256;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The path of the page, without a query: it begins with a slash.
    pub path: &'a str,
    /// Whether the reply's head is enough.
    pub head_only: bool,
}

/// What has come so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading<'a> {
    /// The beginning of a head.
    More,
    /// A request.
    Whole(Request<'a>),
    /// No request, or one that is not served.
    Refused(Status),
}

/// Reads the head of a request, of which these bytes have come. It is refused as soon as it can be.
#[must_use]
pub fn read(bytes: &[u8]) -> Reading<'_> {
    // A client may have sent the end of a body that it should not have (section 2.2).
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let head = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let end = head.windows(4).position(|four| four == b"\r\n\r\n");
    let so_far = &head[..end.unwrap_or(head.len())];
    if !is_text(so_far, end.is_some()) {
        return Reading::Refused(Status::BadRequest);
    }
    match end {
        None if bytes.len() >= HEAD_BYTES_MAX => Reading::Refused(match so_far.windows(2).any(|two| two == b"\r\n") {
            true => Status::FieldsTooLarge,
            false => Status::TargetTooLong,
        }),
        None => Reading::More,
        Some(_) => whole(so_far).map_or_else(Reading::Refused, Reading::Whole),
    }
}

/// Whether these bytes can stand in a head: text, in lines that end in CR LF. Of what is not whole the last byte may be a CR.
fn is_text(bytes: &[u8], is_whole: bool) -> bool {
    let mut rest = bytes.iter().peekable();
    while let Some(byte) = rest.next() {
        let is_fine = match byte {
            b'\r' => rest.next().map_or(!is_whole, |next| *next == b'\n'),
            b'\t' | b' '..=b'~' | 0x80.. => true,
            _ => false,
        };
        if !is_fine {
            return false;
        }
    }
    true
}

/// Reads a whole head, without the empty line at its end.
fn whole(head: &[u8]) -> Result<Request<'_>, Status> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Status::BadRequest);
    };
    let needs_host = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            return Err(Status::VersionNotSupported);
        }
        _ => return Err(Status::BadRequest),
    };
    if !is_token(method) {
        return Err(Status::BadRequest);
    }
    let mut hosts = 0;
    for line in lines {
        hosts += usize::from(field(line)?.eq_ignore_ascii_case(b"host"));
    }
    if hosts > 1 || (needs_host && hosts == 0) {
        return Err(Status::BadRequest);
    }
    let head_only = match method {
        b"GET" => false,
        b"HEAD" => true,
        _ => return Err(Status::MethodNotAllowed),
    };
    if target.len() > TARGET_BYTES_MAX {
        return Err(Status::TargetTooLong);
    }
    Ok(Request { path: path(target).ok_or(Status::BadRequest)?, head_only })
}

/// Returns the name of a field.
fn field(line: &[u8]) -> Result<&[u8], Status> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Status::BadRequest)?;
    let name = &line[..colon];
    if is_token(name) { Ok(name) } else { Err(Status::BadRequest) }
}

/// Returns the path of a target: in origin form, or in absolute form as a proxy has it (section 3.2).
fn path(target: &[u8]) -> Option<&str> {
    let target =
        core::str::from_utf8(target).ok().filter(|target| target.bytes().all(|byte| byte.is_ascii_graphic()))?;
    let target = match target.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case("http://") => {
            let rest = &target[7..];
            rest.find('/').map_or("/", |at| &rest[at..])
        }
        _ => target,
    };
    target.starts_with('/').then(|| target.split('?').next().unwrap_or(target))
}

/// A word of the protocol (RFC 9110, section 5.6.2).
fn is_token(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;

    use super::*;

    fn refused(bytes: impl AsRef<[u8]>) -> Status {
        match read(bytes.as_ref()) {
            Reading::Refused(status) => status,
            other => panic!("{other:?}: {:?}", String::from_utf8_lossy(bytes.as_ref())),
        }
    }

    #[test]
    fn a_request_is_whole_with_its_empty_line_and_not_before() {
        let head = b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
        for length in 0..head.len() {
            assert_eq!(read(&head[..length]), Reading::More, "{length}");
        }
        let request = Request { path: "/metrics", head_only: false };
        assert_eq!(read(head), Reading::Whole(request));
        // What comes behind it is another's.
        assert_eq!(read(&[head.as_slice(), b"\0\xff\r"].concat()), Reading::Whole(request));
        assert_eq!(read(&[b"\r\n".as_slice(), head].concat()), Reading::Whole(request));
    }

    #[test]
    fn targets_and_versions_are_as_clients_have_them() {
        for (line, path, head_only) in [
            ("GET / HTTP/1.0\r\n\r\n", "/", false),
            ("HEAD / HTTP/1.1\r\nhOST:\r\n\r\n", "/", true),
            ("GET http://appliance:9100/metrics HTTP/1.1\r\nHost: x\r\n\r\n", "/metrics", false),
            ("GET HTTP://appliance HTTP/1.1\r\nHost: x\r\n\r\n", "/", false),
            (
                "GET /a%20b?/c? HTTP/1.1\r\nHost: x\r\nX: \t\x7f0\r\n\r\n".replace('\x7f', "\u{e9}").as_str(),
                "/a%20b",
                false,
            ),
        ] {
            assert_eq!(read(line.as_bytes()), Reading::Whole(Request { path, head_only }), "{line}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused_as_soon_as_it_is_seen() {
        // As soon as it is seen: TLS, another protocol's bytes, lines that end otherwise.
        for beginning in ["\x16\x03\x01\x02", "GET /\0", "GET / HTTP/1.1\n", "GET / HTTP/1.1\rX", "GET \x7f"] {
            assert_eq!(refused(beginning), Status::BadRequest, "{beginning:?}");
        }
        for (head, status) in [
            ("GET /", Status::BadRequest),
            ("GET  / HTTP/1.1", Status::BadRequest),
            ("GET / HTTP/1.1 ", Status::BadRequest),
            ("GET / http/1.1", Status::BadRequest),
            ("GET / HTTP/2.0", Status::VersionNotSupported),
            ("GET a HTTP/1.1\r\nHost: x", Status::BadRequest),
            ("GET * HTTP/1.1\r\nHost: x", Status::BadRequest),
            ("GET /\u{e9} HTTP/1.1\r\nHost: x", Status::BadRequest),
            ("GET / HTTP/1.1", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: x\r\nHost: x", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost : x", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: x\r\n folded", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: x\r\nnothing", Status::BadRequest),
            ("G(T / HTTP/1.1\r\nHost: x", Status::BadRequest),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5", Status::MethodNotAllowed),
            ("get / HTTP/1.1\r\nHost: x", Status::MethodNotAllowed),
        ] {
            assert_eq!(refused(format!("{head}\r\n\r\n")), status, "{head}");
        }
    }

    #[test]
    fn heads_and_targets_have_an_end() {
        let target = "a".repeat(TARGET_BYTES_MAX - 1);
        assert!(matches!(read(format!("GET /{target} HTTP/1.0\r\n\r\n").as_bytes()), Reading::Whole(_)));
        assert_eq!(refused(format!("GET /{target}a HTTP/1.0\r\n\r\n")), Status::TargetTooLong);
        let long = format!("GET / HTTP/1.0\r\nx: {}", "y".repeat(HEAD_BYTES_MAX));
        assert_eq!(read(&long.as_bytes()[..HEAD_BYTES_MAX - 1]), Reading::More);
        assert_eq!(refused(&long.as_bytes()[..HEAD_BYTES_MAX]), Status::FieldsTooLarge);
        assert_eq!(refused(format!("{long}\r\n\r\n")), Status::FieldsTooLarge, "its end comes too late");
        assert_eq!(refused("A".repeat(HEAD_BYTES_MAX)), Status::TargetTooLong);
    }
}
