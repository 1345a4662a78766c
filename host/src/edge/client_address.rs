//! Where a request comes from: the other end of the connection, or what a proxy of the operator's says.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use hyper::{HeaderMap, header::HeaderValue};
use serde::{Deserialize, Deserializer, de::Error};

/// The address of whoever made a request, as an extension of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// The proxies whose word is taken for where a request comes from. Anybody else's `X-Forwarded-For` is worth nothing: it would
/// let a client choose its own address.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct TrustedProxies(Vec<Network>);

/// An address, or all that begin with the same bits: `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    /// IPv4 as the last 32 bits of IPv6.
    bits: u128,
    /// How many of the first bits count.
    prefix: u32,
}

impl TrustedProxies {
    /// Whether this is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Where a request really comes from. Each proxy adds the address it was called from at the end of `X-Forwarded-For`, so
    /// that it is read from the end, as far as proxies that are trusted have written it.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddress {
        let mut client = peer.to_canonical();
        if !self.contains(client) {
            return ClientAddress(client);
        }
        let lines = headers.get_all("x-forwarded-for").into_iter();
        let lines: Vec<&str> = lines.map(HeaderValue::to_str).map(Result::unwrap_or_default).collect();
        for written in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            let Some(address) = address(written.trim()) else { break };
            client = address;
            if !self.contains(client) {
                break;
            }
        }
        ClientAddress(client)
    }
}

/// What counts as one caller: whoever has one IPv6 address has 2^64 of them.
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// Some proxies write the port as well.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(address.to_canonical())
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        let different = self.bits ^ bits(address);
        different.leading_zeros() >= self.prefix
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("{text:?} is neither an address nor a network such as \"10.0.0.0/8\"");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), str::parse).ok().filter(|prefix| *prefix <= most).ok_or_else(invalid)?;
        Ok(Self { bits: bits(address), prefix: prefix + 128 - most })
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn trusted(networks: &[&str]) -> TrustedProxies {
        TrustedProxies(networks.iter().map(|network| network.parse().unwrap()).collect())
    }

    fn client(proxies: &TrustedProxies, peer: &str, forwarded: &[&'static str]) -> String {
        let headers = forwarded.iter().map(|line| ("x-forwarded-for".parse().unwrap(), HeaderValue::from_static(line)));
        proxies.client(peer.parse().unwrap(), &headers.collect()).0.to_string()
    }

    #[test]
    fn without_a_trusted_proxy_nobody_is_believed() {
        assert_eq!(client(&trusted(&[]), "192.0.2.1", &["10.0.0.1"]), "192.0.2.1");
        assert_eq!(client(&trusted(&["192.0.2.2"]), "192.0.2.1", &["10.0.0.1"]), "192.0.2.1");
    }

    #[test]
    fn what_trusted_proxies_wrote_is_believed_and_no_more() {
        let proxies = trusted(&["10.0.0.0/8", "2001:db8::/32"]);

        assert_eq!(client(&proxies, "10.1.2.3", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client(&proxies, "::ffff:10.1.2.3", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client(&proxies, "10.1.2.3", &["forged, 192.0.2.9, 198.51.100.7, 10.9.9.9"]), "198.51.100.7");
        assert_eq!(client(&proxies, "10.1.2.3", &["192.0.2.9", "198.51.100.7"]), "198.51.100.7");
        assert_eq!(client(&proxies, "2001:db8::1", &["[2001:db9::5]:443"]), "2001:db9::5");
        assert_eq!(client(&proxies, "2001:db8::1", &["198.51.100.7:1234"]), "198.51.100.7");
    }

    #[test]
    fn what_cannot_be_read_ends_the_search() {
        let proxies = trusted(&["10.0.0.1"]);

        for forwarded in [&[][..], &[""], &["unknown"], &["198.51.100.7, _hidden"], &["198.51.100.7,"]] {
            assert_eq!(client(&proxies, "10.0.0.1", forwarded), "10.0.0.1", "{forwarded:?}");
        }
    }

    #[test]
    fn networks_are_written_with_or_without_a_prefix() {
        let matches = |network: &str, address: &str| trusted(&[network]).contains(address.parse().unwrap());

        assert!(matches("192.0.2.1", "192.0.2.1") && !matches("192.0.2.1", "192.0.2.2"));
        assert!(matches("192.0.2.128/25", "192.0.2.200") && !matches("192.0.2.128/25", "192.0.2.100"));
        assert!(matches("0.0.0.0/0", "8.8.8.8") && !matches("0.0.0.0/0", "2001:db8::1"));
        assert!(matches("::1", "::1") && matches("fd00::/8", "fd12::1") && !matches("fd00::/8", "fe80::1"));
        for wrong in ["", "localhost", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8/8"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn neighbours_in_an_ipv6_network_are_one_caller() {
        let of = |address: &str| neighbourhood(address.parse().unwrap());

        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
