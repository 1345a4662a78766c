//! Where requests begin and end on a connection, seen more strictly than the HTTP library does.
//!
//! Whatever two programs can read differently (two lengths, a length beside an encoding, lines that end in a bare line feed)
//! lets a request hide in another one that a proxy has looked at. The library puts up with some of it; here it is found, and
//! made into something that the library refuses.

/// Bytes of a header line that are looked at; the headers that matter here are shorter, and a longer one of them is refused.
const LINE: usize = 128;

/// Follows the requests of one connection.
#[derive(Debug, Default)]
pub struct Framing {
    state: State,
    head: Head,
}

/// A connection whose client breaks the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// In a head, at this byte of what was looked at: a zero there makes the library refuse the request.
    InHead(usize),
    /// In a body, which nobody may go on reading.
    InBody,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// So many bytes of a body are to come.
    Body(u64),
    /// The size of a chunk, as far as it has come; `ended` when only an extension may follow.
    ChunkSize { size: u64, digits: u32, ended: bool },
    /// After the carriage return of a chunk's size.
    ChunkSizeEnd(u64),
    /// So many bytes of a chunk are to come.
    Chunk(u64),
    /// The line break after a chunk; whether the carriage return was there.
    ChunkEnd(bool),
    /// The lines after the last chunk: bytes of the current one, and whether the last was a carriage return.
    Trailers { length: u32, cr: bool },
    /// The connection becomes a WebSocket, or whatever else was asked for: no requests are to come.
    Upgraded,
}

/// What is known of a head so far.
#[derive(Debug, Default)]
struct Head {
    /// The first bytes of the current line, without its end.
    line: Vec<u8>,
    /// Whether the line is longer than that.
    is_cut: bool,
    /// Whether the last byte was a carriage return.
    cr: bool,
    /// Whether the request line has come.
    has_begun: bool,
    length: Option<u64>,
    is_chunked: bool,
    is_upgrade: bool,
}

impl Framing {
    /// Looks at the next bytes of the connection; how many of them belong to requests, which is all unless the connection
    /// becomes something else. After a fault nothing more is to be looked at.
    pub fn look(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut at = 0;
        while at < bytes.len() {
            at += match self.state {
                State::Upgraded => return Ok(at),
                State::Body(left) => self.pass(left, bytes.len() - at, State::Body, State::Head),
                State::Chunk(left) => self.pass(left, bytes.len() - at, State::Chunk, State::ChunkEnd(false)),
                State::Head => {
                    self.state = self.head.take(bytes[at]).map_err(|()| Fault::InHead(at))?;
                    1
                }
                state => {
                    self.state = state.after(bytes[at]).ok_or(Fault::InBody)?;
                    1
                }
            };
        }
        Ok(at)
    }

    /// Whether the client has asked for another protocol: what follows is none of HTTP's business.
    pub fn is_upgraded(&self) -> bool {
        self.state == State::Upgraded
    }

    /// Passes over content of which so much is left.
    fn pass(&mut self, left: u64, there: usize, more: fn(u64) -> State, then: State) -> usize {
        let passed = left.min(there as u64);
        self.state = if passed == left { then } else { more(left - passed) };
        passed as usize
    }
}

impl State {
    /// The state after a byte between chunks; `None` when it cannot stand there.
    fn after(self, byte: u8) -> Option<Self> {
        match self {
            Self::ChunkSize { size, digits, ended } => match (byte, (byte as char).to_digit(16)) {
                (b'\r', _) if digits > 0 => Some(Self::ChunkSizeEnd(size)),
                (b'\r' | b'\n' | 0, _) => None,
                (_, Some(digit)) if !ended => {
                    // As many digits as fit: more would be zeros in front, for which there is no reason.
                    (digits < 16).then_some(Self::ChunkSize {
                        size: size << 4 | u64::from(digit),
                        digits: digits + 1,
                        ended,
                    })
                }
                (b';' | b' ' | b'\t', _) if digits > 0 => Some(Self::ChunkSize { size, digits, ended: true }),
                _ => ended.then_some(self),
            },
            Self::ChunkSizeEnd(size) => match (byte, size) {
                (b'\n', 0) => Some(Self::Trailers { length: 0, cr: false }),
                (b'\n', size) => Some(Self::Chunk(size)),
                _ => None,
            },
            Self::ChunkEnd(false) => (byte == b'\r').then_some(Self::ChunkEnd(true)),
            Self::ChunkEnd(true) => (byte == b'\n').then_some(Self::ChunkSize { size: 0, digits: 0, ended: false }),
            Self::Trailers { length, cr } => match (byte, cr) {
                (b'\n', true) if length == 0 => Some(Self::Head),
                (b'\n', true) => Some(Self::Trailers { length: 0, cr: false }),
                (b'\n', false) | (_, true) => None,
                (b'\r', false) => Some(Self::Trailers { length, cr: true }),
                (_, false) => Some(Self::Trailers { length: length.saturating_add(1), cr: false }),
            },
            Self::Head | Self::Body(_) | Self::Chunk(_) | Self::Upgraded => Some(self),
        }
    }
}

impl Head {
    /// The state after one more byte of a head; an error when it must not go on.
    fn take(&mut self, byte: u8) -> Result<State, ()> {
        match (byte, std::mem::replace(&mut self.cr, byte == b'\r')) {
            (b'\n', true) => self.end_line(),
            // Lines that end in a bare line feed.
            (b'\n', false) => Err(()),
            // A carriage return that ends no line.
            (_, true) => Err(()),
            (b'\r', false) => Ok(State::Head),
            (byte, false) => {
                match self.line.len() < LINE {
                    true => self.line.push(byte),
                    false => self.is_cut = true,
                }
                Ok(State::Head)
            }
        }
    }

    fn end_line(&mut self) -> Result<State, ()> {
        let line = std::mem::take(&mut self.line);
        let is_cut = std::mem::take(&mut self.is_cut);
        match (line.is_empty(), self.has_begun) {
            // Before a request there may be empty lines.
            (true, false) => {}
            (true, true) => return Ok(std::mem::take(self).body()),
            (false, false) => self.has_begun = true,
            (false, true) => self.header(&line, is_cut)?,
        }
        // For the next line.
        self.line = line;
        self.line.clear();
        Ok(State::Head)
    }

    fn header(&mut self, line: &[u8], is_cut: bool) -> Result<(), ()> {
        // A line without a colon, or one that goes on the line before, is refused by the library.
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return Ok(()) };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("content-length") {
            let length = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let length = length.filter(|_| !is_cut).and_then(|text| text.parse().ok()).ok_or(())?;
            if self.is_chunked || self.length.replace(length).is_some() {
                return Err(());
            }
        } else if is("transfer-encoding") {
            // No other encoding is understood here.
            if is_cut || self.is_chunked || self.length.is_some() || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(());
            }
            self.is_chunked = true;
        } else if is("upgrade") {
            self.is_upgrade = true;
        }
        Ok(())
    }

    /// What follows the head.
    fn body(self) -> State {
        match self.length.unwrap_or(0) {
            _ if self.is_chunked => State::ChunkSize { size: 0, digits: 0, ended: false },
            0 if self.is_upgrade => State::Upgraded,
            0 => State::Head,
            length => State::Body(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn look(bytes: &str) -> Result<State, Fault> {
        let mut framing = Framing::default();
        framing.look(bytes.as_bytes()).map(|_| framing.state)
    }

    fn post(headers: &str) -> String {
        format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
    }

    #[test]
    fn ordinary_requests_follow_each_other() {
        let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let sized = post("Content-Length: 5\r\n") + "a\n\r\0b";
        let chunked = post("Transfer-Encoding: chunked\r\n")
            + "5\r\na\n\r\0b\r\n1A; name=value\r\n"
            + &"\n".repeat(26)
            + "\r\n0\r\nX-Trailer: 1\r\n\r\n";
        let empty = post("transfer-encoding:\tChunked \r\n") + "0\r\n\r\n";

        assert_eq!(look(&[get, &sized, "\r\n", &chunked, &empty, &sized, get].concat()), Ok(State::Head));
        assert_eq!(look(&(post("Content-Length: 6\r\n") + "abc")), Ok(State::Body(3)));
    }

    #[test]
    fn a_request_that_can_be_read_in_two_ways_is_a_fault() {
        for headers in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\ncontent-length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length : 5\r\nTransfer-Encoding : chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "X: a\nTransfer-Encoding: chunked\r\n",
            "X: a\rTransfer-Encoding: chunked\r\n",
            "X: a\r\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert!(matches!(look(&post(headers)), Err(Fault::InHead(_))), "{headers:?}");
        }
        let long = format!("Content-Length: {}5\r\n", " ".repeat(200));
        assert!(look(&post(&long)).is_err());
        assert_eq!(look("GET / HTTP/1.1\nHost: x\n\n"), Err(Fault::InHead(14)));
        assert!(look("\nGET / HTTP/1.1\r\n\r\n").is_err());
    }

    #[test]
    fn the_fault_is_found_in_each_request_of_a_connection() {
        let before =
            post("Content-Length: 3\r\n") + "abc" + &post("Transfer-Encoding: chunked\r\n") + "3\r\nabc\r\n0\r\n\r\n";
        let hidden = "GET / HTTP/1.1\r\nX: y\n";

        assert_eq!(look(&(before.clone() + hidden)), Err(Fault::InHead(before.len() + hidden.len() - 1)));
    }

    #[test]
    fn chunks_that_break_the_rules_are_a_fault() {
        for body in [
            "5\nabcde\r\n0\r\n\r\n",
            "5\r\nabcdefg\r\n",
            "\r\n",
            "g\r\n",
            "-1\r\n",
            ";\r\n",
            "5 5\r\n".trim_end(),
            "10000000000000000000\r\n",
            "5;\nabcde\r\n",
            "5;\0\r\nabcde\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\n\n",
            "5\r\nabcde\n0\r\n\r\n",
        ] {
            let request = post("Transfer-Encoding: chunked\r\n") + body;
            let expected = if body == "5 5" {
                Ok(State::ChunkSize { size: 5, digits: 1, ended: true })
            } else {
                Err(Fault::InBody)
            };
            assert_eq!(look(&request), expected, "{body:?}");
        }
    }

    #[test]
    fn after_an_upgrade_there_are_no_requests() {
        let upgrade = "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

        let mut framing = Framing::default();
        assert_eq!(framing.look((upgrade.to_owned() + "\n\0\x01any bytes\n").as_bytes()), Ok(upgrade.len()));
        assert!(framing.is_upgraded());
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_bytes_arrive(cuts in prop::collection::vec(1_usize..40, 1..60), end in ".{0,20}") {
            let requests = post("Content-Length: 12\r\n") + "some content" + &post("Transfer-Encoding: chunked\r\n")
                + "c; x=y\r\nsome content\r\n0\r\na: b\r\n\r\n" + &post("X: y\r\n") + &end;
            let whole = look(&requests);

            let (mut framing, mut at, mut result) = (Framing::default(), 0, Ok(0));
            for cut in cuts.iter().cycle() {
                if at >= requests.len() || result.is_err() {
                    break;
                }
                let end = (at + cut).min(requests.len());
                result = framing.look(&requests.as_bytes()[at..end]).map_err(|fault| match fault {
                    Fault::InHead(byte) => Fault::InHead(at + byte),
                    Fault::InBody => Fault::InBody,
                });
                at = end;
            }
            prop_assert_eq!(result.map(|_| framing.state), whole);
        }

        #[test]
        fn any_bytes_are_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let _ = Framing::default().look(&bytes);
        }
    }
}
