//! HMAC-SHA256 (RFC 2104), so that a receiver knows who sent a request and that nobody changed it.
//!
//! The header `Hedgerow-Signature` is `t=SECONDS,v1=HEX`: the time of the attempt in seconds since 1970, and the HMAC of the
//! text `SECONDS.ID.BODY`, where ID is the value of the header `Idempotency-Key`. A receiver computes the same and
//! compares; it refuses times that are long past, and so recorded requests.

use sha2::{Digest, Sha256};

const BLOCK: usize = 64;

/// The HMAC-SHA256 of the concatenation of `parts`.
pub(super) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let short = if key.len() > BLOCK { Sha256::digest(key).to_vec() } else { key.to_vec() };
    let padded = |pad: u8| {
        let mut block = [pad; BLOCK];
        for (byte, key) in block.iter_mut().zip(&short) {
            *byte ^= key;
        }
        block
    };
    let mut inner = Sha256::new();
    inner.update(padded(0x36));
    for part in parts {
        inner.update(part);
    }
    let mut outer = Sha256::new();
    outer.update(padded(0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

/// The value of the header.
pub(super) fn signature(key: &[u8], seconds: u64, id: &str, body: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = format!("t={seconds},v1=");
    for byte in hmac_sha256(key, &[seconds.to_string().as_bytes(), b".", id.as_bytes(), b".", body]) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Test cases 1, 2 and 6 of RFC 4231.
    #[test]
    fn it_agrees_with_the_standard() {
        let cases: [(&[u8], &[u8], &str); 3] = [
            (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (key, data, expected) in cases {
            assert_eq!(hex(&hmac_sha256(key, &[data])), expected);
            let (left, right) = data.split_at(5);
            assert_eq!(hex(&hmac_sha256(key, &[left, right])), expected);
        }
    }

    #[test]
    fn the_header_covers_time_id_and_body() {
        let signed = signature(b"k", 17, "1-2-r-0", b"{}");
        assert!(signed.starts_with("t=17,v1=") && signed.len() == 8 + 64, "{signed}");
        for other in [
            signature(b"k", 18, "1-2-r-0", b"{}"),
            signature(b"k", 17, "1-2-r-1", b"{}"),
            signature(b"k", 17, "1-2-r-0", b"{ }"),
            signature(b"l", 17, "1-2-r-0", b"{}"),
        ] {
            assert_ne!(signed.split("v1=").nth(1), other.split("v1=").nth(1));
        }
    }
}
