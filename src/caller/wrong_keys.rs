//! The wrong keys that addresses have shown lately; pure.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use crate::admission::bucket::Bucket;
use crate::client::address;
use crate::limits::{API_ADDRESSES_MAX, Rate};
use crate::rt::Instant;

/// A rate for each address that has shown a wrong key, of at most [`API_ADDRESSES_MAX`] addresses.
#[derive(Debug, Default)]
pub(super) struct WrongKeys {
    /// Connections without an address, those of Unix sockets, count together.
    by_address: BTreeMap<Option<IpAddr>, Bucket>,
    /// The addresses in the order in which they came; the first makes room for a new one.
    order: VecDeque<Option<IpAddr>>,
}

impl WrongKeys {
    /// Counts a wrong key; whether its address is still below the rate.
    pub(super) fn take(&mut self, address: Option<IpAddr>, rate: Rate, now: Instant) -> bool {
        let address = address.map(address::group);
        if !self.by_address.contains_key(&address) {
            if self.order.len() >= API_ADDRESSES_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_address.remove(&oldest);
            }
            self.order.push_back(address);
        }
        let bucket = self.by_address.entry(address);
        bucket
            .or_insert_with(|| Bucket::new(rate, now))
            .take(now, 1)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn address(number: u32) -> Option<IpAddr> {
        Some(Ipv4Addr::from_bits(number).into())
    }

    #[test]
    fn an_address_is_told_of_a_burst_and_then_of_so_many_a_second() {
        let (rate, mut wrong) = (Rate::new(2, 3), WrongKeys::default());
        let at = |millis| Instant::from_start(Duration::from_millis(millis));
        for _ in 0..3 {
            assert!(wrong.take(address(1), rate, at(0)));
        }
        assert!(!wrong.take(address(1), rate, at(0)));
        assert!(wrong.take(address(2), rate, at(0)), "another address");
        assert!(wrong.take(None, rate, at(0)), "no address");
        assert!(wrong.take(address(1), rate, at(500)));
        assert!(!wrong.take(address(1), rate, at(500)));
    }

    #[test]
    fn many_addresses_take_no_more_memory_than_the_bound() {
        let (rate, mut wrong) = (Rate::new(1, 1), WrongKeys::default());
        let most = u32::try_from(API_ADDRESSES_MAX).expect("a small number");
        for number in 0..3 * most {
            assert!(wrong.take(address(number), rate, Instant::ZERO));
        }
        assert_eq!(wrong.by_address.len(), API_ADDRESSES_MAX);
        assert_eq!(wrong.order.len(), API_ADDRESSES_MAX);
        let last = address(3 * most - 1);
        assert!(!wrong.take(last, rate, Instant::ZERO), "it is known");
    }
}
