//! Frames on the socket between the daemon and a worker: a byte that tells the kind, the length in four bytes (big
//! endian), and so many bytes.
//!
//! The worker asks and the daemon answers, one question at a time: an answer is `Data` any number of times and `End`, or
//! `Problem`. Between its questions the worker tells its phase, and in the end its report. The daemon never begins.

use std::{
    io::{self, Read, Write},
    path::PathBuf,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::model::{RunId, drill::DrillReport, manifest::Manifest};

/// The longest frame.
pub const LONGEST: usize = 1 << 20;

/// The longest order: a manifest with a few hundred thousand tables.
pub const LONGEST_ORDER: usize = 512 << 20;

/// The kinds of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Worker: what it wants, a [`Want`].
    Want = 1,
    /// Worker: the word of the phase it is in.
    Phase = 2,
    /// Worker: how it ended, a [`Verdict`].
    Verdict = 3,
    /// Daemon: bytes of an answer.
    Data = 16,
    /// Daemon: the answer is complete, and every byte of it was verified.
    End = 17,
    /// Daemon: there is no more of this answer; why, for people.
    Problem = 18,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Want, Self::Phase, Self::Verdict, Self::Data, Self::End, Self::Problem];
}

/// What a worker asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// The [`Order`].
    Order,
    /// The plaintext of a file of the backup.
    File(String),
}

/// What the worker is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// The version of the daemon; a worker of another one does not begin.
    pub version: String,
    /// The run of the job.
    pub run_id: RunId,
    /// The backup's manifest.
    pub manifest: Manifest,
    /// The user's assertions.
    pub assertions: Option<String>,
    /// Where initdb and postgres are.
    pub server_bin_dir: Option<PathBuf>,
    /// Where the client programs are.
    pub client_bin_dir: Option<PathBuf>,
    /// Libraries that the server loads at its start.
    pub preload_libraries: Vec<String>,
}

/// How a drill ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What was found.
    pub report: DrillReport,
    /// Why it did not pass; absent where it did.
    pub failure: Option<Failure>,
}

/// Why a drill did not pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whether this host lacks something, so that nothing is known about the backup.
    pub unavailable: bool,
    /// For people.
    pub message: String,
}

/// Writes a frame.
///
/// # Errors
/// The socket's; `InvalidInput` for one that is too long.
pub fn write(to: &mut impl Write, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= LONGEST);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a frame is too long"))?;
    let mut frame = Vec::with_capacity(5 + bytes.len());
    frame.push(kind as u8);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(bytes);
    to.write_all(&frame)
}

/// Writes a frame of JSON.
///
/// # Errors
/// As [`write`].
pub fn write_json(to: &mut impl Write, kind: Kind, value: &impl Serialize) -> io::Result<()> {
    write(to, kind, &serde_json::to_vec(value)?)
}

/// Reads a frame; none at the end.
///
/// # Errors
/// The socket's; `InvalidData` for what is no frame.
pub fn read(from: &mut impl Read) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut head = [0; 5];
    if from.read(&mut head[..1])? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut head[1..])?;
    let [kind, length @ ..] = head;
    let odd = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let kind = Kind::ALL.into_iter().find(|known| *known as u8 == kind).ok_or_else(|| odd("an unknown frame"))?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > LONGEST {
        return Err(odd("a frame is too long"));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(Some((kind, bytes)))
}

/// What a frame of JSON says.
///
/// # Errors
/// `InvalidData`.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_went_and_nothing_else_is_one() {
        let mut pipe = Vec::new();
        write_json(&mut pipe, Kind::Want, &Want::File("data-001.sql".to_owned())).unwrap();
        write(&mut pipe, Kind::End, b"").unwrap();
        let mut input = pipe.as_slice();
        let (kind, bytes) = read(&mut input).unwrap().unwrap();
        assert_eq!((kind, parse::<Want>(&bytes).unwrap()), (Kind::Want, Want::File("data-001.sql".to_owned())));
        assert_eq!(read(&mut input).unwrap(), Some((Kind::End, Vec::new())));
        assert_eq!(read(&mut input).unwrap(), None);
        assert!(read(&mut &pipe[..3]).is_err(), "cut short");
        assert!(read(&mut [9, 0, 0, 0, 0].as_slice()).is_err(), "no such kind");
        assert!(read(&mut [1, 0xff, 0, 0, 0].as_slice()).is_err(), "4 GiB");
        assert!(write(&mut pipe, Kind::Data, &vec![0; LONGEST + 1]).is_err());
    }
}
