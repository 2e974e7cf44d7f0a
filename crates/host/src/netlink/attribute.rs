//! Netlink attributes: type, length, value, padded to four bytes, nested at will.
//!
//! Reading is total: any bytes give attributes or an error, never a panic, never a read behind the end. The reader knows
//! no attribute's meaning; the modules beside it pick the few that they need and ignore the rest, so that a newer kernel
//! with a new or longer attribute is no error.

use super::Malformed;

/// Marks an attribute as a list of attributes (NLA_F_NESTED); newer families insist on it.
const NESTED: u16 = 0x8000;
/// The type without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const TYPE_MASK: u16 = 0x3fff;
const HEADER: usize = 4;

/// `length` rounded up to the four bytes at which netlink aligns.
pub(crate) fn padded(length: usize) -> usize {
    length.div_ceil(4).saturating_mul(4)
}

/// One attribute as it lies in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    pub kind: u16,
    pub value: &'a [u8],
}

/// All attributes of a message or of a nest, in their order.
pub fn read(bytes: &[u8]) -> Result<Vec<Attribute<'_>>, Malformed> {
    let mut rest = bytes;
    let mut found = Vec::new();
    // Fewer bytes than a header at the end are padding: the kernel's own parser ignores them too.
    while rest.len() >= HEADER {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]) & TYPE_MASK;
        let value = rest.get(HEADER..length).ok_or_else(|| {
            Malformed(format!("attribute {kind} says {length} bytes, {} are left", rest.len()))
        })?;
        found.push(Attribute { kind, value });
        rest = rest.get(padded(length)..).unwrap_or_default();
    }
    Ok(found)
}

impl<'a> Attribute<'a> {
    pub fn nested(&self) -> Result<Vec<Attribute<'a>>, Malformed> {
        read(self.value)
    }

    pub fn u8(&self) -> Result<u8, Malformed> {
        Ok(self.first::<1>()?[0])
    }

    pub fn u16(&self) -> Result<u16, Malformed> {
        Ok(u16::from_ne_bytes(self.first()?))
    }

    pub fn u32(&self) -> Result<u32, Malformed> {
        Ok(u32::from_ne_bytes(self.first()?))
    }

    pub fn u64(&self) -> Result<u64, Malformed> {
        Ok(u64::from_ne_bytes(self.first()?))
    }

    /// A C string: up to the first NUL, or all of it; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        let end = self.value.iter().position(|byte| *byte == 0).unwrap_or(self.value.len());
        String::from_utf8_lossy(&self.value[..end]).into_owned()
    }

    /// The field of `N` bytes at `offset` of a C struct.
    pub fn field<const N: usize>(&self, offset: usize) -> Result<[u8; N], Malformed> {
        let bytes = offset.checked_add(N).and_then(|end| self.value.get(offset..end));
        bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
            Malformed(format!(
                "attribute {} has {} bytes, {N} at {offset} are needed",
                self.kind,
                self.value.len()
            ))
        })
    }

    /// A 32-bit field of a C struct.
    pub fn word(&self, offset: usize) -> Result<u32, Malformed> {
        Ok(u32::from_ne_bytes(self.field(offset)?))
    }

    fn first<const N: usize>(&self) -> Result<[u8; N], Malformed> {
        self.field(0)
    }
}

/// Puts attributes one after the other.
#[derive(Debug, Default, Clone)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes as they are. Our values are names and small structs; one that does not fit a length of 16 bits is cut.
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let value = &value[..value.len().min(usize::from(u16::MAX) - HEADER)];
        let length = u16::try_from(HEADER + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(padded(self.bytes.len()), 0);
        self
    }

    pub fn u8(self, kind: u16, value: u8) -> Self {
        self.bytes(kind, &[value])
    }

    pub fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A C string with its NUL.
    pub fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// A C struct of 32-bit fields.
    pub fn words(self, kind: u16, fields: &[u32]) -> Self {
        let bytes: Vec<u8> = fields.iter().flat_map(|field| field.to_ne_bytes()).collect();
        self.bytes(kind, &bytes)
    }

    /// A list of attributes under one.
    pub fn nest(self, kind: u16, inner: Self) -> Self {
        self.bytes(kind | NESTED, &inner.bytes)
    }

    /// The attribute, where there is a value.
    pub fn maybe<T>(self, value: Option<T>, put: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            Some(value) => put(self, value),
            None => self,
        }
    }

    pub fn done(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_padded_and_a_nest_is_marked() {
        let written = Writer::new().nest(22, Writer::new().text(3, "eth0").u8(1, 7)).done();
        assert_eq!(
            written,
            [
                24, 0, 22, 0x80, // the nest: 4 + 12 + 8 bytes
                9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0, // 9 bytes, padded to 12
                5, 0, 1, 0, 7, 0, 0, 0,
            ]
        );
    }

    #[test]
    fn a_length_beyond_the_end_is_refused_by_attribute() {
        let error = read(&[40, 0, 3, 0, 1, 2, 3, 4]).unwrap_err();
        assert_eq!(error.to_string(), "attribute 3 says 40 bytes, 8 are left");
    }

    #[test]
    fn a_length_shorter_than_its_own_header_is_refused() {
        let error = read(&[3, 0, 9, 0]).unwrap_err();
        assert_eq!(error.to_string(), "attribute 9 says 3 bytes, 4 are left");
    }

    #[test]
    fn a_short_value_is_refused_by_attribute() {
        let bytes = [6, 0, 4, 0, 1, 2, 0, 0];
        let found = read(&bytes).unwrap();
        let error = found[0].u32().unwrap_err();
        assert_eq!(error.to_string(), "attribute 4 has 2 bytes, 4 at 0 are needed");
    }

    proptest! {
        #[test]
        fn any_bytes_give_attributes_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(found) = read(&bytes) {
                for attribute in found {
                    let _ = (attribute.nested(), attribute.u8(), attribute.u64(), attribute.text());
                    let _ = (attribute.word(usize::MAX), attribute.word(3));
                }
            }
        }

        #[test]
        fn what_was_written_is_read(values in proptest::collection::vec((0u16..0x4000, proptest::collection::vec(any::<u8>(), 0..40)), 0..8)) {
            let written = values.iter().fold(Writer::new(), |w, (kind, value)| w.bytes(*kind, value)).done();
            let found: Vec<_> = read(&written).unwrap().iter().map(|a| (a.kind, a.value.to_vec())).collect();
            prop_assert_eq!(found, values);
        }
    }
}
