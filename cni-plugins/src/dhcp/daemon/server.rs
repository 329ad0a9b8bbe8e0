//! Questions and answers on the daemon's socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cni::{Error, ErrorCode};

use super::listener::Socket;
use super::log;
use super::table::Table;
use crate::dhcp::rpc::{Answer, MOST, Question};

/// A question comes at once or not at all.
const PATIENCE: Duration = Duration::from_secs(10);
/// How the reference's plugin begins.
const GO_RPC: &[u8] = b"CONNECT ";
/// What it shows its user of the answer.
const TO_GO_RPC: &[u8] =
    b"HTTP/1.0 501 this is heddle-cni dhcp-daemon, which serves Heddle's dhcp plugin only\r\n\r\n";

/// Serves the next connection on a thread of its own: some questions take minutes.
pub fn accept(socket: &Socket, table: &Arc<Table>) {
    let table = Arc::clone(table);
    let served = socket.accept().and_then(|stream| {
        let Some(stream) = stream else { return Ok(()) };
        let builder = thread::Builder::new().name("question".to_owned());
        builder.spawn(move || serve(stream, &table)).map(drop)
    });
    if let Err(error) = served {
        log(&format!("cannot take a question: {error}"));
        // Such as too many open files: others need time to end.
        thread::sleep(Duration::from_millis(100));
    }
}

fn serve(mut stream: UnixStream, table: &Table) {
    let answered = read(&mut stream).and_then(|said| {
        if said.is_empty() {
            // Somebody looked whether we are here.
            return Ok(());
        }
        if said.starts_with(GO_RPC) {
            return stream.write_all(TO_GO_RPC);
        }
        let answer = match serde_json::from_slice(&said) {
            Ok(question) => answer(question, table),
            Err(error) => Err(Error::new(
                ErrorCode::Decode,
                "the DHCP daemon does not understand the question",
            )
            .with_details(error.to_string())),
        };
        let answer = answer.unwrap_or_else(|error| Answer::Error(error.into()));
        stream.write_all(&serde_json::to_vec(&answer)?)
    });
    if let Err(error) = answered {
        log(&format!("a question was not answered: {error}"));
    }
}

/// Reads to the end, or as far as it takes to see that it is the reference's plugin, which waits for an answer first.
fn read(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut said = Vec::new();
    let mut part = [0; 4096];
    loop {
        let length = stream.read(&mut part)?;
        said.extend_from_slice(&part[..length]);
        if length == 0 || said.starts_with(GO_RPC) {
            return Ok(said);
        }
        if said.len() as u64 > MOST {
            return Err(io::Error::other(format!("it is longer than {MOST} bytes")));
        }
    }
}

fn answer(question: Question, table: &Table) -> Result<Answer, Error> {
    Ok(match question {
        Question::Allocate(allocate) => Answer::Lease(table.allocate(&allocate)?),
        Question::Check { attachment } => Answer::Lease(table.check(&attachment)?),
        Question::Release { attachment } => Answer::Released(table.release(&attachment)),
        Question::Collect { network, valid } => Answer::Released(table.collect(&network, &valid)),
        Question::Ping {} => Answer::Leases(table.count()),
    })
}
