//! Reading a program's output in large pieces.
//!
//! pg_dump writes 4 KiB at a time. A reader that waits in `read` is woken by each of these writes, which costs the two
//! processes more than what they do with the bytes (a seventh of the time of a dump on two cores). So a reader that
//! found little goes away for a moment and lets the pipe, which holds 1 MiB, fill up: the writer never waits for it.

use std::{
    io::{self, Read},
    thread,
    time::Duration,
};

/// A read that gave less than this was too early.
const WORTHWHILE: usize = 256 << 10;
/// How long the reader goes away: at 500 MB/s half a pipe.
const PAUSE: Duration = Duration::from_millis(1);

/// Reads from a pipe seldom and much.
#[derive(Debug)]
pub struct BatchedPipe<R> {
    pipe: R,
    early: bool,
}

impl<R: Read> BatchedPipe<R> {
    /// Reads from this pipe; the first read does not wait for more than there is.
    pub fn new(pipe: R) -> Self {
        Self { pipe, early: false }
    }
}

impl<R: Read> Read for BatchedPipe<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.early {
            thread::sleep(PAUSE);
        }
        let length = self.pipe.read(buffer)?;
        self.early = length < WORTHWHILE.min(buffer.len());
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn many_small_writes_are_few_reads() {
        let mut child = Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 2000 ]; do echo 0123456789; i=$((i + 1)); done"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = BatchedPipe::new(child.stdout.take().unwrap());
        let (mut all, mut reads) = (Vec::new(), 0);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let length = pipe.read(&mut buffer).unwrap();
            if length == 0 {
                break;
            }
            reads += 1;
            all.write_all(&buffer[..length]).unwrap();
        }
        child.wait().unwrap();
        assert_eq!(all, "0123456789\n".repeat(2000).into_bytes());
        assert!(reads < 1000, "{reads} reads for 2000 writes");
    }
}
