//! A stream whose client must take what is sent at a bearable pace: one that does not read would hold its connection, and the
//! answer with it, for ever.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// Time for taking anything; it grows by a second for each of these many bytes that have been taken. What the system holds for
/// the client counts as taken.
const GRACE: Duration = Duration::from_secs(30);
const BYTES_A_SECOND: u64 = 4 << 10;

/// A stream that fails with [`io::ErrorKind::TimedOut`] when its client does not take what is written.
pub struct PacedWrite<S> {
    stream: S,
    grace: Duration,
    held_up: Option<HeldUp>,
}

/// Something waits for the client, until all of it is written.
struct HeldUp {
    since: Instant,
    taken: u64,
    late: Pin<Box<Sleep>>,
}

impl<S> PacedWrite<S> {
    /// Wraps a stream.
    pub fn new(stream: S) -> Self {
        Self { stream, grace: GRACE, held_up: None }
    }

    fn paced(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                if let Some(held_up) = &mut self.held_up {
                    held_up.taken += bytes as u64;
                }
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let grace = self.grace;
                ready!(self.held_up.get_or_insert_with(|| HeldUp::new(grace)).poll_late(cx, grace));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take what is sent")))
            }
        }
    }
}

impl HeldUp {
    fn new(grace: Duration) -> Self {
        let since = Instant::now();
        Self { since, taken: 0, late: Box::pin(sleep_until(since + grace)) }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>, grace: Duration) -> Poll<()> {
        let deadline = self.since + grace + time_for(self.taken);
        if self.late.deadline() != deadline {
            self.late.as_mut().reset(deadline);
        }
        self.late.as_mut().poll(cx)
    }
}

/// How long a client may take for so much, besides the grace.
fn time_for(taken: u64) -> Duration {
    Duration::from_secs(taken / BYTES_A_SECOND)
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedWrite<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.paced(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, pieces);
        this.paced(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when there is nothing left to write: the client has kept up.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.held_up = None;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacedWrite<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, read: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, read)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::sleep,
    };

    use super::*;

    fn pair(grace: Duration) -> (DuplexStream, PacedWrite<DuplexStream>) {
        let (theirs, ours) = duplex(8);
        (theirs, PacedWrite { grace, ..PacedWrite::new(ours) })
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        let (_theirs, mut stream) = pair(Duration::from_millis(100));

        let written = stream.write_all(&[0; 20]).await;

        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_keeps_up_in_between_is_never_late() {
        let grace = Duration::from_secs(2);
        let (mut theirs, mut stream) = pair(grace);
        let began = Instant::now();
        tokio::spawn(async move {
            let mut bytes = [0; 16];
            while theirs.read_exact(&mut bytes).await.is_ok() {
                sleep(grace / 5).await;
            }
        });

        while began.elapsed() < grace * 2 {
            stream.write_all(&[0; 16]).await.unwrap();
            stream.flush().await.unwrap();
        }
    }

    #[test]
    fn a_slow_line_has_time_and_a_dripping_one_has_not() {
        let taken = |bytes_a_second: u64| {
            (1..3_600).all(|second| Duration::from_secs(second) <= GRACE + time_for(second * bytes_a_second))
        };
        assert!(taken(5 << 10));
        assert!(!taken(3 << 10));
        assert!(!taken(1));
    }
}
