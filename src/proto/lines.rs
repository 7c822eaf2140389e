//! Lines of a text protocol: strict CRLF, bounded length.
