//! A compressing thread: makes members of the new chunks of a batch and proves that they decompress.

use std::io;

use crossbeam_channel::{Receiver, Sender};

use super::batch::{Batch, Place};
use crate::{
    model::manifest::Codec,
    stream::{
        codec::{Decoder, Encoder},
        error::StreamError,
        shared::Shared,
    },
};

/// The state of one thread.
pub(super) struct Worker {
    encoder: Encoder,
    check: Option<Check>,
}

struct Check {
    decoder: Decoder,
    plain: Vec<u8>,
}

impl Worker {
    pub(super) fn new(codec: Codec, verify: bool) -> Result<Self, StreamError> {
        let check =
            if verify { Some(Check { decoder: Decoder::independent(codec)?, plain: Vec::new() }) } else { None };
        Ok(Self { encoder: Encoder::new(codec)?, check })
    }

    /// Works until the writer is gone.
    pub(super) fn run(mut self, shared: &Shared, work: &Receiver<Batch>, done: &Sender<Batch>) {
        while let Ok(mut batch) = work.recv() {
            shared.run(|| self.encode(&mut batch));
            if done.send(batch).is_err() {
                return;
            }
        }
    }

    fn encode(&mut self, batch: &mut Batch) -> io::Result<()> {
        let mut plain_start = 0;
        for item in &mut batch.items {
            let Place::New { stored_end } = &mut item.place else { continue };
            let plain_end = plain_start + item.raw_length as usize;
            let plaintext = &batch.plain[plain_start..plain_end];
            let stored_start = batch.stored.len();
            self.encoder.encode(&item.id, plaintext, &mut batch.stored)?;
            *stored_end = batch.stored.len();
            if let Some(check) = &mut self.check {
                let mismatch = |reason| StreamError::Mismatch { id: item.id, reason };
                check
                    .decoder
                    .decode(&batch.stored[stored_start..], item.raw_length, &mut check.plain)
                    .map_err(|error| mismatch(error.0))?;
                if check.plain != plaintext {
                    return Err(mismatch("other bytes").into());
                }
            }
            plain_start = plain_end;
        }
        Ok(())
    }
}
