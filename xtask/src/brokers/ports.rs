//! Ports that nobody listens on.

use std::net::{Ipv4Addr, TcpListener};

use super::plan::random_hex;

/// Gives out ports of this machine, each once.
#[derive(Debug, Default)]
pub(super) struct Ports {
    given: Vec<u16>,
}

impl Ports {
    /// The usual port if it is free, else another.
    pub(super) fn usual(&mut self, usual: Option<u16>) -> Result<u16, String> {
        match usual {
            Some(port) if !self.given.contains(&port) && is_free(port) => {
                self.given.push(port);
                Ok(port)
            }
            _ => self.free(),
        }
    }

    /// A free port below those that the system gives to outgoing connections, so that none of them
    /// takes it while its server is being restarted.
    pub(super) fn free(&mut self) -> Result<u16, String> {
        for _ in 0..1000 {
            let random = u16::from_str_radix(&random_hex(2)?, 16).map_err(|e| e.to_string())?;
            let port = 20_000 + random % 12_000;
            if !self.given.contains(&port) && is_free(port) {
                self.given.push(port);
                return Ok(port);
            }
        }
        Err("no free port between 20000 and 32000".to_owned())
    }
}

/// Whether somebody could listen there, on the loopback address and on all.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_port_that_is_taken_is_replaced() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let usual = taken.local_addr().unwrap().port();
        let mut ports = Ports::default();
        let port = ports.usual(Some(usual)).unwrap();
        assert_ne!(port, usual);
        assert!((20_000..32_000).contains(&port));
    }

    #[test]
    fn no_port_is_given_twice() {
        let mut ports = Ports::default();
        let first = ports.free().unwrap();
        assert_ne!(ports.usual(Some(first)).unwrap(), first);
    }
}
