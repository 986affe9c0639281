//! What a desk has room for.

use messaging_core::Subject;

use super::*;

#[test]
fn what_is_not_settled_at_the_server_takes_room() {
    let desk = Desk::new(1, 4, None, false);
    let message = Arc::new(Message::new(Subject::from_static("tasks.x"), "body"));
    let cx = Context::from_waker(Waker::noop());
    let mut sent = Vec::new();
    // Settlements go nowhere, and what there is room for is read.
    for id in 0..100 {
        if desk.wanted() == 0 {
            break;
        }
        let id = EntryId::from_bits(id);
        let (number, attempt, message) = (0, 1, Arc::clone(&message));
        assert!(desk.fetched(vec![Fetched { lane: 0, number, id, attempt, message }]).is_empty());
        let Poll::Ready(Some(Ok(Event::Messages(got)))) = desk.poll(&cx) else { panic!() };
        sent.push(desk.settle(Settle::new(got[0].token, Settlement::Ack)).unwrap().of.unwrap());
    }
    assert_eq!(sent.len(), 8);
    desk.settled(sent);
    assert_eq!(desk.wanted(), 4);
}
