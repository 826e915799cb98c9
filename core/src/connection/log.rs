//! The bytes on their way out, kept until they are answered.
//!
//! ```text
//!            base            answered        written             end
//!             |   answered      |  on the way    |   unwritten     |
//!  chunks:  [ ......................... ][ ......................... ]
//! ```
//!
//! A chunk is given up when all its commands are answered. Until then a re-send copies from it, so a
//! retry needs no second buffer per request.

use std::{collections::VecDeque, fmt};

/// Where a chunk is closed and the next one begun: the largest write that is worth making at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks that grew beyond this for one large command are not kept for reuse.
const SPARE_BYTES_MAX: usize = 2 * CHUNK_BYTES;

/// A run of encoded commands, handed out to be written and handed back with what came of it.
#[derive(Default)]
#[must_use = "a chunk must be handed back to the engine through `written`"]
pub struct Chunk {
    bytes: Vec<u8>,
    written: usize,
}

impl Chunk {
    /// What is still to be written.
    #[must_use]
    pub fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written..]
    }
}

/// Its bytes are left out: a password goes this way.
impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Chunk { bytes, written } = self;
        f.debug_struct("Chunk").field("len", &bytes.len()).field("written", written).finish()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    /// At least the chunk that is with the writer; that one stands here empty meanwhile.
    chunks: VecDeque<Slot>,
    /// The stream offset of the first chunk's first byte.
    base: u64,
    /// How many bytes the kernel has accepted, as a stream offset.
    written: u64,
    /// The stream offset of the next byte to be appended.
    end: u64,
    /// Which chunk is with the writer.
    out: Option<usize>,
    spare: Vec<u8>,
}

#[derive(Debug, Default)]
struct Slot {
    chunk: Chunk,
    /// The length of `chunk`, also while it is with the writer.
    len: usize,
}

impl Log {
    /// Appends what `encode` writes, whole; gives the stream offset after it.
    pub(crate) fn append(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let tail_is_open = self.out.map(|out| out + 1) != Some(self.chunks.len())
            && self.chunks.back().is_some_and(|slot| slot.len < CHUNK_BYTES);
        if !tail_is_open {
            let bytes = std::mem::take(&mut self.spare);
            self.chunks.push_back(Slot { chunk: Chunk { bytes, written: 0 }, len: 0 });
        }
        let slot = self.chunks.back_mut().expect("a chunk was pushed if there was none");
        encode(&mut slot.chunk.bytes);
        self.end += (slot.chunk.bytes.len() - slot.len) as u64;
        slot.len = slot.chunk.bytes.len();
        self.end
    }

    /// The bytes that the kernel has not accepted.
    pub(crate) fn unwritten(&self) -> u64 {
        self.end - self.written
    }

    /// The stream offset up to which the kernel has accepted.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Whether a chunk is with the writer.
    pub(crate) fn is_out(&self) -> bool {
        self.out.is_some()
    }

    /// Up to where bytes were accepted or may be at this moment, because the writer has them.
    pub(crate) fn handed_out(&self) -> u64 {
        match self.out {
            Some(out) => {
                self.base + self.chunks.iter().take(out + 1).map(Slot::len_u64).sum::<u64>()
            }
            None => self.written,
        }
    }

    /// The next chunk to be written, if there is one and none is with the writer.
    pub(crate) fn take(&mut self) -> Option<Chunk> {
        if self.out.is_some() || self.unwritten() == 0 {
            return None;
        }
        let at = self.chunks.iter().position(|slot| slot.chunk.written < slot.len)?;
        self.out = Some(at);
        Some(std::mem::take(&mut self.chunks[at].chunk))
    }

    /// Takes back a chunk of which `count` more bytes were written.
    pub(crate) fn give_back(&mut self, mut chunk: Chunk, count: usize) {
        let at = self.out.take().expect("a chunk comes back only after it was handed out");
        let slot = &mut self.chunks[at];
        assert_eq!(chunk.bytes.len(), slot.len, "the chunk that comes back is the one handed out");
        chunk.written += count;
        assert!(chunk.written <= slot.len, "no more is written than there was");
        slot.chunk = chunk;
        self.written += count as u64;
    }

    /// Takes the bytes of commands out, each `from..to` as stream offsets and in order, of which the
    /// writer has seen nothing yet. What stands behind them moves up, each byte once.
    pub(crate) fn withdraw(&mut self, commands: &[(u64, u64)]) {
        let mut commands = commands.iter().peekable();
        let mut start = self.base;
        for slot in &mut self.chunks {
            let end = start + slot.len_u64();
            let bytes = &mut slot.chunk.bytes;
            let (mut kept, mut seen) = (0, 0);
            while let Some((from, to)) = commands.next_if(|(from, _)| *from < end) {
                let from = (from - start) as usize;
                bytes.copy_within(seen..from, kept);
                kept += from - seen;
                seen = (to - start) as usize;
            }
            if seen > 0 {
                bytes.copy_within(seen.., kept);
                bytes.truncate(kept + slot.len - seen);
                self.end -= (slot.len - bytes.len()) as u64;
                slot.len = bytes.len();
            }
            start = end;
        }
        // None before the one that is with the writer is empty.
        self.chunks.retain(|slot| slot.len > 0);
    }

    /// Gives up what stands before the stream offset `answered`.
    pub(crate) fn release(&mut self, answered: u64) {
        if answered == self.end && self.out.is_none() && self.chunks.len() == 1 {
            // Nothing is owed: the common end of a round trip. The buffer is used again as it is.
            let slot = &mut self.chunks[0];
            if slot.chunk.bytes.capacity() <= SPARE_BYTES_MAX {
                slot.chunk.bytes.clear();
                slot.chunk.written = 0;
                slot.len = 0;
                self.base = self.end;
                return;
            }
        }
        while let Some(slot) = self.chunks.front() {
            if self.out == Some(0) || slot.len == 0 || self.base + slot.len_u64() > answered {
                return;
            }
            self.base += slot.len_u64();
            self.out = self.out.map(|out| out - 1);
            let mut bytes = self.chunks.pop_front().expect("there is a front").chunk.bytes;
            if bytes.capacity() <= SPARE_BYTES_MAX {
                bytes.clear();
                self.spare = bytes;
            }
        }
    }

    /// Copies the bytes of one command, `from..to` as stream offsets; they lie in one chunk.
    ///
    /// No chunk that holds an unanswered command was given up, and none is read while it is with the
    /// writer.
    pub(crate) fn copy(&self, from: u64, to: u64) -> Option<&[u8]> {
        let mut start = self.base;
        for (at, slot) in self.chunks.iter().enumerate() {
            let end = start + slot.len_u64();
            if from < end {
                if self.out == Some(at) {
                    return None;
                }
                let range = (from - start) as usize..(to - start) as usize;
                return slot.chunk.bytes.get(range);
            }
            start = end;
        }
        None
    }
}

impl Slot {
    fn len_u64(&self) -> u64 {
        self.len as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(log: &mut Log, bytes: &[u8]) -> u64 {
        log.append(|out| out.extend_from_slice(bytes))
    }

    #[test]
    fn what_is_appended_while_a_chunk_is_out_goes_into_the_next_one() {
        let mut log = Log::default();
        push(&mut log, b"abc");
        let chunk = log.take().expect("there is something to write");
        assert!(log.take().is_none(), "only one chunk is out at a time");
        let end = push(&mut log, b"de");
        assert_eq!(end, 5);
        assert_eq!(log.handed_out(), 3);
        log.give_back(chunk, 2);
        let chunk = log.take().expect("one byte is left");
        assert_eq!(chunk.unwritten(), b"c");
        log.give_back(chunk, 1);
        let chunk = log.take().expect("the second chunk");
        assert_eq!(chunk.unwritten(), b"de");
        log.give_back(chunk, 2);
        assert_eq!((log.written(), log.unwritten()), (5, 0));
        assert_eq!(log.copy(1, 3), Some(&b"bc"[..]));
        assert_eq!(log.copy(3, 5), Some(&b"de"[..]));
    }

    #[test]
    fn what_is_withdrawn_never_goes_out_and_the_rest_moves_up() {
        let mut log = Log::default();
        push(&mut log, b"abc");
        push(&mut log, b"def");
        push(&mut log, b"ghi");
        log.withdraw(&[(3, 6)]);
        let chunk = log.take().expect("six bytes");
        assert_eq!(chunk.unwritten(), b"abcghi");
        push(&mut log, b"jkl");
        log.withdraw(&[(6, 9)]);
        log.give_back(chunk, 6);
        assert_eq!((log.written(), log.unwritten()), (6, 0));
        push(&mut log, b"mno");
        assert_eq!(log.take().expect("three bytes").unwritten(), b"mno");
    }

    #[test]
    fn an_answered_chunk_is_reused_and_offsets_go_on() {
        let mut log = Log::default();
        for round in 0..1_000u64 {
            assert_eq!(push(&mut log, b"0123456789"), (round + 1) * 10);
            let chunk = log.take().expect("ten bytes");
            log.give_back(chunk, 10);
            log.release((round + 1) * 10);
        }
        assert_eq!(log.chunks.len(), 1);
        assert!(log.chunks[0].chunk.bytes.capacity() < 1_000);
    }

    #[test]
    fn memory_follows_what_is_unanswered_not_what_was_sent() {
        let mut log = Log::default();
        let command = [b'x'; 1_000];
        let mut ends = VecDeque::new();
        for _ in 0..10_000 {
            ends.push_back(push(&mut log, &command));
            while let Some(chunk) = log.take() {
                let all = chunk.unwritten().len();
                log.give_back(chunk, all);
            }
            if ends.len() > 100 {
                log.release(ends.pop_front().expect("more than 100"));
            }
        }
        assert!(log.chunks.len() <= 4);
    }
}
