//! The frames that a client sends on a WebSocket, counted: the library puts the pieces of a message together before anybody
//! else sees it, however many there are.

use std::time::{Duration, Instant};

/// Frames that one message may come in. Clients cut messages into pieces of some kilobytes, and the largest has 64.
const PIECES: u32 = 256;

/// Pings, pongs and the like in a minute: a client that sends more of them has nothing to say.
const CONTROLS: u32 = 10_000;
const MINUTE: Duration = Duration::from_secs(60);

/// Follows the frames of one connection.
#[derive(Debug)]
pub struct Frames {
    state: State,
    /// Frames of the current message that have come.
    pieces: u32,
    /// Control frames since the minute began.
    controls: u32,
    minute: Instant,
}

/// Why a client is not listened to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameFlood {
    /// A message has more pieces than one may have.
    #[error("a message comes in too many pieces")]
    Pieces,
    /// There are more control frames than anybody needs.
    #[error("too many control frames")]
    Controls,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// A frame begins.
    Start,
    /// The byte with the length.
    Length,
    /// Bytes of a longer length that are to come, and its value so far.
    LongLength(u8, u64),
    /// Bytes of the mask and the content that are to come.
    Content(u64),
}

/// Bytes that every frame of a client has before its content. One without is refused by the library.
const MASK: u64 = 4;

impl Frames {
    /// Nothing has come yet.
    pub fn start() -> Self {
        Self { state: State::Start, pieces: 0, controls: 0, minute: Instant::now() }
    }

    /// Looks at the next bytes of the connection.
    pub fn look(&mut self, bytes: &[u8]) -> Result<(), FrameFlood> {
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            at += 1;
            self.state = match self.state {
                State::Start => {
                    self.count(byte)?;
                    State::Length
                }
                State::Length => match byte & 0x7f {
                    126 => State::LongLength(2, 0),
                    127 => State::LongLength(8, 0),
                    length => State::Content(MASK + u64::from(length)),
                },
                State::LongLength(left, length) => match (left - 1, length << 8 | u64::from(byte)) {
                    (0, length) => State::Content(length.saturating_add(MASK)),
                    (left, length) => State::LongLength(left, length),
                },
                State::Content(left) => {
                    at -= 1;
                    let passed = left.min((bytes.len() - at) as u64);
                    at += passed as usize;
                    if passed == left { State::Start } else { State::Content(left - passed) }
                }
            };
        }
        Ok(())
    }

    fn count(&mut self, first: u8) -> Result<(), FrameFlood> {
        let (is_last, is_control) = (first & 0x80 != 0, first & 0x08 != 0);
        if is_control {
            if self.minute.elapsed() > MINUTE {
                (self.minute, self.controls) = (Instant::now(), 0);
            }
            self.controls += 1;
            return if self.controls > CONTROLS { Err(FrameFlood::Controls) } else { Ok(()) };
        }
        self.pieces += 1;
        if self.pieces > PIECES {
            return Err(FrameFlood::Pieces);
        }
        if is_last {
            self.pieces = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: u8 = 0x01;
    const PING: u8 = 0x89;
    const LAST: u8 = 0x80;

    fn frame(first: u8, content: &[u8]) -> Vec<u8> {
        let length = match content.len() {
            length @ ..126 => vec![0x80 | length as u8],
            length @ ..65_536 => [&[0xfe][..], &(length as u16).to_be_bytes()].concat(),
            length => [&[0xff][..], &(length as u64).to_be_bytes()].concat(),
        };
        [&[first][..], &length, &[1, 2, 3, 4], content].concat()
    }

    #[test]
    fn messages_in_few_pieces_may_come_for_ever() {
        let mut frames = Frames::start();
        let message: Vec<u8> = [
            frame(TEXT, &[0xff; 200]),
            frame(PING, b"are you there?"),
            frame(0, b""),
            frame(0, &[0; 70_000]),
            frame(LAST, b"end"),
        ]
        .concat();

        for _ in 0..1_000 {
            assert_eq!(frames.look(&message), Ok(()));
        }
    }

    #[test]
    fn pieces_without_end_are_a_flood() {
        let mut frames = Frames::start();

        assert_eq!(frames.look(&frame(TEXT, b"")), Ok(()));
        assert_eq!(frames.look(&frame(0, b"").repeat(255)), Ok(()));
        assert_eq!(frames.look(&frame(PING, b"")), Ok(()));
        assert_eq!(frames.look(&frame(0, b"")), Err(FrameFlood::Pieces));
    }

    #[test]
    fn ten_thousand_pings_in_a_minute_are_a_flood() {
        let mut frames = Frames::start();

        assert_eq!(frames.look(&frame(PING, b"").repeat(10_000)), Ok(()));
        assert_eq!(frames.look(&frame(TEXT | LAST, b"{}")), Ok(()));
        assert_eq!(frames.look(&frame(PING, b"")), Err(FrameFlood::Controls));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_bytes_arrive(sizes in prop::collection::vec(0_usize..300, 1..20), cut in 1_usize..50) {
            let bytes: Vec<u8> = sizes.iter().flat_map(|size| frame(0, &vec![0; *size])).collect();
            let mut frames = Frames::start();

            for piece in bytes.chunks(cut) {
                prop_assert!(frames.look(piece).is_ok());
            }

            prop_assert_eq!(frames.pieces as usize, sizes.len());
            prop_assert!(matches!(frames.state, State::Start));
        }
    }
}
