//! `Return-Path` and `Received` (RFC 5321 §4.4, [N11]).
