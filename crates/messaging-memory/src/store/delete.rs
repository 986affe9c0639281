//! Taking streams and groups away, and what they keep with them.

use messaging_core::driver::Target;
use messaging_core::{Error, ErrorKind, GroupName, Result, StreamName};

use super::State;
use super::slots::Key;
use super::stream::Arrival;
use crate::driver::NAME;
use crate::error::unknown_stream;

impl State {
    /// Takes one thing away, which must exist and must not be a group with members.
    pub(crate) fn delete(&mut self, target: &Target) -> Result<()> {
        match target {
            Target::Group(name) => self.delete_group(name),
            Target::Stream(name) => self.delete_stream(name),
            other => Err(missing(other)),
        }
    }

    fn delete_group(&mut self, name: &GroupName) -> Result<()> {
        let identity = (name.as_str().to_owned(), None);
        let key = self.named.get(&identity).copied();
        let key = key.ok_or_else(|| missing(&Target::Group(name.clone())))?;
        self.check_unused(key)?;
        self.named.remove(&identity);
        self.remove_group(key);
        Ok(())
    }

    /// The stream's place stays, so that publishers find it again if it is created again.
    fn delete_stream(&mut self, name: &StreamName) -> Result<()> {
        let number = self.stream(name).ok_or_else(|| missing(&Target::Stream(name.clone())))?;
        let dead_letters = name.to_dead_letters();
        let of_its_dead_letters: Vec<_> = self
            .named
            .keys()
            .filter(|(_, stream)| stream.as_ref() == Some(&dead_letters))
            .cloned()
            .collect();
        for key in of_its_dead_letters.iter().filter_map(|identity| self.named.get(identity)) {
            self.check_unused(*key)?;
        }
        for identity in of_its_dead_letters {
            if let Some(key) = self.named.remove(&identity) {
                self.remove_group(key);
            }
        }
        self.empty(number);
        if let Some(number) = self.stream(&dead_letters) {
            self.empty(number);
        }
        self.forget_routes();
        Ok(())
    }

    fn check_unused(&self, key: Key) -> Result<()> {
        let Some(group) = self.groups.get(key) else { return Ok(()) };
        let members = group.members.iter().count();
        if members == 0 {
            return Ok(());
        }
        let name = group.name.as_deref().unwrap_or_default();
        let text = format!("group {name} has members: {members}; stop them first");
        Err(Error::new(ErrorKind::Unavailable, text).at(NAME, "delete"))
    }

    /// What is in somebody's hands can still be settled; it touches nothing then.
    fn empty(&mut self, number: u32) {
        let Some(stream) = self.streams.get_mut(number as usize) else { return };
        stream.gone = true;
        for entry in stream.clear() {
            self.garbage.extend(Some(entry));
        }
        for arrival in std::mem::take(&mut stream.arrivals) {
            if let Arrival::Published { outgoing, .. } = arrival {
                outgoing.resolve(Err(unknown_stream(&stream.name, "publish")));
            }
        }
        self.wakers.extend(self.flushing.drain(..));
        for (_, group) in self.groups.iter_mut() {
            group.retain_waiting(|place| place.stream != number);
        }
    }
}

fn missing(target: &Target) -> Error {
    Error::new(ErrorKind::NotFound, format!("{target} does not exist")).at(NAME, "delete")
}

#[cfg(test)]
mod tests {
    use messaging_core::{Broker, Bytes, ErrorKind, Message, Subject, SubscribeSpec};

    use crate::Memory;

    async fn publish(broker: &Broker) -> messaging_core::Result<()> {
        let message = Message::new(Subject::from_static("tasks.x"), "x");
        broker.publish_message(message).await.map(drop)
    }

    #[tokio::test]
    async fn a_deleted_stream_refuses_messages_until_it_is_provisioned_again() {
        let broker = Broker::builder(Memory::new()).open().await.unwrap();
        let spec = || SubscribeSpec::group("g", ["tasks.#"]).unwrap();
        let mut consumer = broker.subscribe::<Bytes>(spec()).await.unwrap();
        publish(&broker).await.unwrap();
        let held = consumer.next().await.unwrap().unwrap();
        publish(&broker).await.unwrap();
        let admin = broker.admin().unwrap();
        admin.delete(&"stream tasks".parse().unwrap()).await.unwrap();
        assert!(broker.lag(Some(&"g".parse().unwrap())).await.unwrap().is_empty());
        let error = publish(&broker).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::UnknownStream);
        held.reject("it touches nothing any more");

        broker.provision(messaging_core::Topology::default()).await.unwrap();
        publish(&broker).await.unwrap();
        consumer.next().await.unwrap().unwrap().ack_confirmed().await.unwrap();
        let lag = broker.lag(Some(&"g".parse().unwrap())).await.unwrap();
        assert_eq!((lag[0].waiting, lag[0].in_hand), (0, 0));
    }
}
