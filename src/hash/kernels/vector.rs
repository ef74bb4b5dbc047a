//! SHA-1 of as many streams as a vector register has words, in terms of a few vector operations that the including module has.

/// Some of the 80 steps (FIPS 180-4, 6.1.2) on the words `w` and the working variables.
macro_rules! sha1_steps {
    (($w:ident $a:ident $b:ident $c:ident $d:ident $e:ident) $constant:literal, $function:ident: $($step:literal)*) => {$(
        if $step >= 16 {
            let schedule = [$w[($step + 13) & 15], $w[($step + 8) & 15], $w[($step + 2) & 15], $w[$step & 15]];
            $w[$step & 15] = rotate_left_1(xor4(schedule));
        }
        let term = add($e, add($w[$step & 15], splat($constant)));
        let next = add(add(rotate_left_5($a), $function($b, $c, $d)), term);
        $e = $d;
        $d = $c;
        $c = rotate_left_30($b);
        $b = $a;
        $a = next;
    )*};
}

/// Defines a function for 20 of the steps. Compilers inline it, as it is called once; without optimisation it keeps the frame of
/// `compress` small enough for the threads of peers.
macro_rules! twenty_steps {
    ($name:ident, $features:literal, $vector:ty, $constant:literal, $function:ident: $($step:literal)*) => {
        #[inline]
        #[target_feature(enable = $features)]
        #[allow(clippy::many_single_char_names)] // FIPS 180-4 calls them so.
        fn $name(w: &mut [$vector; 16], [mut a, mut b, mut c, mut d, mut e]: [$vector; 5]) -> [$vector; 5] {
            sha1_steps!((w a b c d e) $constant, $function: $($step)*);
            [a, b, c, d, e]
        }
    };
}

/// Defines `compress`, which hashes the blocks of `$lanes` streams into their states. All have the same number of blocks.
macro_rules! sha1_lanes {
    ($features:literal, $lanes:literal, $vector:ty) => {
        #[target_feature(enable = $features)]
        pub(super) fn compress(states: &mut [[u32; 5]; $lanes], blocks: [&[[u8; 64]]; $lanes]) {
            let count = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
            let mut sums: [$vector; 5] =
                std::array::from_fn(|word| from_words(std::array::from_fn(|lane| states[lane][word])));
            for number in 0..count {
                let mut w = from_blocks(std::array::from_fn(|lane| &blocks[lane][number]));
                let mut state = steps_0_to_19(&mut w, sums);
                state = steps_20_to_39(&mut w, state);
                state = steps_40_to_59(&mut w, state);
                let [a, b, c, d, e] = steps_60_to_79(&mut w, state);
                sums = [add(sums[0], a), add(sums[1], b), add(sums[2], c), add(sums[3], d), add(sums[4], e)];
            }
            for (word, sum) in sums.into_iter().enumerate() {
                for (state, value) in states.iter_mut().zip(to_words(sum)) {
                    state[word] = value;
                }
            }
        }

        twenty_steps!(steps_0_to_19, $features, $vector, 0x5a82_7999, choose:
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19);
        twenty_steps!(steps_20_to_39, $features, $vector, 0x6ed9_eba1, xor3:
            20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39);
        twenty_steps!(steps_40_to_59, $features, $vector, 0x8f1b_bcdc, majority:
            40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59);
        twenty_steps!(steps_60_to_79, $features, $vector, 0xca62_c1d6, xor3:
            60 61 62 63 64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79);
    };
}

pub(super) use {sha1_lanes, sha1_steps, twenty_steps};
