//! The targets whose credentials can be rotated, a file each.
