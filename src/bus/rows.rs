//! Answers of the daemon's object made of what the service gives, and a check of what it is given.

use std::{fs::File, os::fd::OwnedFd};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::stat::{SFlag, fstat},
};
use zbus::OwnedObjectPath;

use super::{
    error::ApiError,
    job::{error_of, result_of},
    limits::short_text,
    session::object_path,
    types::JobRow,
};
use crate::{model::ErrorCode, service::jobs::JobState};

/// A job in a listing.
pub(super) fn job_row(job: JobState) -> JobRow {
    let record = &job.record;
    let (error_name, error_message) = error_of(record);
    JobRow {
        id: record.number,
        run_id: record.run_id.to_string(),
        job_type: record.job_type.as_str().to_owned(),
        source: record.source.clone(),
        backup: record.backup.clone(),
        started_by_uid: record.started_by_uid,
        start_time: record.start_time,
        end_time: record.end_time,
        phase: record.phase.as_str().to_owned(),
        result: result_of(record).to_owned(),
        error_name: error_name.to_owned(),
        error_message: short_text(&error_message),
        bytes_done: job.bytes_done,
        bytes_total: job.bytes_total,
        object: if record.result.is_some() { OwnedObjectPath::default() } else { object_path(record.number) },
    }
}

/// Checks that a caller's descriptor can take an export.
pub(super) fn writable(output: OwnedFd) -> Result<File, ApiError> {
    let refuse =
        |what: &str| Err(ApiError::new(ErrorCode::InvalidArgs, format!("cannot export to the descriptor: {what}")));
    let system = |errno: nix::errno::Errno| {
        ApiError::new(ErrorCode::InvalidArgs, format!("cannot look at the descriptor for the export: {errno}"))
    };
    let flags = OFlag::from_bits_retain(fcntl(&output, FcntlArg::F_GETFL).map_err(system)?);
    if flags & OFlag::O_ACCMODE == OFlag::O_RDONLY || flags.contains(OFlag::O_PATH) {
        return refuse("it is not open for writing");
    }
    if flags.contains(OFlag::O_NONBLOCK) {
        return refuse("it does not block; clear O_NONBLOCK");
    }
    let kind = SFlag::from_bits_truncate(fstat(&output).map_err(system)?.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFDIR || kind == SFlag::S_IFBLK {
        return refuse("it is neither a file nor a pipe nor a socket");
    }
    if kind == SFlag::S_IFCHR && nix::unistd::isatty(&output).unwrap_or(false) {
        return refuse("it is a terminal, and the export is not text");
    }
    Ok(File::from(output))
}
