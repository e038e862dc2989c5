//! A small HTTP/1.1 server, to look at pages and no more: GET and HEAD, a request a connection (RFC 9110, RFC 9112).
//!
//! | module | does |
//! |---|---|
//! | [`request`] | reads a request's head, of bytes from anyone |
//! | [`response`] | the heads of replies |
//! | [`server`] | connections, each with bounds on its memory and its time |
//!
//! What a peer sends or leaves out costs others nothing: a head has [`request::HEAD_BYTES_MAX`] bytes at most and some seconds,
//! a reply has its seconds to be taken, connections are few, and what a page needs of the machine is made for all that ask at
//! a time.

pub mod request;
pub mod response;
pub mod server;
