//! The little HTTP/1.1 that the admin address needs: GET and HEAD, keep-alive, no request bodies.

mod request;
mod session;

#[cfg(test)]
mod tests;

pub use session::Session;

/// What an HTTP session asks of the shard: the page at a path.
#[derive(Debug)]
pub struct Ask {
    /// The path of the request target, without query.
    pub path: String,
}

/// The page.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}
