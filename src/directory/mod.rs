//! Domains, aliases, password schemes, the authentication cache.
