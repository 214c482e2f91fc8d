//! Which IP addresses belong to the public internet.
//!
//! After the special-purpose registries of IANA (RFC 6890 and its successors): everything that is not globally
//! reachable is refused, and so are forms that carry another address in themselves, unless that address is public, too.
//! IPv6 is judged by what is allowed, since only 2000::/3 has been given out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not of the public internet; `None` if it is.
pub fn why_private(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => why_private_v4(address),
        IpAddr::V6(address) => why_private_v6(address),
    }
}

fn why_private_v4(address: Ipv4Addr) -> Option<&'static str> {
    Some(match address.octets() {
        // The metadata service of Azure has a public address that only virtual machines there can reach.
        [168, 63, 129, 16] => "a metadata address",
        [127, ..] => "a loopback address",
        [169, 254, ..] => "a link-local address, where clouds keep their metadata",
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] => "a private address",
        [100, 64..=127, ..] => "an address behind a carrier's NAT",
        [0, ..] => "an address of this network",
        [224..=239, ..] => "a multicast address",
        [192, 0, 0, _] | [192, 88, 99, _] | [240..=255, ..] => "a reserved address",
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => "an address for documentation",
        [198, 18..=19, ..] => "an address for benchmarks",
        _ => return None,
    })
}

fn why_private_v6(address: Ipv6Addr) -> Option<&'static str> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = || {
        let ([w, x], [y, z]) = (g.to_be_bytes(), h.to_be_bytes());
        why_private_v4(Ipv4Addr::new(w, x, y, z))
    };
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => embedded(),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_unspecified() => Some("an address of this network"),
        (0xfe80..=0xfebf, ..) => Some("a link-local address"),
        (0xfc00..=0xfdff, ..) | (0xfec0..=0xfeff, ..) => Some("a private address"),
        (0xff00..=0xffff, ..) => Some("a multicast address"),
        // Teredo, ORCHID, benchmarks and other protocols' own; 6to4 carries an IPv4 address.
        (0x2001, 0..=0x01ff, ..) | (0x2002, ..) => Some("a reserved address"),
        (0x2001, 0x0db8, ..) | (0x3fff, 0..=0x0fff, ..) => Some("an address for documentation"),
        (0x2000..=0x3fff, ..) => None,
        _ => Some("a reserved address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_addresses() {
        let private = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.7",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "fe80::a9fe:a9fe",
            "fec0::1",
            "ff02::1",
        ];
        for text in private {
            assert!(why_private(text.parse().unwrap()).is_some(), "{text} is not public");
        }
        let public = [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2600:1f18::1",
            "2a00:1450::1",
        ];
        for text in public {
            assert_eq!(why_private(text.parse().unwrap()), None, "{text} is public");
        }
    }
}
