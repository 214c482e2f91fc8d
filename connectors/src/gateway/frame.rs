//! Cutting the byte stream of a socket into packets: fixed header, remaining length, and a cursor over what follows.
//! Knows no packet's meaning.

use super::reject::Reject;

/// The two protocol versions spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// MQTT 3.1.1 (protocol level 4).
    V4,
    /// MQTT 5.
    V5,
}

impl Version {
    /// Protocol level as in CONNECT.
    pub(super) fn level(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V5 => 5,
        }
    }
}

/// One packet: its first byte, and what follows the remaining length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// Type and flags.
    pub first: u8,
    /// Variable header and payload.
    pub body: &'a [u8],
    /// The whole packet, fixed header included.
    pub bytes: &'a [u8],
}

impl Frame<'_> {
    /// Packet type, 0 to 15.
    pub(super) fn kind(&self) -> u8 {
        self.first >> 4
    }
}

/// What is at the front of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Split<'a> {
    /// A whole packet.
    Frame(Frame<'a>),
    /// Not yet: the packet has this many bytes in all, as far as can be said now.
    Incomplete(usize),
}

/// Finds the packet at the front of `bytes`; one above `max` bytes is refused as soon as its length is known.
pub(super) fn split(bytes: &[u8], max: usize) -> Result<Split<'_>, Reject> {
    let Some(&first) = bytes.first() else { return Ok(Split::Incomplete(2)) };
    let mut length = 0;
    for at in 0..4 {
        let Some(&byte) = bytes.get(at + 1) else { return Ok(Split::Incomplete(at + 2)) };
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            // The length has to be written in as few bytes as possible.
            if byte == 0 && at > 0 {
                return Err(Reject::Malformed);
            }
            let header = at + 2;
            let whole = header + length;
            if whole > max {
                return Err(Reject::PacketTooLarge);
            }
            return Ok(match (bytes.get(..whole), bytes.get(header..whole)) {
                (Some(bytes), Some(body)) => Split::Frame(Frame { first, body, bytes }),
                _ => Split::Incomplete(whole),
            });
        }
    }
    Err(Reject::Malformed)
}

/// Appends a remaining length (or any variable byte integer).
pub(super) fn put_varint(out: &mut bytes::BytesMut, mut value: usize) {
    use bytes::BufMut;
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            return out.put_u8(low);
        }
        out.put_u8(low | 0x80);
    }
}

/// Bytes a variable byte integer takes.
pub(super) fn varint_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Reads fields off the front of a packet's body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], Reject> {
        let (front, rest) = self.0.split_at_checked(n).ok_or(Reject::Malformed)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reject> {
        let (front, rest) = self.0.split_first_chunk::<N>().ok_or(Reject::Malformed)?;
        self.0 = rest;
        Ok(*front)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Reject> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Reject> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Reject> {
        self.array().map(u32::from_be_bytes)
    }

    /// A packet id, which is never 0.
    pub(super) fn packet_id(&mut self) -> Result<u16, Reject> {
        match self.u16()? {
            0 => Err(Reject::Protocol),
            id => Ok(id),
        }
    }

    pub(super) fn varint(&mut self) -> Result<usize, Reject> {
        let mut value = 0;
        for at in 0..4 {
            let byte = self.u8()?;
            value |= usize::from(byte & 0x7F) << (7 * at);
            if byte & 0x80 == 0 {
                return if byte == 0 && at > 0 { Err(Reject::Malformed) } else { Ok(value) };
            }
        }
        Err(Reject::Malformed)
    }

    pub(super) fn binary(&mut self) -> Result<&'a [u8], Reject> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A UTF-8 string without U+0000.
    pub(super) fn text(&mut self) -> Result<&'a str, Reject> {
        let text = std::str::from_utf8(self.binary()?).map_err(|_| Reject::BadText)?;
        if text.as_bytes().contains(&0) { Err(Reject::BadText) } else { Ok(text) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn end(&self) -> Result<(), Reject> {
        if self.is_empty() { Ok(()) } else { Err(Reject::Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn packets_are_cut_where_their_length_says() {
        assert_eq!(split(&[], 100), Ok(Split::Incomplete(2)));
        assert_eq!(split(&[0x30], 100), Ok(Split::Incomplete(2)));
        assert_eq!(split(&[0x30, 0x80], 100), Ok(Split::Incomplete(3)));
        assert_eq!(split(&[0x30, 3, 1], 100), Ok(Split::Incomplete(5)));
        let Ok(Split::Frame(frame)) = split(&[0x32, 2, 7, 8, 0xC0], 100) else { panic!("whole") };
        assert_eq!((frame.kind(), frame.body, frame.bytes.len()), (3, &[7, 8][..], 4));
        assert_eq!(split(&[0x30, 0x80, 0x00], 100), Err(Reject::Malformed));
        assert_eq!(split(&[0x30, 0x80, 0x80, 0x80, 0x80], 100), Err(Reject::Malformed));
        assert_eq!(split(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 100), Err(Reject::PacketTooLarge));
        assert_eq!(split(&[0x30, 99], 100), Err(Reject::PacketTooLarge));
        assert_eq!(split(&[0x30, 98], 100), Ok(Split::Incomplete(100)));
    }

    #[test]
    fn lengths_come_back_as_written() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455] {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value));
            assert_eq!(Cursor(&out).varint(), Ok(value));
        }
    }
}
