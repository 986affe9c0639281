//! V3: what is delivered was published before, with the same body.

use super::super::Promise;
use super::super::index::Index;
use super::super::report::Findings;

pub(super) fn check(index: &Index, _: &Promise, findings: &mut Findings<'_>) {
    for (name, subscription) in &index.subscriptions {
        for (id, story) in &subscription.stories {
            let message = index.messages.get(id);
            for (at, digest) in &story.deliveries {
                match message.filter(|message| message.invoked <= *at) {
                    None => {
                        let text = || format!("{name} got {id}, which nobody had published");
                        findings.add("V3", Some(*id), text);
                    }
                    Some(message) if message.digest != *digest => {
                        findings
                            .add("V3", Some(*id), || format!("{name} got {id} with another body"));
                    }
                    Some(_) => {}
                }
            }
        }
    }
}
