//! The ways in which a secret can be written.

/// A secret as it is, percent-encoded, and as it looks inside base64 text.
pub(super) fn spellings(secret: &str) -> Vec<String> {
    if secret.is_empty() {
        return Vec::new();
    }
    let mut all = vec![
        secret.to_owned(),
        percent(secret, |byte| format!("%{byte:02X}")),
        percent(secret, |byte| format!("%{byte:02x}")),
    ];
    for alphabet in [STANDARD, URL_SAFE] {
        all.extend((0..3).map(|shift| inside_base64(secret, shift, alphabet)));
    }
    // What is short would be found by accident.
    all.retain(|spelling| spelling.len() >= 4);
    all.sort();
    all.dedup();
    all
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn percent(secret: &str, encode: impl Fn(u8) -> String) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let text = |byte: u8| if keep(byte) { char::from(byte).to_string() } else { encode(byte) };
    secret.bytes().map(text).collect()
}

/// The characters of the base64 of anything that holds the secret after `shift` bytes of a triple:
/// those that no neighbour has a part in.
fn inside_base64(secret: &str, shift: usize, alphabet: &[u8; 64]) -> String {
    let bytes: Vec<u8> = std::iter::repeat_n(0, shift).chain(secret.bytes()).collect();
    let sextets = |index: usize| {
        let bit = |at: usize| {
            let byte = bytes.get(at / 8).copied().unwrap_or_default();
            byte >> (7 - at % 8) & 1
        };
        (0..6).fold(0, |value, offset| value << 1 | bit(index * 6 + offset))
    };
    let first = (shift * 8).div_ceil(6);
    let last = bytes.len() * 8 / 6;
    let letter = |index| alphabet.get(usize::from(sextets(index))).map(|byte| char::from(*byte));
    (first..last).filter_map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_in_every_spelling() {
        let all = spellings("pa/ss wörd");
        // What `base64` says of `redis:pa/ss wörd`, `x:pa/ss wörd` and `xy:pa/ss wörd`.
        for text in [
            "redis://:pa/ss wörd@127.0.0.1",
            "redis://:pa%2Fss%20w%C3%B6rd@127.0.0.1",
            "redis://:pa%2fss%20w%c3%b6rd@127.0.0.1",
            "cmVkaXM6cGEvc3Mgd8O2cmQ=",
            "eDpwYS9zcyB3w7ZyZA==",
            "eHk6cGEvc3Mgd8O2cmQ=",
        ] {
            assert!(all.iter().any(|spelling| text.contains(spelling.as_str())), "{text}");
        }
        assert!(!all.iter().any(|spelling| "redis://:***@127.0.0.1".contains(spelling.as_str())));
        assert!(spellings("").is_empty());
    }
}
