//! The backup as a worker sees it: files that the daemon hands over, one at a time.

use std::{
    io::{self, Read},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::wire::{self, Kind, LONGEST_ORDER, Order, Want};
use crate::{
    model::manifest::{Manifest, Range},
    source::SetReader,
};

/// The socket to the daemon, shared by what asks and what tells.
#[derive(Debug)]
pub(super) struct Link {
    /// What is written there in one piece.
    writing: Mutex<UnixStream>,
    reading: Mutex<Reading>,
}

#[derive(Debug)]
struct Reading {
    stream: UnixStream,
    /// How many questions were asked; an answer belongs to the last one.
    asked: u64,
    /// Whether an answer is not read to its end.
    unfinished: bool,
}

impl Link {
    pub(super) fn new(stream: UnixStream) -> io::Result<Arc<Self>> {
        let writing = Mutex::new(stream.try_clone()?);
        Ok(Arc::new(Self { writing, reading: Mutex::new(Reading { stream, asked: 0, unfinished: false }) }))
    }

    /// Tells something that is not answered.
    pub(super) fn tell(&self, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        wire::write(&mut *self.writing.lock().unwrap_or_else(PoisonError::into_inner), kind, bytes)
    }

    /// Asks; the answer is to be read from what is given. What is left of the answer before is passed over.
    pub(super) fn ask(self: &Arc<Self>, want: &Want) -> io::Result<Answer> {
        let mut reading = self.reading();
        while reading.unfinished {
            reading.next()?;
        }
        self.tell(Kind::Want, &serde_json::to_vec(want)?)?;
        reading.asked += 1;
        reading.unfinished = true;
        Ok(Answer { link: Arc::clone(self), number: reading.asked, bytes: Vec::new(), at: 0, over: false })
    }

    /// Asks for the order.
    pub(super) fn order(self: &Arc<Self>) -> io::Result<Order> {
        let mut text = Vec::new();
        self.ask(&Want::Order)?.take(LONGEST_ORDER as u64).read_to_end(&mut text)?;
        wire::parse(&text)
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    /// The next bytes of the answer; none at its end.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        match wire::read(&mut self.stream)? {
            Some((Kind::Data, bytes)) => Ok(Some(bytes)),
            Some((Kind::End, _)) => {
                self.unfinished = false;
                Ok(None)
            }
            Some((Kind::Problem, text)) => {
                self.unfinished = false;
                Err(io::Error::other(String::from_utf8_lossy(&text).into_owned()))
            }
            Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "the daemon answered something else")),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the daemon is gone")),
        }
    }
}

/// An answer that is being read.
pub(super) struct Answer {
    link: Arc<Link>,
    number: u64,
    bytes: Vec<u8>,
    at: usize,
    over: bool,
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.bytes.len() && !self.over {
            let mut reading = self.link.reading();
            if reading.asked != self.number {
                return Err(io::Error::other("another file was asked for before this one was read to its end"));
            }
            match reading.next()? {
                Some(bytes) => (self.bytes, self.at) = (bytes, 0),
                None => self.over = true,
            }
        }
        let length = buffer.len().min(self.bytes.len() - self.at);
        buffer[..length].copy_from_slice(&self.bytes[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

/// The backup behind the socket.
#[derive(Debug)]
pub(super) struct RemoteSet {
    pub(super) link: Arc<Link>,
    pub(super) manifest: Manifest,
}

impl SetReader for RemoteSet {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn open(&self, file: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.link.ask(&Want::File(file.to_owned()))?))
    }

    /// A drill restores all of a backup.
    fn open_ranges(&self, _: &str, _: &[Range]) -> io::Result<Box<dyn Read + Send>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a drill reads whole files"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers questions with these frames, one list per question.
    fn daemon(answers: Vec<Vec<(Kind, &'static [u8])>>) -> Arc<Link> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let mut socket = theirs;
            for answer in answers {
                while wire::read(&mut socket).unwrap().unwrap().0 != Kind::Want {}
                for (kind, bytes) in answer {
                    wire::write(&mut socket, kind, bytes).unwrap();
                }
            }
        });
        Link::new(ours).unwrap()
    }

    fn text(mut answer: Answer) -> io::Result<String> {
        let mut text = String::new();
        answer.read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn an_answer_has_an_end_and_one_that_broke_off_is_an_error() {
        let whole = vec![(Kind::Data, b"one ".as_slice()), (Kind::Data, b"two"), (Kind::End, b"")];
        let broken = vec![(Kind::Data, b"one ".as_slice()), (Kind::Problem, b"damaged")];
        let link = daemon(vec![whole.clone(), broken, whole]);
        let ask = || link.ask(&Want::Order).unwrap();
        link.tell(Kind::Phase, b"data").unwrap();
        assert_eq!(text(ask()).unwrap(), "one two");
        assert_eq!(text(ask()).unwrap_err().to_string(), "damaged");
        assert_eq!(text(ask()).unwrap(), "one two");
        let gone = link.ask(&Want::Order).map_err(drop).and_then(|answer| text(answer).map_err(drop));
        assert!(gone.is_err(), "the daemon is gone");
    }

    #[test]
    fn a_question_ends_the_answer_before() {
        let whole = vec![(Kind::Data, b"one ".as_slice()), (Kind::Data, b"two"), (Kind::End, b"")];
        let link = daemon(vec![whole, vec![(Kind::Data, b"three"), (Kind::End, b"")]]);
        let mut first = link.ask(&Want::Order).unwrap();
        first.read_exact(&mut [0; 2]).unwrap();
        assert_eq!(text(link.ask(&Want::Order).unwrap()).unwrap(), "three");
        first.read_exact(&mut [0; 2]).unwrap();
        assert!(first.read_exact(&mut [0; 1]).is_err(), "not the bytes of another answer");
    }
}
