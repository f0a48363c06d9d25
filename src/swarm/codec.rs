//! How one message travels on a stream: its length, four bytes, big end first, then itself.
//!
//! The length is checked before anything is kept, and memory grows with what has arrived, not with
//! what was announced. Libp2p's own codecs cut what is over their limit and hand on the rest.
//!
//! Libp2p says nothing of a request that cannot be read, so it is handed on as an error instead,
//! and counted. Its sender, who keeps to no cap, waits until its own time is up.

use std::io;

use libp2p::StreamProtocol;
use libp2p::futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::request_response;

/// The longest request or response: two payloads and results of 256 KiB in any encoding fit. What
/// is longer the caller splits; pieces of 256 KiB to 1 MiB keep heartbeats from waiting.
pub const MAX_MESSAGE: usize = 2 * 1024 * 1024;

/// What the peers of a swarm speak. Another version is another name, and both can be offered.
pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs-accelerate/swarm/1");

/// Reads and writes opaque messages up to a length.
#[derive(Clone)]
pub(super) struct Codec {
    pub(super) longest: usize,
}

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = io::Result<Vec<u8>>;
    type Response = Vec<u8>;

    async fn read_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<io::Result<Vec<u8>>>
    where
        T: AsyncRead + Unpin + Send,
    {
        Ok(read(io, self.longest).await)
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.longest).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: io::Result<Vec<u8>>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &request?, self.longest).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &response, self.longest).await
    }
}

async fn read<T: AsyncRead + Unpin>(io: &mut T, longest: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length);
    check(length as usize, longest)?;
    let mut message = Vec::new();
    io.take(u64::from(length)).read_to_end(&mut message).await?;
    if message.len() < length as usize {
        let text = format!("{} of {length} bytes came", message.len());
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
    }
    Ok(message)
}

async fn write<T>(io: &mut T, message: &[u8], longest: usize) -> io::Result<()>
where
    T: AsyncWrite + Unpin,
{
    check(message.len(), longest)?;
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    // One piece, so that a short message is one frame and one packet.
    let mut framed = Vec::with_capacity(4 + message.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    io.write_all(&framed).await
}

fn check(length: usize, longest: usize) -> io::Result<()> {
    if length > longest {
        let text = format!("a message of {length} bytes; {longest} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use libp2p::futures::io::Cursor;

    use super::*;

    async fn read_bytes(bytes: &[u8]) -> io::Result<Vec<u8>> {
        read(&mut Cursor::new(bytes), 8).await
    }

    #[tokio::test]
    async fn a_message_up_to_the_cap_is_read_as_it_was_written_and_a_longer_one_is_not() {
        for message in [&b""[..], b"a", b"12345678"] {
            let mut stream = Vec::new();
            write(&mut stream, message, 8).await.unwrap();
            assert_eq!(stream.len(), 4 + message.len());
            assert_eq!(read_bytes(&stream).await.unwrap(), message);
        }
        let mut stream = Vec::new();
        let refused = write(&mut stream, b"123456789", 8).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert!(stream.is_empty(), "nothing of what is refused is sent");
    }

    #[tokio::test]
    async fn malformed_frames_are_errors_and_nothing_is_allocated_for_what_they_announce() {
        let cases: [(&[u8], io::ErrorKind); 5] = [
            (b"", io::ErrorKind::UnexpectedEof),
            (b"\0\0\0", io::ErrorKind::UnexpectedEof),
            (b"\0\0\0\x03ab", io::ErrorKind::UnexpectedEof),
            (b"\0\0\0\x09123456789", io::ErrorKind::InvalidData),
            (b"\xff\xff\xff\xff1", io::ErrorKind::InvalidData),
        ];
        for (bytes, kind) in cases {
            assert_eq!(read_bytes(bytes).await.unwrap_err().kind(), kind, "{bytes:?}");
        }
    }
}
