//! Owns everything and moves the bytes: the one place where floors 2 to 4 meet.
