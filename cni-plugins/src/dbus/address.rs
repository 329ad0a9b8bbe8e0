//! Addresses of buses (D-Bus Specification, "Server Addresses").

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

/// Connects to the first address of the list that can be reached.
pub fn connect(addresses: &str) -> io::Result<UnixStream> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "it is not the address of a socket");
    for address in addresses.split(';') {
        let Some(socket) = socket(address) else { continue };
        match socket.and_then(|socket| UnixStream::connect_addr(&socket)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `None`: another kind of address than a unix socket's.
fn socket(address: &str) -> Option<io::Result<SocketAddr>> {
    let keys = address.strip_prefix("unix:")?;
    keys.split(',').find_map(|pair| match pair.split_once('=')? {
        ("path", path) => Some(SocketAddr::from_pathname(unescaped(path))),
        ("abstract", name) => Some(SocketAddr::from_abstract_name(unescaped(name))),
        _ => None,
    })
}

/// `%20` is a space.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%')
            .then(|| tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let path =
            |address: &str| socket(address)?.ok()?.as_pathname().map(|p| p.display().to_string());
        assert_eq!(path("unix:path=/run/a,guid=7").as_deref(), Some("/run/a"));
        assert_eq!(path("unix:guid=7,path=/a%20b%2").as_deref(), Some("/a b%2"));
        assert!(socket("tcp:host=x").is_none());
        let hidden = socket("unix:abstract=x").unwrap().unwrap();
        assert_eq!(hidden.as_abstract_name(), Some(b"x".as_slice()));
    }

    #[test]
    fn nothing_there_is_an_error() {
        assert_eq!(connect("unix:path=/nowhere/x").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(connect("tcp:host=x").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
