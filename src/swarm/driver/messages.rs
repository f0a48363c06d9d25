//! Questions and answers, ours and theirs.

use std::io;
use std::sync::Arc;

use libp2p::PeerId;
use libp2p::request_response::{
    self, Message, OutboundFailure, OutboundRequestId, ResponseChannel,
};

use super::super::behaviour::MAX_IN_FLIGHT;
use super::super::handle::{Answer, Event, RequestError};
use super::super::refusals::Why;
use super::{Asked, Driver, Reply};

impl Driver {
    pub(super) fn request(
        &mut self,
        peer: PeerId,
        bytes: Vec<u8>,
        reply: Reply<Result<Vec<u8>, RequestError>>,
    ) {
        let refused = match self.links.get(&peer) {
            None => RequestError::NotConnected,
            Some(link) if link.in_flight >= MAX_IN_FLIGHT => RequestError::Busy,
            Some(link) => {
                link.in_flight += 1;
                let id = self.network.behaviour_mut().messages.send_request(&peer, Ok(bytes));
                self.asked.insert(id, Asked { peer, reply });
                return;
            }
        };
        drop(reply.send(Err(refused)));
    }

    pub(super) fn on_message(
        &mut self,
        event: request_response::Event<io::Result<Vec<u8>>, Vec<u8>>,
    ) {
        use request_response::Event as E;
        match event {
            E::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                self.asked(peer, request, channel);
            }
            E::Message { message: Message::Response { request_id, response }, .. } => {
                self.answered(request_id, Ok(response));
            }
            E::OutboundFailure { peer, request_id, error, .. } => {
                let error = request_failed(error);
                if matches!(error, RequestError::Malformed(_)) {
                    self.refused(Some(peer), None, Why::Malformed);
                }
                self.answered(request_id, Err(error));
            }
            E::InboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "a request was not answered");
            }
            E::ResponseSent { .. } => {}
        }
    }

    /// Where the channel is dropped, the peer is told that there is no answer.
    fn asked(
        &mut self,
        peer: PeerId,
        request: io::Result<Vec<u8>>,
        channel: ResponseChannel<Vec<u8>>,
    ) {
        self.meet(peer);
        let bytes = match request {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::debug!(%peer, %error, "a request could not be read");
                // Any other error is the connection's, which ended in the middle of a message.
                if error.kind() == io::ErrorKind::InvalidData {
                    self.refused(Some(peer), None, Why::Malformed);
                }
                return;
            }
        };
        let place = Arc::clone(&self.places).try_acquire_owned();
        match (place, self.commands.upgrade()) {
            (Ok(place), Some(commands)) => {
                let answer = Answer { channel, commands, _place: place };
                self.tell(Event::Request { peer, bytes, answer });
            }
            _ => self.refused(Some(peer), None, Why::Overloaded),
        }
    }

    fn answered(&mut self, id: OutboundRequestId, outcome: Result<Vec<u8>, RequestError>) {
        let Some(Asked { peer, reply }) = self.asked.remove(&id) else { return };
        if let Some(link) = self.links.get(&peer) {
            link.in_flight = link.in_flight.saturating_sub(1);
        }
        // Whoever asked may not wait any more.
        drop(reply.send(outcome));
    }
}

fn request_failed(error: OutboundFailure) -> RequestError {
    match error {
        OutboundFailure::DialFailure => RequestError::NotConnected,
        OutboundFailure::Timeout => RequestError::TimedOut,
        OutboundFailure::ConnectionClosed => RequestError::Disconnected,
        OutboundFailure::UnsupportedProtocols => RequestError::Unsupported,
        OutboundFailure::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            RequestError::Malformed(error.to_string())
        }
        OutboundFailure::Io(error) => RequestError::NoAnswer(error.to_string()),
    }
}
