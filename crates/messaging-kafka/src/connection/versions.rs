//! Which versions of which requests both sides know.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::messages::ApiVersionsResponse;

use super::Request;

/// The versions that a broker knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Versions(HashMap<i16, (i16, i16)>);

impl Versions {
    pub(super) fn of(answer: &ApiVersionsResponse) -> Self {
        let ranges = answer.api_keys.iter().map(|api| {
            // The lowest and the highest version.
            (api.api_key, (api.min_version, api.max_version))
        });
        Self(ranges.collect())
    }

    /// The highest version that both sides know.
    pub(super) fn pick<R: Request>(&self) -> Option<i16> {
        let (least, most) = self.0.get(&R::KEY)?;
        let most = R::HIGHEST.min(*most);
        (most >= R::VERSIONS.min.max(*least)).then_some(most)
    }
}

/// Whether an answer about versions is of the size its count says, so that nothing is allocated for
/// what did not come. `answer` is behind the header.
pub(super) fn is_sound(answer: &Bytes, version: i16) -> bool {
    // The error code, then the count: four bytes, or a varint of the count and one. An entry has at
    // least six bytes.
    let Some((_, rest)) = answer.split_at_checked(2) else { return false };
    if version < 3 {
        let count = rest.first_chunk().map(|count| u32::from_be_bytes(*count) as usize);
        return count.is_some_and(|count| count <= rest.len() / 6);
    }
    let mut count = 0_usize;
    for (at, byte) in rest.iter().take(3).enumerate() {
        count |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return count > 0 && count - 1 <= rest.len() / 7;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_the_bytes_do_not_hold_is_not_believed() {
        let sound = |bytes: &'static [u8], version| is_sound(&Bytes::from_static(bytes), version);
        assert!(sound(&[0, 0, 0, 0, 0, 1, 0, 18, 0, 0, 0, 3], 0));
        assert!(!sound(&[0, 0, 0, 0, 0, 9, 0, 18, 0, 0, 0, 3], 0));
        assert!(sound(&[0, 0, 2, 0, 18, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0], 3));
        assert!(!sound(&[0, 0, 0xff, 0xff, 0xff, 0xff, 0xf], 3));
        assert!(!sound(&[0, 0, 0], 3));
        assert!(!sound(&[0], 0));
    }
}
