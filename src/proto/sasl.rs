//! SASL mechanisms, server side (RFC 4422; PLAIN: RFC 4616).
