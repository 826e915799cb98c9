//! Commands made through the command traits, without a client: what making them costs by itself.

use std::cell::RefCell;

use unfazed_core::{Request, commands::Run, engine::Batch, reply::FromReply};

/// Encodes every command that is run on it, one behind the other.
#[derive(Debug, Default)]
pub struct Encoder(pub RefCell<Vec<u8>>);

/// Gathers every command that is run on it into a pipeline.
#[derive(Debug, Default)]
pub struct Pipeline(pub RefCell<Batch>);

impl Run for Encoder {
    type Pending<T: Send + 'static> = ();

    fn run<T: FromReply + Send + 'static>(&self, request: Request<'_>) {
        request.encode(&mut self.0.borrow_mut());
    }
}

impl Run for Pipeline {
    type Pending<T: Send + 'static> = ();

    fn run<T: FromReply + Send + 'static>(&self, request: Request<'_>) {
        self.0.borrow_mut().push(&request);
    }
}
