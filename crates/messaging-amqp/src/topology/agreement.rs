//! What the members of a group agree on, as the server keeps it.
//!
//! The marker queue has it as an argument: declaring the queue with another value is refused by the
//! server, which names the current one. So agreeing is one step and needs no management API.

use messaging_core::Patterns;

/// What members must agree on, as it is shown.
pub(crate) fn shape_of(patterns: &Patterns, ordered: bool, priority: bool) -> String {
    let ordered = if ordered { ", ordered" } else { "" };
    let priority = if priority { ", by priority" } else { "" };
    format!("{patterns}{ordered}{priority}")
}

/// What members must agree on, as it is kept: the version of the form, and a hash.
pub(crate) fn value_of(shape: &str) -> String {
    format!("h1:{:016x}", fnv1a(shape.as_bytes()))
}

/// FNV-1a with 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The value that the server has, from the text with which it refuses another one: `inequivalent arg
/// '…' for queue '…' in vhost '…': received the value '…' of type '…' but current is the value '…' of
/// type '…'`.
pub(crate) fn current_value(refusal: &str) -> Option<&str> {
    let (_, current) = refusal.split_once("but current is")?;
    let mut quoted = current.split('\'');
    quoted.next()?;
    quoted.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv1a() {
        // The vectors of the draft.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn the_order_of_patterns_and_duplicates_do_not_matter_and_everything_else_does() {
        let of = |patterns: &[&str], ordered, priority| {
            value_of(&shape_of(&Patterns::new(patterns).unwrap(), ordered, priority))
        };
        let known = of(&["tasks.*", "completions.#"], false, false);
        assert_eq!(known, of(&["completions.#", "tasks.*", "tasks.*"], false, false));
        assert_ne!(known, of(&["tasks.*"], false, false));
        assert_ne!(known, of(&["tasks.*", "completions.#"], true, false));
        assert_ne!(known, of(&["tasks.*", "completions.#"], false, true));
        assert!(known.len() == 19 && known.starts_with("h1:"), "{known}");
    }

    #[test]
    fn the_servers_refusal_names_what_it_has() {
        let refusal = "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-routing-key' for queue \
                       'helixagent.group.g' in vhost '/': received the value 'h1:aa' of type \
                       'longstr' but current is the value 'h1:bb' of type 'longstr'";
        assert_eq!(current_value(refusal), Some("h1:bb"));
        let older = "received 'h1:aa' but current is 'h1:bb'";
        assert_eq!(current_value(older), Some("h1:bb"));
        assert_eq!(current_value("received none but current is none"), None);
        assert_eq!(current_value("PRECONDITION_FAILED - something else"), None);
    }
}
