//! The bare loop: ready-made bytes out, the bytes that come back counted and nothing else.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

use crate::flood;

/// One blocking connection that keeps a number of requests under way. When half of them are
/// answered it sends as many again in one write.
///
/// That is close to what server and kernel can do: nothing is encoded, nothing parsed.
#[derive(Debug)]
pub struct RawLoop {
    port: u16,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl RawLoop {
    /// Connects to a port on this machine.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(RawLoop { port, stream, buffer: vec![0; 256 << 10] })
    }

    /// Counts messages instead, on a connection of its own.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn listen(&mut self, count: usize) -> io::Result<()> {
        flood::listen(self.port, count, &mut self.buffer)
    }

    /// Sends `requests` in turn until `count` of them are answered, never more than `window` at a
    /// time. Each comes with how many bytes its reply has.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn run(
        &mut self,
        requests: &[(Vec<u8>, usize)],
        window: usize,
        count: usize,
    ) -> io::Result<()> {
        let round: Vec<u8> = requests.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        // Whole rounds stand one behind the other, so that any run of requests is one slice.
        let bytes = round.repeat(window.div_ceil(requests.len()) + 1);
        let mut starts = vec![0];
        for (request, _) in requests.iter().cycle().take(window + requests.len()) {
            starts.push(starts.last().unwrap_or(&0) + request.len());
        }
        let (mut sent, mut answered, mut received) = (0, 0, 0);
        while answered < count {
            let under_way = sent - answered;
            if under_way <= window / 2 {
                let more = (window - under_way).min(count - sent);
                let first = sent % requests.len();
                self.stream.write_all(&bytes[starts[first]..starts[first + more]])?;
                sent += more;
            }
            let read = self.stream.read(&mut self.buffer)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            received += read;
            while answered < sent && received >= requests[answered % requests.len()].1 {
                received -= requests[answered % requests.len()].1;
                answered += 1;
            }
        }
        Ok(())
    }
}
