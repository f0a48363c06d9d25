//! A socket that gives up when nobody takes what is written.
//!
//! TCP itself tries for a quarter of an hour to send to a machine that is gone. Closing a connection
//! waits for what is still to be sent, so that a peer behind a pulled cable would stay connected for
//! as long, though it was told to go, and half of the requests to its next connection be lost.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::futures::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

/// A stream with a limit on how long writing may make no progress.
pub(super) struct Stall<S> {
    stream: S,
    limit: Duration,
    /// Runs while a write waits.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S: Unpin> Stall<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Stall { stream, limit, timer: None }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let outcome = write(Pin::new(&mut self.stream), cx);
        if outcome.is_ready() {
            self.timer = None;
            return outcome;
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(cx).map(|()| {
            let text = "the other side takes nothing of what is sent";
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stall<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stall<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.watch(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch(cx, |stream, cx| stream.poll_close(cx))
    }
}

#[cfg(test)]
mod tests {
    use libp2p::futures::AsyncWriteExt;

    use super::*;

    /// Takes a byte now and then, or nothing.
    struct Slow {
        pauses: Option<Pin<Box<Sleep>>>,
        pause: Duration,
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            let pause = self.pause;
            let pauses = self.pauses.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            let taken = pauses.as_mut().poll(cx).map(|()| Ok(1));
            if taken.is_ready() {
                self.pauses = None;
            }
            taken
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn stall(pause: Duration) -> Stall<Slow> {
        Stall::new(Slow { pauses: None, pause }, Duration::from_millis(500))
    }

    #[tokio::test]
    async fn a_write_that_nobody_takes_ends_and_a_slow_one_that_goes_on_does_not() {
        let stuck = stall(Duration::from_secs(3600)).write_all(b"?").await.unwrap_err();
        assert_eq!(stuck.kind(), io::ErrorKind::TimedOut);
        // Together these take longer than the limit, and none of them alone.
        stall(Duration::from_millis(20)).write_all(&[0; 40]).await.unwrap();
    }
}
