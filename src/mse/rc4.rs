//! RC4, the stream cipher of message stream encryption. It hides the protocol from networks that throttle it and provides no
//! other protection: RC4 has long been broken, and here its output only has to look random.

/// Keystream bytes that are discarded before the first use.
const DISCARDED: usize = 1024;

/// The keystream of one direction and the position in it.
#[derive(Clone)]
pub struct Rc4 {
    state: [u8; 256],
    i: u8,
    j: u8,
}

impl Rc4 {
    /// Starts the keystream of `key`. An empty key counts as a single zero.
    pub fn new(key: &[u8]) -> Rc4 {
        let mut state = [0; 256];
        for (n, byte) in (0..=255).zip(&mut state) {
            *byte = n;
        }
        let key = if key.is_empty() { &[0] } else { key };
        let mut j = 0u8;
        for (i, k) in (0..256).zip(key.iter().cycle()) {
            j = j.wrapping_add(state[i]).wrapping_add(*k);
            state.swap(i, usize::from(j));
        }
        Rc4 { state, i: 0, j: 0 }
    }

    /// Starts the keystream as MSE uses it, without its first 1024 bytes.
    pub fn discarding(key: &[u8]) -> Rc4 {
        let mut cipher = Rc4::new(key);
        cipher.apply(&mut [0; DISCARDED]);
        cipher
    }

    /// Skips this many bytes of the keystream.
    #[must_use]
    pub fn after(mut self, mut bytes: usize) -> Rc4 {
        while bytes > 0 {
            let n = bytes.min(DISCARDED);
            self.apply(&mut [0; DISCARDED][..n]);
            bytes -= n;
        }
        self
    }

    /// Encrypts or decrypts in place; both are the same operation.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        let (mut i, mut j) = (self.i, self.j);
        for byte in bytes {
            i = i.wrapping_add(1);
            let a = self.state[usize::from(i)];
            j = j.wrapping_add(a);
            let b = self.state[usize::from(j)];
            self.state[usize::from(i)] = b;
            self.state[usize::from(j)] = a;
            *byte ^= self.state[usize::from(a.wrapping_add(b))];
        }
        (self.i, self.j) = (i, j);
    }
}

impl std::fmt::Debug for Rc4 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rc4") // the state is the key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::hex::hex;

    /// Returns sixteen bytes of keystream at `offset`.
    fn keystream(key: &[u8], offset: usize) -> String {
        let mut bytes = vec![0; offset + 16];
        Rc4::new(key).apply(&mut bytes);
        hex(&bytes[offset..])
    }

    #[test]
    fn the_keystream_is_that_of_rfc_6229() {
        let (short, long) = ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        assert_eq!(keystream(&short, 0), "b2396305f03dc027ccc3524a0a1118a8");
        assert_eq!(keystream(&short, 1024), "30abbcc7c20b01609f23ee2d5f6bb7df");
        assert_eq!(keystream(&short, 4096), "ff25b58995996707e51fbdf08b34d875");
        assert_eq!(keystream(&long, 0), "9ac7cc9a609d1ef7b2932899cde41b97");
        assert_eq!(keystream(&long, 1024), "bdf0324e6083dcc6d3cedd3ca8c53c16");
        assert_eq!(keystream(&long, 4096), "a36a4c301ae8ac13610ccbc12256cacc");
    }

    #[test]
    fn discarding_begins_at_1024_and_pieces_make_the_same_stream_as_the_whole() {
        let mut cipher = Rc4::discarding(&[1, 2, 3, 4, 5]);
        let mut bytes = [0; 16];
        for part in bytes.chunks_mut(3) {
            cipher.apply(part);
        }
        assert_eq!(hex(&bytes), "30abbcc7c20b01609f23ee2d5f6bb7df");
    }

    #[test]
    fn a_cipher_can_be_moved_on() {
        let mut all = [0; 3000];
        Rc4::new(b"key").apply(&mut all);
        for skipped in [0, 1, DISCARDED, 2500] {
            let mut rest = vec![0; 3000 - skipped];
            Rc4::new(b"key").after(skipped).apply(&mut rest);
            assert_eq!(rest, all[skipped..]);
        }
    }
}
