//! What looks random: it follows from the message's place in the log and the number of the call, so that a replay of
//! the log gives the same rows.

use sha2::{Digest, Sha256};

use super::Since::Always;
use super::{Function, Purity};
use crate::decimal::Decimal;
use crate::eval::Scope;
use crate::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::scoped("newuuid", (0, 0), Always, Purity::PerCall, |_, scope| {
        uuid(&seed("newuuid", scope, scope.next_serial()))
    }),
    Function::scoped("rand", (0, 0), Always, Purity::PerCall, |_, scope| rand(scope)),
    Function::scoped("traceid", (0, 0), Always, Purity::Message, |_, scope| traceid(scope)),
];

/// 32 bytes that differ for every function, message and call.
fn seed(function: &str, scope: &Scope<'_>, call: u64) -> [u8; 32] {
    let message = scope.message();
    let mut hasher = Sha256::new();
    hasher.update(function.as_bytes());
    hasher.update(message.epoch.to_be_bytes());
    hasher.update(message.offset.to_be_bytes());
    hasher.update(call.to_be_bytes());
    hasher.finalize().into()
}

/// RFC 9562, version 4 form.
fn uuid(seed: &[u8; 32]) -> Value {
    let bits = seed.iter().take(16).fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte));
    let bits = (bits & !(0xf << 76) & !(0b11 << 62)) | (0x4 << 76) | (0b10 << 62);
    let text = format!("{bits:032x}");
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    Value::text(format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)))
}

/// One of 2^53 evenly spaced numbers from 0 up to, not including, 1.
fn rand(scope: &Scope<'_>) -> Value {
    let seed = seed("rand", scope, scope.next_serial());
    let bits = seed.iter().take(8).fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
    Value::decimal(Decimal::from_f64((bits >> 11) as f64 / (1_u64 << 53) as f64))
}

/// The same for every call on a message; Undefined off MQTT.
fn traceid(scope: &Scope<'_>) -> Value {
    match scope.message().client_id {
        Some(_) => uuid(&seed("traceid", scope, 0)),
        None => Value::Undefined,
    }
}
