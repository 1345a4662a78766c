//! A connection that is closed without losing the last answer.
//!
//! A request that is refused early (413, 431) leaves bytes unread. Closing the socket over them makes the system reset the
//! connection, and the client may lose the answer that says why. So what still comes is read and dropped for a moment.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// A client that sends nothing for this long has seen the end …
const QUIET: Duration = Duration::from_millis(500);

/// … and one that does not stop is cut off after this time or these bytes.
const LONGEST: Duration = Duration::from_secs(5);
const MOST: usize = 32 << 20;

/// A stream whose end is waited for, and what it holds until then.
pub struct Lingering<S, H = ()> {
    stream: S,
    end: Option<End>,
    _held: H,
}

/// Our side is closed; the client's may still talk.
struct End {
    since: Instant,
    quiet: Pin<Box<Sleep>>,
    dropped: usize,
}

impl<S, H> Lingering<S, H> {
    /// Wraps a stream; `held` is dropped with it.
    pub fn new(stream: S, held: H) -> Self {
        Self { stream, end: None, _held: held }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, H: Unpin> AsyncWrite for Lingering<S, H> {
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, end, .. } = self.get_mut();
        let end = match end {
            Some(end) => end,
            None => {
                ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
                end.insert(End { since: Instant::now(), quiet: Box::pin(sleep(QUIET)), dropped: 0 })
            }
        };
        let mut buffer = [0; 8_192];
        loop {
            let mut read = ReadBuf::new(&mut buffer);
            match Pin::new(&mut *stream).poll_read(cx, &mut read) {
                Poll::Pending => return end.quiet.as_mut().poll(cx).map(Ok),
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => end.dropped += read.filled().len(),
            }
            if read.filled().is_empty() || end.dropped > MOST || end.since.elapsed() > LONGEST {
                return Poll::Ready(Ok(()));
            }
            end.quiet.as_mut().reset(Instant::now() + QUIET);
        }
    }

    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

impl<S: AsyncRead + Unpin, H: Unpin> AsyncRead for Lingering<S, H> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, read: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, read)
    }
}
