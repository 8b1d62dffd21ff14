//! Who we are by a key: NATS' nkeys, and files of credentials, which have a token and a key. A key is
//! text in base32 (RFC 4648, without padding): what it is, 32 bytes, and a checksum (CRC-16/XMODEM).
//! What is signed, with Ed25519, is the driver's to do.

/// The alphabet of base32.
const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// The first byte of a seed, and of the public key of a user, each in its upper five bits.
const SEED: u8 = 18 << 3;
const USER: u8 = 20 << 3;

/// The secret of a user's seed; nothing: it is none.
pub fn seed(text: &str) -> Option<[u8; 32]> {
    let bytes = decode(text)?;
    let (body, sum) = bytes.split_last_chunk::<2>()?;
    // The kind of the key lies across the first two bytes.
    let [first, second, secret @ ..] = body else { return None };
    let kind = (first & 7) << 5 | (second & 0xf8) >> 3;
    let is_users = first & 0xf8 == SEED && kind == USER;
    (is_users && crc(body) == u16::from_le_bytes(*sum)).then(|| secret.try_into().ok()).flatten()
}

/// A user's public key as text.
pub fn public(key: &[u8; 32]) -> String {
    let mut bytes = vec![USER];
    bytes.extend(key);
    bytes.extend(crc(&bytes).to_le_bytes());
    encode(&bytes)
}

/// The token and the seed in a file of credentials: each between a line that begins with dashes and
/// says what it is, and one that ends it.
pub fn credentials(text: &str) -> Option<(&str, &str)> {
    let part = |name: &str| {
        let mut lines = text.lines().skip_while(|line| {
            !(line.starts_with("---") && line.contains("BEGIN") && line.contains(name))
        });
        lines.nth(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('-'))
    };
    Some((part("JWT")?, part("SEED")?))
}

fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                crc << 1 ^ 0x1021
            }
        })
    })
}

fn encode(bytes: &[u8]) -> String {
    let (mut out, mut word, mut bits) = (String::new(), 0u32, 0);
    for &byte in bytes {
        (word, bits) = (word << 8 | u32::from(byte), bits + 8);
        while bits >= 5 {
            bits -= 5;
            out.push(DIGITS[(word >> bits & 31) as usize].into());
        }
    }
    if bits > 0 {
        out.push(DIGITS[(word << (5 - bits) & 31) as usize].into());
    }
    out
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut word, mut bits) = (Vec::new(), 0u32, 0);
    for byte in text.bytes() {
        let digit = DIGITS.iter().position(|&digit| digit == byte)?;
        (word, bits) = (word << 5 | digit as u32, bits + 5);
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_it_was() {
        for len in 0..40 {
            let bytes: Vec<u8> = (0..len).map(|n: u8| n.wrapping_mul(37)).collect();
            assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
        // RFC 4648 10.
        assert_eq!(encode(b"foobar"), "MZXW6YTBOI");
        assert_eq!(decode("a"), None);
        assert_eq!(crc(b"123456789"), 0x31c3);
    }

    #[test]
    fn a_seed_is_known_by_its_kind_and_sum() {
        let text = |first: u8, second: u8, secret: [u8; 32]| {
            let mut bytes = vec![first, second];
            bytes.extend(secret);
            bytes.extend(crc(&bytes).to_le_bytes());
            encode(&bytes)
        };
        let of_user = text(SEED | USER >> 5, USER << 3, [9; 32]);
        assert!(of_user.starts_with("SU"));
        assert_eq!(seed(&of_user), Some([9; 32]));
        assert!(public(&[9; 32]).starts_with('U'));
        let mut wrong = of_user.clone().into_bytes();
        wrong[20] = if wrong[20] == b'A' { b'B' } else { b'A' };
        let of_account = text(SEED, 0, [9; 32]);
        for bad in
            [&of_user[1..], &of_user[..20], "", std::str::from_utf8(&wrong).unwrap(), &of_account]
        {
            assert_eq!(seed(bad), None, "{bad}");
        }
    }

    #[test]
    fn credentials_are_found_between_their_lines() {
        let file =
            "-----BEGIN NATS USER JWT-----\neyJ0\n------END NATS USER JWT------\n\n**** note\n\n\
            -----BEGIN USER NKEY SEED-----\nSUAX\n------END USER NKEY SEED------\n";
        assert_eq!(credentials(file), Some(("eyJ0", "SUAX")));
        for bad in ["", "eyJ0", "-----BEGIN NATS USER JWT-----\n-----\n"] {
            assert_eq!(credentials(bad), None);
        }
    }
}
