//! The daemon's end of a socket of its own, with the bounds that a client who does not read needs.
//!
//! Invariants: at most [`UNANSWERED`] calls of one client are read before answers to them were written, so what is held
//! for him is bounded; a write that does not go on for [`SEND_LIMIT`] shuts the socket down, which ends the connection
//! and whatever waits to write to it. (A message bus does both itself for its clients.)

use std::{
    collections::HashSet,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::{
    io::Interest,
    net::UnixStream,
    sync::{Semaphore, SemaphorePermit},
};
use zbus::{
    Message,
    connection::socket::{ReadHalf, Socket, Split, WriteHalf},
    export::async_trait::async_trait,
    fdo::ConnectionCredentials,
    message::{Flags, Type},
};

/// Calls of one client that may wait for their answers.
const UNANSWERED: usize = 32;
/// How long the other end may take nothing.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// Descriptors that one message may bring; the kernel passes no more (`SCM_MAX_FD`, unix(7)).
const DESCRIPTORS: usize = 253;

/// A connected socket, for a connection to be built over.
#[derive(Debug)]
pub(super) struct ClientSocket(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stream: UnixStream,
    room: Semaphore,
    /// The numbers of the calls that take up room.
    unanswered: Mutex<HashSet<u32>>,
}

impl Shared {
    fn unanswered(&self) -> MutexGuard<'_, HashSet<u32>> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a call that wants an answer.
    fn take_in(&self, message: &Message, room: SemaphorePermit<'_>) {
        let header = message.primary_header();
        let wants_answer =
            message.message_type() == Type::MethodCall && !header.flags().contains(Flags::NO_REPLY_EXPECTED);
        // A number that is used twice counts once, as it is answered once for this count.
        if wants_answer && self.unanswered().insert(header.serial_num().get()) {
            room.forget();
        }
    }

    /// Makes room where this message is an answer.
    fn settle(&self, message: &Message) {
        let serial = message.header().reply_serial();
        if serial.is_some_and(|serial| self.unanswered().remove(&serial.get())) {
            self.room.add_permits(1);
        }
    }

    fn shut_down(&self) {
        // What the socket still holds of the other end's calls is not read any more.
        self.room.close();
        // A socket that is not connected any more needs none.
        let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Both);
    }
}

impl ClientSocket {
    /// Takes a stream over, within the runtime that shall serve it.
    pub(super) fn new(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self(Arc::new(Shared {
            stream: UnixStream::from_std(stream)?,
            room: Semaphore::new(UNANSWERED),
            unanswered: Mutex::default(),
        })))
    }
}

impl Socket for ClientSocket {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        Split::new(Reader(Receiver(Arc::clone(&self.0))), Writer(self.0))
    }
}

/// Reads messages while there is room for them.
#[derive(Debug)]
pub(super) struct Reader(Receiver);

/// Reads bytes and descriptors.
#[derive(Debug)]
struct Receiver(Arc<Shared>);

#[async_trait]
impl ReadHalf for Reader {
    async fn receive_message(
        &mut self,
        seq: u64,
        already_received_bytes: &mut Vec<u8>,
        already_received_fds: &mut Vec<OwnedFd>,
    ) -> zbus::Result<Message> {
        let shared = Arc::clone(&self.0.0);
        let room = shared.room.acquire().await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let message = self.0.receive_message(seq, already_received_bytes, already_received_fds).await?;
        shared.take_in(&message, room);
        Ok(message)
    }

    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        self.0.recvmsg(buffer).await
    }

    fn can_pass_unix_fd(&self) -> bool {
        true
    }

    async fn peer_credentials(&mut self) -> io::Result<ConnectionCredentials> {
        let of_peer = self.0.0.stream.peer_cred()?;
        let credentials = ConnectionCredentials::default().set_unix_user_id(of_peer.uid());
        Ok(match of_peer.pid().and_then(|process| u32::try_from(process).ok()) {
            Some(process) => credentials.set_process_id(process),
            None => credentials,
        })
    }
}

#[async_trait]
impl ReadHalf for Receiver {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let stream = &self.0.stream;
        stream.async_io(Interest::READABLE, || receive(stream.as_fd(), buffer)).await
    }
}

/// Writes messages; one that the other end does not take ends the connection.
#[derive(Debug)]
pub(super) struct Writer(Arc<Shared>);

#[async_trait]
impl WriteHalf for Writer {
    async fn send_message(&mut self, message: &Message) -> zbus::Result<()> {
        let sent = self.send_all(message).await;
        // What failed to be written is over, too.
        self.0.settle(message);
        Ok(sent?)
    }

    async fn sendmsg(&mut self, buffer: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
        let stream = &self.0.stream;
        let sending = stream.async_io(Interest::WRITABLE, || send(stream.as_fd(), buffer, descriptors));
        tokio::time::timeout(SEND_LIMIT, sending).await.unwrap_or_else(|_| {
            tracing::warn!("a client does not read what it is sent; closing its connection");
            self.0.shut_down();
            Err(io::ErrorKind::TimedOut.into())
        })
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shut_down();
        Ok(())
    }

    fn can_pass_unix_fd(&self) -> bool {
        true
    }
}

impl Writer {
    async fn send_all(&mut self, message: &Message) -> io::Result<()> {
        let data = message.data();
        let mut descriptors: Vec<BorrowedFd<'_>> = data.fds().iter().map(|fd| fd.as_fd()).collect();
        let mut rest: &[u8] = data;
        while !rest.is_empty() {
            let sent = self.sendmsg(rest, &descriptors).await?;
            descriptors.clear(); // They travel with the first byte.
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }
}

fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if message.bytes == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other end has closed the socket"));
    }
    let mut descriptors = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            descriptors.extend(received);
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors of a message are lost"));
    }
    Ok((message.bytes, descriptors))
}

fn send(socket: BorrowedFd<'_>, buffer: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    Ok(sendmsg(socket, &[IoSlice::new(buffer)], &mut ancillary, SendFlags::NOSIGNAL)?)
}
