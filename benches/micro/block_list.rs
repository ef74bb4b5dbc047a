//! A block list of 500,000 ranges: reading it, and looking addresses up.

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::Ipv4Addr;

use btsync::net::block_list::read::read;
use divan::Bencher;

const RANGES: u32 = 500_000;

/// A list in P2P form, in random order.
fn list() -> String {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut numbers: Vec<u32> = (0..RANGES).collect();
    rng.shuffle(&mut numbers);
    let mut text = String::new();
    for number in numbers {
        let (first, last) = (Ipv4Addr::from_bits(number * 8000), Ipv4Addr::from_bits(number * 8000 + rng.u32(..4000)));
        writeln!(text, "Organisation {number}, Somewhere:{first}-{last}").expect("memory");
    }
    text
}

#[divan::bench]
fn read_block_list(bencher: Bencher) {
    let text = list();
    bencher.bench(|| read(black_box(text.as_bytes())).expect("a list"));
}

#[divan::bench]
fn look_up_in_block_list(bencher: Bencher) {
    let list = read(list().as_bytes()).expect("a list");
    let mut rng = fastrand::Rng::with_seed(2);
    bencher
        .with_inputs(|| Ipv4Addr::from_bits(rng.u32(..)).into())
        .bench_local_values(|ip| list.ranges.contains(black_box(ip)));
}
