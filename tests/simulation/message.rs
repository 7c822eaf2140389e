//! Messages that tell who they are: every byte follows from the number and the length.

use ringpost::store::sim::Random;

/// Bytes in front of the filling; no message is shorter.
const HEADER_BYTES: usize = 32;
/// So many bytes of a message tell its number.
pub const NUMBER_BYTES: usize = 15;

/// The content of message `id`, `length` bytes or its header alone if that is longer.
pub fn content(id: u64, length: usize) -> Vec<u8> {
    let length = length.max(HEADER_BYTES);
    let mut bytes = format!("id={id:012} len={length:010}\r\n").into_bytes();
    assert_eq!(bytes.len(), HEADER_BYTES);
    bytes.reserve(length + 8);
    let mut random = Random::new(id);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.bits().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The number of the message that begins so.
pub fn number(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.get(3..NUMBER_BYTES)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The number of the message whose content this is, if it is one, whole and unchanged.
pub fn identify(bytes: &[u8]) -> Result<u64, String> {
    let header = bytes
        .get(..HEADER_BYTES)
        .ok_or_else(|| format!("{} bytes are too few for a message", bytes.len()))?;
    let id = number(header).ok_or_else(|| {
        let text = String::from_utf8_lossy(header);
        format!("no message begins with {text:?}")
    })?;
    let expected = content(id, bytes.len());
    match bytes.iter().zip(&expected).position(|(a, b)| a != b) {
        None => Ok(id),
        Some(offset) => Err(format!("message {id} differs at byte {offset}")),
    }
}
