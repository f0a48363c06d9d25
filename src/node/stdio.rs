//! Standard input and output as asynchronous streams, each opened as what it is.
//!
//! tokio's own stdin and stdout hand every read and write to a thread pool: five times slower
//! than need be. Hosts start their servers on pipes or, where they are written for Node.js, on
//! socket pairs; both can be polled directly. Each descriptor is looked at by itself, since a
//! shell may redirect only one of the two. Anything else (a terminal, a file) goes through the
//! pool.
//!
//! Polling needs `O_NONBLOCK`, which belongs to the open file, not to the descriptor. On a
//! terminal that would break the shell that shares it, so it is set on pipes and sockets only.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

/// A stream of what comes in.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// A stream of what goes out.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Standard input.
///
/// # Errors
/// The descriptor is closed, or the runtime cannot watch it.
pub fn reader() -> io::Result<Reader> {
    #[cfg(unix)]
    if let Some(reader) = unix::reader()? {
        return Ok(reader);
    }
    Ok(Box::new(tokio::io::stdin()))
}

/// Standard output.
///
/// # Errors
/// The descriptor is closed, or the runtime cannot watch it.
pub fn writer() -> io::Result<Writer> {
    #[cfg(unix)]
    if let Some(writer) = unix::writer()? {
        return Ok(writer);
    }
    Ok(Box::new(tokio::io::stdout()))
}

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::UnixStream as StdUnixStream;

    use tokio::net::UnixStream;
    use tokio::net::unix::pipe;

    use super::{Reader, Writer};

    /// What a descriptor can be polled as.
    #[derive(Debug)]
    pub(super) enum Kind {
        Pipe(OwnedFd),
        Socket(OwnedFd),
        Other,
    }

    impl Kind {
        pub(super) fn of(descriptor: &impl AsFd) -> io::Result<Self> {
            let file = File::from(descriptor.as_fd().try_clone_to_owned()?);
            let kind = file.metadata()?.file_type();
            Ok(if kind.is_fifo() {
                Kind::Pipe(file.into())
            } else if kind.is_socket() {
                Kind::Socket(file.into())
            } else {
                Kind::Other
            })
        }
    }

    pub(super) fn reader() -> io::Result<Option<Reader>> {
        Ok(match Kind::of(&io::stdin())? {
            Kind::Pipe(pipe) => Some(Box::new(pipe::Receiver::from_owned_fd(pipe)?)),
            Kind::Socket(socket) => Some(Box::new(stream(socket)?)),
            Kind::Other => None,
        })
    }

    pub(super) fn writer() -> io::Result<Option<Writer>> {
        Ok(match Kind::of(&io::stdout())? {
            Kind::Pipe(pipe) => Some(Box::new(pipe::Sender::from_owned_fd(pipe)?)),
            Kind::Socket(socket) => Some(Box::new(stream(socket)?)),
            Kind::Other => None,
        })
    }

    fn stream(socket: OwnedFd) -> io::Result<UnixStream> {
        let socket = StdUnixStream::from(socket);
        socket.set_nonblocking(true)?;
        UnixStream::from_std(socket)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::unix::Kind;

    #[test]
    fn pipes_and_sockets_are_told_apart_from_everything_else() {
        let (pipe, _writer) = std::io::pipe().unwrap();
        assert!(matches!(Kind::of(&pipe), Ok(Kind::Pipe(_))));
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(matches!(Kind::of(&socket), Ok(Kind::Socket(_))));
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(Kind::of(&file), Ok(Kind::Other)));
    }
}
