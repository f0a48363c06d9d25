//! GitHub workflow files, read where they lie.

pub(crate) mod yaml;
