//! Hashes of a value's text, as lower-case hexadecimal digits.

use std::fmt::Write as _;

use super::Function;
use super::Since::Always;
use crate::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::pure("md2", (1, 1), Always, |args| hash(args, |text| hex(&<md2::Md2 as md2::Digest>::digest(text)))),
    Function::pure("md5", (1, 1), Always, |args| hash(args, |text| hex(&<md5::Md5 as md5::Digest>::digest(text)))),
    Function::pure("sha1", (1, 1), Always, |args| hash(args, |text| hex(&<sha1::Sha1 as sha1::Digest>::digest(text)))),
    Function::pure("sha224", (1, 1), Always, |args| hash(args, sha2_hex::<sha2::Sha224>)),
    Function::pure("sha256", (1, 1), Always, |args| hash(args, sha2_hex::<sha2::Sha256>)),
    Function::pure("sha384", (1, 1), Always, |args| hash(args, sha2_hex::<sha2::Sha384>)),
    Function::pure("sha512", (1, 1), Always, |args| hash(args, sha2_hex::<sha2::Sha512>)),
];

fn hash(args: &[Value], digest: fn(&[u8]) -> String) -> Value {
    let [value] = args else { return Value::Undefined };
    value.to_text().map(|text| digest(text.as_bytes())).into()
}

fn sha2_hex<D: sha2::Digest>(text: &[u8]) -> String {
    hex(&D::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
