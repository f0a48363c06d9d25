//! The first words of a connection, which only who has the network key can say and understand.
//!
//! Under the key everybody begins with the same line of multistream, and under another key that
//! line is noise. So a wrong key shows with the first bytes, for certain, and is told from a
//! connection that merely ended: a peer that is dialled at several addresses keeps the first
//! connection that comes up, and hangs up on the others.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use libp2p::futures::{AsyncRead, AsyncWrite};

/// What everybody says first: its length, and the name of multistream's only version.
const GREETING: &[u8] = b"\x13/multistream/1.0.0\n";

/// The first bytes made no sense under our key.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the first bytes make no sense under our swarm key")]
pub(super) struct OtherKey;

impl OtherKey {
    /// Whether an error says so: libp2p wraps what a connection failed with several times.
    pub(super) fn is_cause_of(error: &(dyn Error + 'static)) -> bool {
        let mut error = Some(error);
        while let Some(it) = error {
            // An I/O error shows what is in it here, and skips it among its sources.
            let inner = it.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if it.is::<OtherKey>() || inner.is_some_and(|inner| Self::is_cause_of(inner)) {
                return true;
            }
            error = it.source();
        }
        false
    }
}

/// A connection under the network key, read until the greeting is over as one that may be under
/// another.
pub(super) struct Greeted<S> {
    stream: S,
    /// Of the greeting, how much came.
    came: usize,
}

impl<S> Greeted<S> {
    pub(super) fn new(stream: S) -> Self {
        Greeted { stream, came: 0 }
    }

    fn hear(&mut self, bytes: &[u8]) -> io::Result<()> {
        let rest = &GREETING[self.came..];
        let heard = bytes.len().min(rest.len());
        if bytes[..heard] != rest[..heard] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, OtherKey));
        }
        self.came += heard;
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.hear(&buffer[..read])?;
        Poll::Ready(Ok(read))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::futures::AsyncReadExt;
    use libp2p::futures::io::Cursor;

    use super::*;

    async fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        Greeted::new(Cursor::new(bytes)).read_to_end(&mut read).await?;
        Ok(read)
    }

    #[tokio::test]
    async fn what_begins_with_the_greeting_passes_and_what_ends_before_is_no_other_key() {
        let whole = [GREETING, b"\x07/noise\n"].concat();
        for length in 0..=whole.len() {
            assert_eq!(read(&whole[..length]).await.unwrap(), whole[..length]);
        }
    }

    #[tokio::test]
    async fn anything_else_is_another_key_at_its_first_byte_however_it_is_wrapped() {
        for at in 0..GREETING.len() {
            let mut bytes = GREETING.to_vec();
            bytes[at] ^= 1;
            let error = read(&bytes[..=at]).await.unwrap_err();
            assert!(OtherKey::is_cause_of(&error));
            assert!(OtherKey::is_cause_of(&io::Error::other(io::Error::other(error))));
        }
        assert!(!OtherKey::is_cause_of(&io::Error::other(io::Error::other("an end"))));
    }
}
