//! Stands for a job's id in the audit: 64 bits that nobody turns back into the id without the key.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// Makes the hash of an id.
#[derive(Clone)]
pub struct IdHasher(Hmac<Sha256>);

impl fmt::Debug for IdHasher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("IdHasher")
    }
}

impl IdHasher {
    /// Creates a hasher with a key.
    pub fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of every length"))
    }

    /// Returns the first 64 bits of HMAC-SHA256 over the kind, a zero byte and the id.
    pub fn hash(&self, kind: &str, id: &str) -> u64 {
        let mut hmac = self.0.clone();
        hmac.update(kind.as_bytes());
        hmac.update(&[0]);
        hmac.update(id.as_bytes());
        let digest = hmac.finalize().into_bytes();
        let first = digest.first_chunk().expect("SHA-256 has 32 bytes");
        u64::from_be_bytes(*first)
    }
}

/// Writes sorted hashes one after the other, so that [`holds`] can search them.
pub(super) fn blob(sorted: &[u64]) -> Vec<u8> {
    debug_assert!(sorted.is_sorted(), "a search needs an order");
    sorted.iter().flat_map(|hash| hash.to_be_bytes()).collect()
}

/// Whether a blob holds a hash.
pub(super) fn holds(blob: &[u8], hash: u64) -> bool {
    let (hashes, _) = blob.as_chunks::<8>();
    // Big-endian numbers are ordered as their bytes are.
    hashes.binary_search(&hash.to_be_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_hashes_the_same_everywhere_and_differently_by_kind_and_key() {
        let hasher = IdHasher::new(b"key");
        // printf 'event.track\0order-1' | openssl dgst -sha256 -hmac key
        assert_eq!(hasher.hash("event.track", "order-1"), 0x3df1_e873_c6b9_084f);
        let others = [
            hasher.hash("order.placed", "order-1"),
            IdHasher::new(b"other").hash("event.track", "order-1"),
        ];
        assert!(!others.contains(&hasher.hash("event.track", "order-1")));
    }

    #[test]
    fn a_blob_holds_what_was_put_in_and_nothing_else() {
        let mut hashes: Vec<u64> = (0..1_000)
            .map(|n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15))
            .collect();
        hashes.sort_unstable();
        let blob = blob(&hashes);
        assert!(hashes.iter().all(|hash| holds(&blob, *hash)));
        assert!(!holds(&blob, 1) && !holds(&[], 1));
    }
}
