//! What cases may do to the broker behind their stage.

use std::sync::Arc;

use futures::future::BoxFuture;
use messaging::{BrokerBuilder, Result};

/// What a case needs of a broker beside a place on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerNeed {
    /// Nothing: the case runs on every backend, whether it has a server or not.
    Nothing,
    /// A server, which other cases use at the same time.
    Shared,
    /// A server of its own, which it ends or stops.
    Own,
}

/// A way to connect, taken once.
pub type Connecting = BoxFuture<'static, Result<BrokerBuilder>>;

/// A client that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// The broker's own command-line tool.
    Tool,
    /// A Python program with that library.
    Python(&'static str),
}

/// The broker behind a stage, whatever it is. Calls return when what they say is the case, and
/// block until then.
pub trait Server: Send + Sync {
    /// Ends it without warning.
    ///
    /// # Errors
    /// As every call here: what went wrong, for whoever reads the report.
    fn kill(&self) -> Result<(), String>;

    /// Ends it gracefully.
    ///
    /// # Errors
    /// As [`Server::kill`].
    fn stop(&self) -> Result<(), String>;

    /// Starts it again with its data.
    ///
    /// # Errors
    /// As [`Server::kill`].
    fn start(&self) -> Result<(), String>;

    /// Makes it hang: its connections stay open and nothing answers.
    ///
    /// # Errors
    /// As [`Server::kill`].
    fn pause(&self) -> Result<(), String>;

    /// Lets it go on.
    ///
    /// # Errors
    /// As [`Server::kill`].
    fn resume(&self) -> Result<(), String>;

    /// Whether this machine has that client: if not, why.
    ///
    /// # Errors
    /// Why not.
    fn has(&self, client: Foreign) -> Result<(), String>;

    /// Ends every connection of a client, the server goes on; where there is no way to do that,
    /// by ending the server too.
    ///
    /// # Errors
    /// As [`Server::kill`].
    fn cut(&self) -> Result<(), String> {
        self.kill()?;
        self.start()
    }

    /// Writes a body alone, as a client does that knows nothing of ours, to where messages to a
    /// subject go; the stream alone where that is all the client can say.
    ///
    /// # Errors
    /// As [`Server::kill`].
    fn write(&self, client: Foreign, subject: &str, body: &str) -> Result<(), String>;

    /// What a client gets to hear on a subject while `publish` publishes so many messages to it;
    /// on a broker that keeps them, what it reads of the stream afterwards.
    ///
    /// # Errors
    /// As [`Server::kill`].
    fn overhear(
        &self,
        client: Foreign,
        subject: &str,
        count: usize,
        publish: &dyn Fn(),
    ) -> Result<Vec<String>, String> {
        let (stream, _) = subject.split_once('.').unwrap_or((subject, ""));
        self.prepare_reading(stream)?;
        publish();
        let mut all = self.read(client, stream)?;
        all.truncate(count);
        Ok(all)
    }

    /// The usual libraries of Python programs for this broker.
    fn libraries(&self) -> &'static [&'static str];

    /// Makes a place from which a foreign client can read what comes to a stream from here on,
    /// where the broker keeps nothing for those who come later.
    ///
    /// # Errors
    /// As [`Server::kill`].
    fn prepare_reading(&self, _stream: &str) -> Result<(), String> {
        Ok(())
    }

    /// Reads all bodies of a stream, on some brokers those since [`Server::prepare_reading`].
    ///
    /// # Errors
    /// As [`Server::kill`].
    fn read(&self, client: Foreign, stream: &str) -> Result<Vec<String>, String>;

    /// Deletes a group behind the backs of its members.
    ///
    /// # Errors
    /// As [`Server::kill`].
    fn forget_group(&self, stream: &str, group: &str) -> Result<(), String>;

    /// Whether the broker refuses to delete a group that has members.
    fn keeps_groups_in_use(&self) -> bool {
        false
    }

    /// Deletes a stream with everything in it and all its groups; where nobody but its owner may
    /// make one, there is an empty one then.
    ///
    /// # Errors
    /// As [`Server::kill`].
    fn forget_stream(&self, stream: &str) -> Result<(), String>;

    /// Whether its clients repeat what they have in hand without reading it again.
    fn keeps_what_is_in_hand(&self) -> bool {
        false
    }

    /// Deletes every message of a stream; the groups stay.
    ///
    /// # Errors
    /// As [`Server::kill`].
    fn trim(&self, stream: &str) -> Result<(), String>;

    /// The password.
    fn password(&self) -> String;

    /// Connects with another password.
    fn with_password(&self, password: &str) -> Connecting;

    /// Connects to where no broker is, and the address of that.
    fn to_nobody(&self) -> (Connecting, String);

    /// Connects so that members count as dead after two seconds.
    fn impatiently(&self) -> Connecting;

    /// The variables by which a process of its own finds this place.
    fn variables(&self) -> Vec<(String, String)>;
}

/// The server, as cases drive it.
#[derive(Clone)]
pub(super) struct Control(pub(super) Arc<dyn Server>);

impl Control {
    /// Does something that blocks, beside everything else of the case.
    #[expect(clippy::panic, reason = "a case fails by panicking")]
    pub(super) async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Server) -> Result<T, String> + Send + 'static,
    ) -> T {
        let server = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || call(&*server)).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => panic!("the server could not be driven: {error}"),
            Err(error) => panic!("driving the server failed: {error}"),
        }
    }
}
