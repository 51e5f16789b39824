//! `[metrics]`: where figures for monitoring are written.

use std::path::PathBuf;

use super::{reader::Section, values};

/// `[metrics]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricsConfig {
    /// The file for node_exporter's textfile collector; none is written where absent.
    pub textfile: Option<PathBuf>,
}

pub(super) fn read(mut section: Section<'_>) -> MetricsConfig {
    let textfile = section.take("textfile", |value| match values::absolute_path(value)? {
        path if path.extension().is_some_and(|extension| extension == "prom") => Ok(path),
        _ => Err("must end in .prom, or node_exporter passes it over".to_owned()),
    });
    section.finish();
    MetricsConfig { textfile }
}
