//! Where an export is written to: a file, pipe or socket of the caller, who may stop reading whenever he likes.
//!
//! Invariant: a cancelled job never waits longer than [`GRACE`] for a reader that takes nothing.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd as _, AsRawFd as _},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{MsgFlags, send},
        stat::{SFlag, fstat},
    },
};

use crate::stream::Cancel;

/// How long a reader has, once the job is cancelled, to take what tells him that the script is incomplete.
const GRACE: Duration = Duration::from_secs(2);
/// How often a wait for the reader looks whether the job is cancelled.
const LOOK: u16 = 200;
/// What a pipe that reports room takes at once without blocking (`PIPE_BUF` of Linux, pipe(7)).
const PIPE_ROOM: usize = 4096;

/// The caller's descriptor, written so that a cancel is seen while the reader takes nothing.
#[derive(Debug)]
pub(super) struct ExportOutput {
    file: File,
    kind: SFlag,
    cancel: Cancel,
    give_up: Option<Instant>,
}

impl ExportOutput {
    /// Takes the descriptor over. It stays in blocking mode: its open file may be shared with others.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub(super) fn new(file: File, cancel: Cancel) -> io::Result<Self> {
        let kind = SFlag::from_bits_truncate(fstat(&file)?.st_mode) & SFlag::S_IFMT;
        Ok(Self { file, kind, cancel, give_up: None })
    }

    fn wait(&mut self) -> io::Result<()> {
        loop {
            let mut descriptors = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
            match poll(&mut descriptors, PollTimeout::from(LOOK)) {
                // Whatever it reports, the write tells the rest.
                Ok(count) if count > 0 => return Ok(()),
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let Err(reason) = self.cancel.check() else { continue };
            if Instant::now() >= *self.give_up.get_or_insert_with(|| Instant::now() + GRACE) {
                return Err(io::Error::other(reason));
            }
        }
    }
}

impl Write for ExportOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.kind == SFlag::S_IFIFO {
            self.wait()?;
            return self.file.write(&bytes[..bytes.len().min(PIPE_ROOM)]);
        }
        if self.kind != SFlag::S_IFSOCK {
            return self.file.write(bytes);
        }
        loop {
            self.wait()?;
            match send(self.file.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                Err(nix::errno::Errno::EAGAIN) => {}
                sent => return Ok(sent?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::fd::OwnedFd, os::unix::net::UnixStream, thread};

    use super::*;
    use crate::stream::CancelReason;

    fn ends() -> Vec<(OwnedFd, File)> {
        let (pipe_reader, pipe_writer) = io::pipe().unwrap();
        let (socket_reader, socket_writer) = UnixStream::pair().unwrap();
        vec![
            (pipe_reader.into(), OwnedFd::from(pipe_writer).into()),
            (socket_reader.into(), OwnedFd::from(socket_writer).into()),
        ]
    }

    #[test]
    fn a_reader_that_takes_nothing_does_not_hold_up_a_cancel() {
        for (reader, writer) in ends() {
            let cancel = Cancel::new();
            let mut output = ExportOutput::new(writer, cancel.clone()).unwrap();
            let writing = thread::spawn(move || output.write_all(&vec![7; 4 << 20]).unwrap_err());
            cancel.cancel(CancelReason::Requested);
            let error = writing.join().unwrap();
            assert_eq!(error.downcast::<CancelReason>().unwrap(), CancelReason::Requested);
            drop(reader);
        }
    }

    #[test]
    fn all_of_it_arrives_at_a_slow_reader_and_nobody_dies_without_one() {
        for (reader, writer) in ends() {
            let mut output = ExportOutput::new(writer, Cancel::new()).unwrap();
            let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
            let expected = bytes.clone();
            let writing = thread::spawn(move || output.write_all(&bytes).map(|()| output));
            let mut reader = File::from(reader);
            let mut all = vec![0; expected.len()];
            reader.read_exact(&mut all).unwrap();
            assert!(all == expected);
            let mut output = writing.join().unwrap().unwrap();
            drop(reader);
            assert_eq!(output.write(b"more").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        }
    }
}
