//! A connection by hand: bytes that no client library would send, and the silence none would keep.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::harness::{PATIENCE, Tenant};

/// A plain TCP connection to a server.
pub struct Raw(TcpStream);

impl Raw {
    /// Connects to a server.
    pub async fn to(url: &str) -> Self {
        let address = url.strip_prefix("http://").unwrap();
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// Connects with little room for what is not read.
    pub async fn narrow(url: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        let address = url.strip_prefix("http://").unwrap().parse().unwrap();
        Self(socket.connect(address).await.unwrap())
    }

    /// Connects from an address of this machine.
    pub async fn from(local: &str, url: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{local}:0").parse().unwrap()).unwrap();
        let address = url.strip_prefix("http://").unwrap().parse().unwrap();
        Self(socket.connect(address).await.unwrap())
    }

    /// Sends bytes, which has to work.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends bytes to a server that may have had enough.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.write_all(bytes.as_ref()).await
    }

    /// Sends a byte every second until the server ends the connection; its answer.
    pub async fn drip(self, byte: u8) -> String {
        let (mut reader, mut writer) = self.0.into_split();
        let dripping = async {
            while writer.write_all(&[byte]).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            std::future::pending::<()>().await
        };
        let mut answer = Vec::new();
        tokio::select! {
            () = dripping => unreachable!(),
            _ = timeout(PATIENCE, reader.read_to_end(&mut answer)) => String::from_utf8_lossy(&answer).into(),
        }
    }

    /// Everything that comes until the server ends the connection, which it has to do.
    pub async fn rest(&mut self) -> String {
        String::from_utf8_lossy(&self.rest_bytes().await).into()
    }

    /// The same, which may be no text.
    pub async fn rest_bytes(&mut self) -> Vec<u8> {
        let mut answer = Vec::new();
        let end = timeout(PATIENCE, self.0.read_to_end(&mut answer)).await;
        assert!(end.is_ok(), "the connection is still open after {:?}", String::from_utf8_lossy(&answer));
        answer
    }

    /// Asks whether the server lives, and reads the whole answer.
    pub async fn knock(&mut self) -> String {
        // A server that has no place answers at once and does not read.
        drop(self.try_send("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await);
        self.rest().await
    }

    /// The head of the next answer, and what has come with it.
    pub async fn some(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// Reads until these bytes have come.
    pub async fn until(&mut self, wanted: &str) -> String {
        let mut text = String::new();
        while !text.contains(wanted) {
            let mut chunk = [0; 4096];
            let read = timeout(PATIENCE, self.0.read(&mut chunk)).await.expect("something comes").unwrap_or(0);
            assert!(read > 0, "the connection ended before {wanted:?}: {text:?}");
            text.push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
        text
    }
}

/// The head of a request with a public key and whatever headers are given, each with its line break.
pub fn head(method: &str, path: &str, tenant: &Tenant, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\nSB-PUBLIC-KEY: {}\r\n{headers}\r\n", tenant.key)
}

/// The header that proves the owner of an app.
pub fn root(tenant: &Tenant) -> String {
    format!("Authorization: Bearer {}\r\n", tenant.root_token())
}

/// The head of a request for a WebSocket, which `until("101")` answers.
pub fn upgrade(key: &str) -> String {
    format!(
        "GET /ws?sbpk={key} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}
