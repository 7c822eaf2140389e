//! Mail that cannot be delivered now.
