//! A connection whose client is watched for what the libraries above put up with.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    framing::{Fault, Framing},
    websocket_frames::Frames,
};

/// A stream that is looked at as it is read.
pub struct Watched<S> {
    stream: S,
    watch: Watch,
}

enum Watch {
    Requests(Framing),
    Frames(Frames),
    /// A fault was found, and whoever reads has been told.
    Over,
}

impl<S> Watched<S> {
    /// A stream on which requests come.
    pub fn new(stream: S) -> Self {
        Self { stream, watch: Watch::Requests(Framing::default()) }
    }
}

impl Watch {
    fn look(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Requests(framing) => {
                match framing.look(bytes) {
                    Ok(at) if framing.is_upgraded() => {
                        *self = Self::Frames(Frames::start());
                        return self.look(&mut bytes[at..]);
                    }
                    Ok(_) => {}
                    // There is no zero in a head: the library refuses it and ends the connection.
                    Err(Fault::InHead(at)) => {
                        bytes[at] = 0;
                        *self = Self::Over;
                    }
                    Err(Fault::InBody) => {
                        *self = Self::Over;
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "the body's chunks break the rules"));
                    }
                }
                Ok(())
            }
            Self::Frames(frames) => frames.look(bytes).map_err(|flood| {
                *self = Self::Over;
                io::Error::new(io::ErrorKind::InvalidData, flood)
            }),
            Self::Over => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, read: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = read.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, read))?;
        Poll::Ready(this.watch.look(&mut read.filled_mut()[before..]))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
