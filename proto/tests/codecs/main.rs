//! Golden vectors and properties of the codecs. Golden bytes were worked out by hand from the protocols' descriptions, or
//! by programs other than this crate; a change that breaks one breaks every peer.

mod bookkeeper_golden;
mod bookkeeper_properties;
mod bytes_in_pieces;
mod pulsar_golden;
mod pulsar_properties;
mod strategies;

/// Bytes from hex digits; white space is for the reader.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}
