//! What an application asks for when it opens a publisher or a subscription.

mod send;
mod subscribe;

pub use self::send::{Codec, SendSpec};
pub use self::subscribe::{Membership, Mode, Source, SubscribeSpec};
