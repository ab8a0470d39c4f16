//! Percent-encoding (RFC 3986, section 2.1), in values that people write by hand.

use alloc::vec::Vec;

/// The decoded bytes, and whether every `%` began an octet. One that does not is kept as it is.
pub(super) fn decoded(text: &str) -> (Vec<u8>, bool) {
    let mut bytes = Vec::with_capacity(text.len());
    let mut is_clean = true;
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let octet = match (byte, after) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        if let Some(octet) = octet {
            bytes.push(octet);
            rest = &rest[2..];
        } else {
            is_clean &= *byte != b'%';
            bytes.push(*byte);
        }
    }
    (bytes, is_clean)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn octets_are_decoded_and_the_rest_is_kept() {
        for (text, bytes, is_clean) in [
            ("", &b""[..], true),
            ("a b+c", b"a b+c", true),
            ("%41%62%2C", b"Ab,", true),
            ("%c3%A9", "é".as_bytes(), true),
            ("100%", b"100%", false),
            ("%4", b"%4", false),
            ("%zz%41", b"%zzA", false),
            ("%%41", b"%A", false),
            ("%-1", b"%-1", false),
            ("é", "é".as_bytes(), true),
        ] {
            assert_eq!(decoded(text), (bytes.to_vec(), is_clean), "{text}");
        }
    }
}
