//! Which addresses a plugin never reaches by itself: everything that is not a public unicast address. Pure.
//!
//! IPv4 is a list of what is refused; IPv6 is refused unless it is global unicast, and then what of that is not public.
//! Addresses that carry an IPv4 address are as good as the one they carry, where an honest network uses them (mapped,
//! NAT64), and refused where none does (tunnels). A NAT64 prefix that a network chose for itself cannot be known here, nor
//! can a public address that some router turns into a private one. The machine's own addresses are `connect`'s to find
//! out, and whether the operator allows an address all the same is `connect`'s to ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range: its first address, the length of its prefix, and what it is, in words that fit behind "is".
type Range<T> = (T, u32, &'static str);

/// No plugin reaches these, first match first.
const REFUSED_V4: [Range<Ipv4Addr>; 19] = [
    (Ipv4Addr::new(0, 0, 0, 0), 32, "unspecified, which is this machine"),
    (Ipv4Addr::new(0, 0, 0, 0), 8, "of this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared by a carrier's customers"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    // Where most clouds tell a machine its credentials; the next is the same at another one.
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(168, 63, 129, 16), 32, "a cloud's metadata service"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "reserved for protocols"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "for documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a relay of 6to4"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "for benchmarks"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "for documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "for documentation"),
    (Ipv4Addr::new(233, 252, 0, 0), 24, "for documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(255, 255, 255, 255), 32, "broadcast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// The same for IPv6, within and without [`GLOBAL_V6`].
const REFUSED_V6: [Range<Ipv6Addr>; 13] = [
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified, which is this machine"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::UNSPECIFIED, 96, "an IPv4 address in a form that is out of use"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "an IPv4 address behind a local translator"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "unique-local"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "site-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, "a Teredo tunnel"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "reserved for protocols"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "for documentation"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "a 6to4 tunnel"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "for documentation"),
];

/// Global unicast: what is not in it is given to nobody.
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// IPv4 addresses as IPv6 sockets see them.
const MAPPED: (Ipv6Addr, u32) = (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
/// How networks without IPv4 reach it; the well-known prefix.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
/// The lower half of an address of ISATAP: this, in some prefix, and an IPv4 address; its second-highest bit says
/// whether that address is globally unique.
const ISATAP: u32 = 0x0000_5efe;
const ISATAP_UNIQUE_BIT: u32 = 0x0200_0000;

/// What an address is, if no plugin may reach it, in words that fit behind "is"; none: it is public.
pub(super) fn refused(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => refused_v4(address),
        IpAddr::V6(address) => refused_v6(address),
    }
}

fn refused_v4(address: Ipv4Addr) -> Option<&'static str> {
    let within = |(base, bits, _): &&Range<Ipv4Addr>| {
        (address.to_bits() ^ base.to_bits()).checked_shr(32 - bits).is_none_or(|differing| differing == 0)
    };
    REFUSED_V4.iter().find(within).map(|(_, _, what)| *what)
}

fn refused_v6(address: Ipv6Addr) -> Option<&'static str> {
    if within_v6(address, MAPPED) || within_v6(address, NAT64) {
        return refused_v4(lowest_v4(address));
    }
    if let Some((_, _, what)) = REFUSED_V6.iter().find(|(base, bits, _)| within_v6(address, (*base, *bits))) {
        return Some(what);
    }
    if !within_v6(address, GLOBAL_V6) {
        return Some("not public");
    }
    let upper_of_interface = (u32::from(address.segments()[4]) << 16) | u32::from(address.segments()[5]);
    let isatap = upper_of_interface & !ISATAP_UNIQUE_BIT == ISATAP;
    isatap.then_some("an ISATAP tunnel")
}

fn within_v6(address: Ipv6Addr, (base, bits): (Ipv6Addr, u32)) -> bool {
    (address.to_bits() ^ base.to_bits()).checked_shr(128 - bits).is_none_or(|differing| differing == 0)
}

/// The IPv4 address in the last four bytes.
fn lowest_v4(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(addresses: &[&str], expected: Option<&str>) {
        for text in addresses {
            let address = text.parse().expect("is an address");
            assert_eq!(refused(address), expected, "{text}");
        }
    }

    #[test]
    fn public_addresses_are_public() {
        check(&["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0"], None);
        check(&["126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255"], None);
        check(&["172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0", "198.17.255.255"], None);
        check(&["198.20.0.0", "223.255.255.255", "168.63.129.15", "168.63.129.17"], None);
        check(&["2606:4700::1111", "2a00:1450:4001::200e", "2001:200::1", "2001:4860:4860::8888", "2003::1"], None);
        check(&["::ffff:8.8.8.8", "64:ff9b::8.8.8.8"], None);
    }

    #[test]
    fn every_range_that_is_not_public_is_refused() {
        check(&["0.0.0.0", "::"], Some("unspecified, which is this machine"));
        check(&["0.0.0.1", "0.255.255.255"], Some("of this network"));
        check(&["10.0.0.0", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1"], Some("private"));
        check(&["100.64.0.0", "100.100.100.200", "100.127.255.255"], Some("shared by a carrier's customers"));
        check(&["127.0.0.1", "127.255.255.254", "::1"], Some("loopback"));
        check(&["169.254.169.254", "169.254.170.2", "fe80::1", "febf::1"], Some("link-local"));
        check(&["168.63.129.16"], Some("a cloud's metadata service"));
        check(&["192.0.0.1", "192.0.0.192", "2001:2::1", "2001:20::1", "2001:1ff::1"], Some("reserved for protocols"));
        check(&["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"], Some("for documentation"));
        check(&["192.88.99.1"], Some("a relay of 6to4"));
        check(&["198.18.0.1", "198.19.255.255"], Some("for benchmarks"));
        check(&["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"], Some("multicast"));
        check(&["240.0.0.1", "255.255.255.254"], Some("reserved"));
        // A part of what is reserved: no list may lose it.
        assert!(refused(IpAddr::V4(Ipv4Addr::BROADCAST)).is_some());
        check(&["fc00::1", "fd00:ec2::254", "fd20:ce::254"], Some("unique-local"));
        check(&["fec0::1", "feff::1"], Some("site-local"));
        check(&["100::1", "5f00::1", "4000::1", "::ffff:0:127.0.0.1", "::fffe:1.2.3.4"], Some("not public"));
    }

    #[test]
    fn an_address_that_carries_another_is_as_private_as_that() {
        check(&["::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::7f00:1"], Some("loopback"));
        check(&["::ffff:10.0.0.1", "::ffff:192.168.1.1", "64:ff9b::10.0.0.1"], Some("private"));
        check(&["::ffff:169.254.169.254", "64:ff9b::169.254.169.254"], Some("link-local"));
        check(&["::ffff:0.0.0.0"], Some("unspecified, which is this machine"));
        check(&["::127.0.0.1", "::8.8.8.8", "::2"], Some("an IPv4 address in a form that is out of use"));
        check(&["64:ff9b:1::7f00:1"], Some("an IPv4 address behind a local translator"));
        check(&["2002:7f00:1::", "2002:a00:1::1", "2002:808:808::1"], Some("a 6to4 tunnel"));
        check(&["2001::7f00:1", "2001:0:4136:e378:8000:63bf:80ff:fffe"], Some("a Teredo tunnel"));
        check(&["2a00:1450::5efe:7f00:1", "2a00:1450::200:5efe:10.0.0.1"], Some("an ISATAP tunnel"));
    }
}
